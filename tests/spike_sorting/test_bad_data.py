"""Recordings that cannot be sorted, or hardly: each leaves a report and costs nothing but itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signals import recording_of
from support import FAKE_SORTER, sort_in_subprocess

from spikelab.cli.outcomes import remark_lines
from spikelab.simulation import simulate_recording
from spikelab.spike_sorting import RecordingResult, load_results
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import plan

pytestmark = pytest.mark.timeout(300)
SECONDS = 26


def simulated(seconds: float, n_channels: int = 8) -> Any:
    traces = simulate_recording("linear", n_channels=n_channels, duration_s=seconds, n_units=5, rate_Hz=(6, 9), seed=2)
    return traces.recording.get_traces()


def with_silence(traces: np.ndarray) -> np.ndarray:
    """Pull the cable for 12 s; what remains is a little noise of the amplifier."""
    n = len(traces)
    quiet = np.random.default_rng(0).normal(0, 40, (12 * 20_000, traces.shape[1])).astype(traces.dtype)
    return np.concatenate([traces[: n // 4], quiet, traces[n // 4 + len(quiet) :]])


def some_nan(traces: np.ndarray) -> np.ndarray:
    samples = traces.astype("float32")
    samples[7_777:7_780, 2] = np.nan
    samples[500, :] = np.inf
    return samples


def signals() -> dict[str, np.ndarray]:
    whole, short = simulated(SECONDS), simulated(4)
    return {
        "healthy": whole,
        "1 s": short[:20_000],
        "3 s": short[:60_000],
        "flat": np.zeros_like(short),
        "saturated": np.where(short > 0, 32_767, -32_768).astype("int16"),
        "no numbers": np.full(short.shape, np.nan, "float32"),
        "some NaN": some_nan(whole),
        "wrong channels": whole.ravel()[: whole.size // 9 * 9].reshape(-1, 9),
        "silent for a while": with_silence(whole),
        "healthy as well": short,
    }


EXPECTED = {
    "healthy": "success",
    "1 s": "success",
    "3 s": "success",
    "flat": "no_good_channels",
    "saturated": "saturated_signal",
    "no numbers": "no_good_channels",
    "some NaN": "success",
    "wrong channels": "recording_unreadable",
    "silent for a while": "success",
    "healthy as well": "success",
}


@dataclass(frozen=True)
class Batch:
    """Recordings, what came of them, and what their files were before."""

    folder: Path
    records: Mapping[str, RecordingResult]
    before: str


def digest(folder: Path) -> str:
    """Return what tells the content of all recordings from any other."""
    files = sorted(path for name in EXPECTED for path in (folder / name).rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """One call with all of them, by the sorter that takes milliseconds."""
    folder = tmp_path_factory.mktemp("bad")
    for name, traces in signals().items():
        recording = recording_of(traces, gain_uV=0.195)
        recording.save(folder=folder / name, n_jobs=1, verbose=False, progress_bar=False)
    before = digest(folder)
    said = sort_in_subprocess(
        [str(folder / name) for name in EXPECTED], sorter="fake", runner="inline", on_error="continue", n_jobs=1,
        snr_min=None, spikes_min_first=1, spikes_min_second=1, isi_viol_max=None, std_norm_max=None, fr_min=None,
    )  # fmt: skip
    records = [RecordingResult.from_dict(record) for record in said["report"]["records"]]
    return Batch(folder, {record.rec_name: record for record in records}, before)


def codes(record: RecordingResult) -> set[str]:
    return {one.code for one in record.warnings}


def test_each_ends_as_what_it_is(batch: Batch) -> None:
    """Short recordings are sorted; what has no signal ends with a classified error, and nothing else does."""
    assert {name: record.status for name, record in batch.records.items()} == EXPECTED
    assert all(record.advice for record in batch.records.values() if not record.succeeded)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_leaves_a_report_and_its_source(batch: Batch, name: str) -> None:
    """Record, note and page are there, whatever came of the recording."""
    results = Path(batch.records[name].results_folder)
    assert json.loads((results / "recording_report.json").read_text())["status"] == EXPECTED[name]
    verdict = "Sorted" if EXPECTED[name] == "success" else "Failed in stage load"
    for page in ("sorting_report.md", "sorting_report.html"):
        assert verdict in (results / page).read_text()
    if EXPECTED[name] == "success":
        assert load_results(results).length > 0


def test_nothing_is_lost(batch: Batch) -> None:
    """Not a byte of a recording has changed."""
    assert digest(batch.folder) == batch.before


def test_what_is_odd_is_told(batch: Batch) -> None:
    """Short recordings and single NaN are told; of a healthy one only what this sorter does: units for each channel."""
    assert codes(batch.records["1 s"]) == codes(batch.records["3 s"]) == {"recording-short"}
    assert codes(batch.records["some NaN"]) == {"samples-not-finite"}
    assert batch.records["healthy"].warnings == ()
    assert {one.code for one in batch.records["healthy"].suspicions} <= {"alike"}


def test_a_few_nan_cost_hardly_a_spike(batch: Batch) -> None:
    """The recording with single NaN has the units and the spikes of the one without."""
    with_nan, without = batch.records["some NaN"], batch.records["healthy"]
    assert with_nan.n_units == without.n_units
    assert abs((with_nan.n_spikes or 0) - (without.n_spikes or 0)) <= 8


def test_a_suspicion_is_told_everywhere(batch: Batch) -> None:
    """What came out oddly stands in the record, in note and page, and in what the command line says."""
    record = batch.records["silent for a while"]
    (found,) = (one for one in record.suspicions if one.code == "silent-stretch")
    assert "no unit fires from 6." in found.message
    results = Path(record.results_folder)
    note, page = ((results / name).read_text() for name in ("sorting_report.md", "sorting_report.html"))
    assert "## Look at this" in note
    assert "silent-stretch" in note
    assert "<code>silent-stretch</code>" in page
    assert "look at this: No unit fires from 6." in "".join(map(str, remark_lines(record)))
    healthy = Path(batch.records["healthy"].results_folder) / "sorting_report.md"
    assert "silent-stretch" not in healthy.read_text()


# ----------------------------------------------------------------------------------------------------- lists


def config(monkeypatch: pytest.MonkeyPatch) -> SortingPipelineConfig:
    monkeypatch.syspath_prepend(str(FAKE_SORTER))
    return SortingPipelineConfig.preset("fake")


def test_lists_may_mix_what_they_hold(batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, recordings and nested lists stand side by side, each one job, in order."""
    recording = recording_of(simulated(1))
    paths = [str(batch.folder / "1 s"), batch.folder / "3 s"]
    folders = [tmp_path / str(number) for number in range(3)]
    jobs = plan([paths[0], recording, paths], config(monkeypatch), results_folders=folders)
    assert [job.name for job in jobs] == ["1 s", "recording", "1 s_and_1_more"]
    assert [job.n_results for job in jobs] == [1, 1, 2]


def test_a_recording_stands_in_a_list_once(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that is named twice, in whatever way, is refused before anything runs, with both names."""
    path = batch.folder / "1 s"
    for twice in (path, str(path), batch.folder / ".." / batch.folder.name / "1 s"):
        with pytest.raises(ValueError, match=r"1 s and .*1 s would share the folder"):
            plan([path, twice], config(monkeypatch))


def test_results_of_another_recording_are_not_overwritten(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results folder of one recording is refused for another; both are named."""
    taken = batch.records["healthy"].results_folder
    with pytest.raises(ValueError, match=r"holds the results of .*healthy, not of .*3 s"):
        plan([batch.folder / "3 s"], config(monkeypatch), results_folders=[taken])
