"""Estimates around a real sort: read from a recording, remembered after it, and told when it falls behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import FAKE_SORTER, check_schemas, simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting import estimate
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.forecast.history import FormerRun, former_runs, remember
from spikelab.spike_sorting.forecast.model import stage_seconds
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.preflight.facts import _probe_windows
from spikelab.spike_sorting.report.wording import time_text
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.state import run_state
from spikelab.spike_sorting.supervision.progress import ProgressFile

_SCRIPT = """
import json, sys
from spikelab.spike_sorting import SortRunReport, sort_recording
report, options = SortRunReport(), json.loads(sys.argv[2])
sort_recording(sys.argv[1], sorter="fake", out_report=report, n_jobs=1, **options)
print(json.dumps(report.to_dict()["records"][0]))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimated") / "culture.raw.h5"
    simulate_maxwell(path, duration_s=6, n_channels=8, n_units=3)
    return path


def test_a_sort_that_falls_behind_is_told_and_remembered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After former sorts of a millisecond, one that seems to need a minute is warned of; its times are remembered."""
    monkeypatch.syspath_prepend(FAKE_SORTER)
    monkeypatch.setenv("PYTHONPATH", with_fake_sorter()["PYTHONPATH"])
    (unknown,) = estimate(file, sorter="fake")
    assert (unknown.n_former_runs, unknown.workload.device, unknown.probe_s) == (0, "cpu", 6.0)
    assert 5 < unknown.workload.spikes_Hz < 100  # three units of 6 to 12 Hz
    brief = FormerRun(unknown.workload, dict.fromkeys(stage_seconds(unknown.workload), 1e-3))
    for _ in range(8):
        remember(brief, tmp_path / "cache")

    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    folders = {"intermediate_folders": [str(run.inter)], "results_folders": [str(run.results)]}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(file), json.dumps({**folders, "kilosort_params": {"behaviour": "crawl"}})],
        env=with_fake_sorter(SPIKELAB_CACHE=str(tmp_path / "cache")), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)

    assert 0 < record["estimated_s"]["likely"] < 1
    (warning,) = [one for one in record["warnings"] if one["code"] == "throughput"]
    assert "stage sort takes at least" in warning["message"]
    events = {event["event"]: event for event in run.journal.read()}
    assert events["throughput_collapsed"]["expected_s"] > 60
    assert events["estimated"]["stages_s"]["sort"] < 1
    check_schemas(run.results)
    assert "estimated before it began" in (run.results / "sorting_report.md").read_text()
    assert "estimated before it began" in time_text(RecordingResult.from_dict(record))
    assert (state := run_state(run.results)).estimated_s == record["estimated_s"]
    assert state.progress is None

    (last,) = former_runs(tmp_path / "cache")[8:]
    assert last.took_s["sort"] > 5
    assert sum(last.took_s.values()) == pytest.approx(record["wall_time_s"], abs=0.01)
    assert last.workload == replace(unknown.workload, spikes_Hz=last.workload.spikes_Hz)


def test_a_status_tells_of_the_pace(tmp_path: Path) -> None:
    """Who looks at a run that is going on reads that it has fallen behind, as long as it is at that stage."""
    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    for folder in (run.inter, run.results):
        folder.mkdir()
    run.claim({})
    run.journal.write("run_started", run_id="1", recording="a", sorter="fake")
    run.journal.write("throughput_collapsed", stage="sort", estimated_s=100.0, expected_s=420.0)
    ProgressFile(run.progress, "sort").report("detection", 0.2)
    progress = run_state(run.results).progress
    assert progress is not None
    assert progress.warning == "4.2 times as long as estimated"
    ProgressFile(run.progress, "waveforms").report("templates", 0.2)
    later = run_state(run.results).progress
    assert later is not None
    assert later.warning is None


def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """An estimate of what is no recording is refused with the file, as a sort would be."""
    (tmp_path / "broken.raw.h5").write_bytes(b"not HDF5")
    with pytest.raises(RecordingUnreadableError, match="broken"):
        estimate(tmp_path / "broken.raw.h5")


def test_the_probe_is_spread_over_all_that_is_sorted() -> None:
    """Windows of a second lie inside the stretches, evenly over them, and are all of a short recording."""
    stretches = [("one", 0, 100_000), ("two", 50_000, 350_000)]
    windows = list(_probe_windows(stretches, 1000.0, 30.0))
    assert len(windows) == 30
    lengths = {part: sum(name == part for name, _, _ in windows) for part in ("one", "two")}
    assert lengths in ({"one": 7, "two": 23}, {"one": 8, "two": 22})
    bounds = {name: (start, end) for name, start, end in stretches}
    assert all(bounds[name][0] <= start < end <= bounds[name][1] for name, start, end in windows)
    short = list(_probe_windows([("one", 200, 2700)], 1000.0, 30.0))
    assert np.sum([end - start for _, start, end in short]) == 2500
