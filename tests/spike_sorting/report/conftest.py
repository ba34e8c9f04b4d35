"""A finished run, built by hand: ten units on a grid of 4 x 4 contacts, of which curation keeps some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikelab.curation import chain_histories
from spikelab.spike_sorting.backends.overview import Overview, write_overview
from spikelab.spike_sorting.config import KILOSORT4, SortingPipelineConfig
from spikelab.spike_sorting.outcome import Attempt, RecordingResult
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spikedata import SpikeData

FS_HZ = 20_000.0
DURATION_S = 60.0
WARNINGS = (
    Remark("channels-flat", "1 channel is left out: 5", "Set bad_channels to decide yourself."),
    Remark("sorter-advice", "duplicate_spike_ms is 0.6 ms"),
)
CONFIG = KILOSORT4.override(snr_min=4.0, kilosort_params={"Th_learned": 7})


def make_units(n_units: int = 10, **odd: Any) -> SpikeData:
    """Return units as the stage assemble leaves them; `odd` replaces attributes of unit 0."""
    rng = np.random.default_rng(1)
    contacts = np.array([[17.5 * (i % 4), 17.5 * (i // 4)] for i in range(16)])
    trains, attributes = [], []
    for unit in range(n_units):
        n_spikes = [20, 40][unit] if unit < 2 else 60 * unit
        trains.append(np.sort(rng.uniform(0, DURATION_S * 1000, n_spikes)))
        attributes.append(_attributes(unit, n_spikes, contacts, rng))
    if attributes:
        attributes[0] |= odd
    metadata = {
        "sorter": "kilosort4",
        "fs_Hz": FS_HZ,
        "channel_ids": [str(i) for i in range(16)],
        "channel_locations": contacts,
        "config_digest": "abc",
    }
    return SpikeData(trains, length=DURATION_S * 1000, neuron_attributes=attributes, metadata=metadata)


def _attributes(unit: int, n_spikes: int, contacts: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    channel = (3 * unit) % 16
    amplitude_uV = 30.0 + 12.0 * unit
    time = np.arange(-40, 40)
    shape = -np.exp(-(time**2) / 18) + 0.35 * np.exp(-((time - 14) ** 2) / 60)
    reach = np.exp(-np.linalg.norm(contacts - contacts[channel], axis=1) / 16)
    template = (amplitude_uV * shape[:, None] * reach).astype("float32")
    return {
        "unit_id": 100 + unit,
        "channel": channel,
        "channel_id": str(channel),
        "x": float(contacts[channel, 0]),
        "y": float(contacts[channel, 1]),
        "position": contacts[channel] + rng.normal(0, 3, 2),
        "amplitude": amplitude_uV,
        "snr": amplitude_uV / 9.0,
        "std_norm": 0.5 if unit % 4 else 1.2,
        "has_pos_peak": False,
        "peak_sample": 0,
        "template_full": template,
        "spike_amplitudes": rng.normal(-amplitude_uV, 5, n_spikes).astype("float32"),
        "ks_label": "good" if unit % 3 else "mua",
        "ks_contam_pct": 1.5 * unit,
    }


def curate(sd: SpikeData) -> tuple[SpikeData, dict[str, Any]]:
    """Return what the stage curate makes of the units."""
    stages = (
        {"min_spikes": 30, "min_rate_hz": 0.05, "isi_max": 1.0},
        {"min_spikes": 50, "min_snr": 4.0, "max_std_norm": 1.0},
    )
    histories = []
    for criteria in stages:
        kept, results = sd.curate(**criteria)
        histories.append(sd.build_curation_history(sd, kept, results, criteria))
        sd = kept
    return sd, chain_histories(*histories)


class Run:
    """A run folder with results in it."""

    def __init__(self, folder: Path, name: str = "well 0") -> None:
        self.folder = RunFolder(folder / "inter", folder / "results")
        self.name = name
        self.folder.inter.mkdir(parents=True)
        self.folder.results.mkdir()

    def add_units(self, sd: SpikeData) -> RecordingResult:
        """Leave the files of a successful sort, and return its result."""
        curated, history = curate(sd)
        curated.save(self.folder.curated)
        publish_json(self.folder.curation_history, history)
        self.folder.assembled.parent.mkdir()
        sd.save(self.folder.assembled)
        return self.success(n_units=sd.N, n_curated_units=curated.N, n_spikes=sum(map(len, curated.train)))

    def add_overview(self, n_spikes: int = 3000, n_depths: int = 0) -> Overview:
        """Leave what the sorter tells of drift and of single spikes; `n_depths` = 0 is no drift correction."""
        rng = np.random.default_rng(2)
        times_s = np.arange(1.0, DURATION_S, 2.0) if n_depths else np.empty(0)
        depths_um = np.linspace(0, 52.5, n_depths)
        walk = rng.normal(0, 1.5, len(times_s)).cumsum()
        centres_um = rng.choice([4.0, 20.0, 33.0, 49.0], n_spikes)
        overview = Overview(
            n_spikes=np.asarray(10 * n_spikes),
            time_s=np.sort(rng.uniform(0, DURATION_S, n_spikes)).astype("float32"),
            depth_um=(centres_um + rng.normal(0, 1.5, n_spikes)).astype("float32"),
            amplitude=(8 + centres_um + rng.exponential(8, n_spikes)).astype("float32"),
            drift_time_s=times_s.astype("float32"),
            drift_depth_um=depths_um.astype("float32"),
            drift_um=(walk[:, None] * (1 + depths_um / 60)).astype("float32"),
        )
        write_overview(self.folder.overview, overview)
        return overview

    def add_markers(self) -> None:
        """Leave the markers of load and sort."""
        summaries = {
            "load": {
                "n_channels": 16,
                "n_samples": int(FS_HZ * DURATION_S),
                "fs_Hz": FS_HZ,
                "duration_s": DURATION_S,
                "dtype": "int16",
            },
            "sort": {
                "sorter": "kilosort4",
                "version": "4.1.7",
                "n_units": 10,
                "n_spikes": 99,
                "direct": True,
                "accelerated": ["spikedetect.template_match", "clustering_qr.cluster"],
                "recommended": [{"name": "do_CAR", "value": False, "reason": "A spike is on most of them."}],
            },
        }
        for stage, summary in summaries.items():
            publish_json(self.folder.marker(stage), {"stage": stage, "summary": summary})

    def add_config(self, config: SortingPipelineConfig = CONFIG) -> None:
        """Leave the settings of the run."""
        used = {
            "schema": 1,
            "spikelab": "0.1.0",
            "sorter": "kilosort4",
            "sorter_version": "4.1.7",
            "python": "3.11.2",
            "packages": {"numpy": "2.4.0", "spikeinterface": "0.105.2"},
            "config": config.to_dict(),
        }
        publish_json(self.folder.config_used, used)

    def success(self, **fields: Any) -> RecordingResult:
        """Return the result of a sort that went well."""
        timings = {"load": 1.2, "sort": 150.0, "waveforms": 31.0, "assemble": 2.5, "curate": 0.4, "export": 0.1}
        result = RecordingResult(
            rec_name=self.name,
            rec_path=f"/data/{self.name}.raw.h5",
            results_folder=str(self.folder.results),
            status="success",
            wall_time_s=200.0,
            log_path=str(self.folder.log),
            stage_timings_s=timings,
            warnings=WARNINGS,
        )
        return replace(result, **fields)

    def failure(self, **fields: Any) -> RecordingResult:
        """Return the result of a sort that ran out of GPU memory."""
        described = {
            "status": "oom_gpu",
            "category": "resource",
            "advice": "Retry with a smaller batch_size or clear_cache=True, or free the GPU.",
            "error_class": "GPUOutOfMemoryError",
            "error_message": "CUDA out of memory. Tried to allocate 2.00 GiB",
            "stage": "sort",
            "retries_used": 1,
            "stage_timings_s": {},
            "attempts": (Attempt("sort", "exit 1", 61.5, "oom_gpu"), Attempt("sort", "SIGKILL", 60.0, "oom_gpu")),
            "warnings": (),
        }
        return self.success(**(described | fields))

    def texts(self) -> tuple[str, str]:
        """Return note and page as they were written."""
        paths = (self.folder.report_markdown, self.folder.report_html)
        note, page = (path.read_text(encoding="utf-8") for path in paths)
        return note, page


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a maker of run folders."""
    return lambda name="well 0", folder="run": Run(tmp_path / folder, name)


@pytest.fixture
def finished(make_run: Callable[..., Run]) -> tuple[Run, RecordingResult]:
    """Return a run that went well, and its result; nothing is reported yet."""
    run = make_run()
    run.add_markers()
    run.add_config()
    run.folder.log.write_text("2026-01-01 INFO stage sort\nRuntimeWarning: few spikes\n", encoding="utf-8")
    return run, run.add_units(make_units())


@pytest.fixture(name="make_units")
def _make_units() -> Callable[..., SpikeData]:
    """Return a maker of units as the stage assemble leaves them."""
    return make_units
