"""Load: open the recording, choose channels and times, and describe the result; nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.descriptions import describe, load_description
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.joining import joined
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.samples.gaps import gaps_of, gaps_told
from spikelab.spike_sorting.selection import Epoch, epochs_of, selected_periods
from spikelab.spike_sorting.sources import open_files
from spikelab.spike_sorting.stages.channels import prepared
from spikelab.spike_sorting.stages.stage import StageRun, Summary
from spikelab.spike_sorting.stages.stimulation import VERSION as STIMULATION_VERSION
from spikelab.spike_sorting.stages.stimulation import without_artifacts

VERSION = 4

_READ_BY_OTHERS = (
    *("freq_min", "freq_max", "hdf5_plugin_path"),
    *("stream_id", "probe_path", "binary_fs", "binary_n_chan", "binary_dtype", "binary_offset"),
)
"""Settings that other stages read, or that the recording's identity has already."""


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that decide what is sorted."""
    ours = asdict(config.recording)
    for name in _READ_BY_OTHERS:
        del ours[name]
    if ours["stim_times_ms"] is None:
        del ours["stim_times_ms"]
        return thaw(ours)
    return thaw({**ours, "stimulation": {"version": STIMULATION_VERSION, **asdict(config.stimulation)}})


def run(stage: StageRun) -> Summary:
    """Write ``recording.json``: the recording to sort, and where each file lies in it."""
    import numpy as np

    recording, epochs, warnings = build_recording(stage.job, stage.folder / stage.job.run.stimulation.name)
    description = {
        "schema": 1,
        "recording": json.loads(describe(recording)),
        "epochs": [asdict(epoch) for epoch in epochs],
    }
    (stage.folder / "recording.json").write_text(json.dumps(description), encoding="utf-8")
    return {
        "n_channels": recording.get_num_channels(),
        "n_samples": recording.get_num_samples(),
        "fs_Hz": recording.sampling_frequency,
        "duration_s": recording.get_num_samples() / recording.sampling_frequency,
        "dtype": str(recording.dtype),
        "extent_um": np.ptp(recording.get_channel_locations(), axis=0)[:2].tolist(),
        "warnings": [warning.to_dict() for warning in warnings],
    }


def build_recording(job: Job, stimulation: Path | None = None) -> tuple[Any, list[Epoch], list[Remark]]:
    """Return the recording to sort, its epochs, and what deserves a look.

    What becomes of artifacts of stimulation is written to `stimulation`.
    """
    options = job.config.recording
    opened = open_files(job.source)
    parts = [_single_segment(part.recording) for part in opened]
    names = job.source.names or (job.name,)
    lengths = [part.get_num_samples() for part in parts]
    recording = joined(parts, names)
    periods = selected_periods(sum(lengths), recording.sampling_frequency, options)
    epochs = epochs_of(lengths, names, periods)
    stim_remarks: list[Remark] = []
    if options.stim_times_ms is not None:
        # Before anything is cut: times are those of the recording as it was read.
        recording, record, stim_remarks = without_artifacts(recording, job.config, periods)
        if stimulation is not None:
            stimulation.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    recording = _cut(recording, periods)
    recording, remarks = prepared(recording, options)
    of_probes = list(dict.fromkeys(told for part in opened for told in part.remarks))
    return recording, epochs, [*of_probes, *remarks, *stim_remarks, *_gaps(parts, names, periods)]


def read_recording(path: Path) -> tuple[Any, list[Epoch]]:
    """Return the recording and its epochs from ``recording.json``."""
    description = json.loads(path.read_text(encoding="utf-8"))
    epochs = [Epoch(**epoch) for epoch in description["epochs"]]
    return load_description(json.dumps(description["recording"])), epochs


# -------------------------------------------------------------------------------------------------- in time


def _single_segment(recording: Any) -> Any:
    if recording.get_num_segments() > 1:
        msg = (
            f"the recording has {recording.get_num_segments()} segments; expected one. Concatenate them first "
            "with spikeinterface.concatenate_recordings, or select one with select_segments"
        )
        raise RecordingUnreadableError(msg)
    return recording


def _cut(recording: Any, periods: Sequence[tuple[int, int]]) -> Any:
    if list(periods) == [(0, recording.get_num_samples())]:
        return recording
    cuts = [recording.frame_slice(start_frame=start, end_frame=end) for start, end in periods]
    if len(cuts) == 1:
        return cuts[0]
    import spikeinterface

    return spikeinterface.concatenate_recordings(cuts)


def _gaps(parts: Sequence[Any], names: Sequence[str], periods: Sequence[tuple[int, int]]) -> Iterator[Remark]:
    """Yield what is said of samples that were lost within what is sorted, for each file."""
    offset = 0
    for part, name in zip(parts, names, strict=False):
        gaps = [gap for gap in gaps_of(part) if any(a < offset + gap.sample < b for a, b in periods)]
        if gaps:
            told = gaps_told(gaps, part.sampling_frequency)
            yield remark("gaps", told if len(parts) == 1 else f"{name}: {told}")
        offset += part.get_num_samples()
