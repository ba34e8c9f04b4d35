"""Attempts, canary and state of a run, with a sorter that misbehaves as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spikeinterface as si
from support import FAKE_SORTER, simulate_maxwell, with_fake_sorter

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting.canary import on_window
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.pipeline import run_recording
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.run_log import log_tail
from spikelab.spike_sorting.samples.crossings import crossings
from spikelab.spike_sorting.stages import load
from spikelab.spike_sorting.state import clean, run_state, status_of
from spikelab.spike_sorting.supervision.lock import LOCK_NAME

QUICK = {"create_figures": False, "generate_sorting_report": False}
_SCRIPT = """
import json, sys
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
options = json.loads(sys.argv[2])
sort_recording(sys.argv[1], sorter="fake", out_report=report, on_error="continue", n_jobs=1, preflight=False, **options)
print(json.dumps(report.to_dict()["records"][0]))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fake") / "culture.raw.h5"
    simulate_maxwell(path, duration_s=6, n_channels=8, n_units=3)
    return path


@pytest.fixture
def run(file, tmp_path):
    return RunFolder(tmp_path / "inter", tmp_path / "results")


def sort(file: Path, run: RunFolder, behaviour: str = "ok", attempts: int = 99, **options: Any) -> dict[str, Any]:
    """Sort with the fake sorter in a fresh process, and return the record."""
    params = {"behaviour": behaviour, "attempts": attempts}
    folders = {"intermediate_folders": [str(run.inter)], "results_folders": [str(run.results)]}
    options = {"kilosort_params": params, **folders, **options}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(file), json.dumps(options)],
        env=with_fake_sorter(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_out_of_memory_is_survived_with_smaller_settings(file, run):
    """P19: the attempt after a shortage succeeds; what changed is told, also by a later call that does the rest."""
    failed = sort(file, run, "gpu oom", attempts=2, curation_epoch=7, **QUICK)
    assert failed["stage"] == "curate"
    assert [attempt["status"] for attempt in failed["attempts"]] == [
        "success", "oom_gpu", "oom_gpu", "success", "failed",
    ]  # fmt: skip
    assert failed["retries_used"] == 2
    assert [warning["code"] for warning in failed["warnings"]] == ["retried-smaller"] * 2
    assert ["batch_size = 4" in warning["message"] for warning in failed["warnings"]] == [True, False]
    record = sort(file, run, "gpu oom", attempts=2, **QUICK)
    assert (record["status"], [attempt["phase"] for attempt in record["attempts"]]) == ("success", ["finish"])
    assert record["warnings"] == failed["warnings"]
    assert json.loads(run.report_json.read_text())["sorter"]["changed"] == {"batch_size": 2}
    assert sort(file, run, "gpu oom", attempts=2, **QUICK)["attempts"] == []


def test_a_shortage_that_does_not_end_is_final(file, run):
    """P19: after oom_retry_max retries the recording fails as out of memory, with the stage in the error itself."""
    record = sort(file, run, "host oom", oom_retry_max=1)
    assert record["status"] == "oom_host_ram"
    assert [attempt["status"] for attempt in record["attempts"]] == ["success", "oom_host_ram", "oom_host_ram"]
    last = json.loads((run.inter / "attempts" / "3" / "exit.json").read_text())["classified"]["details"]
    assert (last["sorter"], last["stage"]) == ("fake", "sort")


@pytest.mark.parametrize(
    "behaviour,status,exit_name",
    [("exit 0", "sorter_crashed", "exit 0"), ("kill", "sorter_crashed", "SIGKILL"), ("unknown", "failed", "exit 1")],
)
def test_each_death_has_a_name(file, run, behaviour, status, exit_name):
    """P21: a worker that ends without results is a failure by name, with its stage, its step and its log."""
    record = sort(file, run, behaviour)
    assert (record["status"], record["attempts"][-1]["exit_name"]) == (status, exit_name)
    assert record["stage"] == "sort"
    assert record["attempts"][-1]["step"] == "threshold"
    assert record["advice"] in run.report_markdown.read_text()


def test_a_hang_is_ended_with_its_stack(file, run):
    """P2, P22: a silent worker is stopped, the report has the line where it hung, the journal who decided and why."""
    record = sort(file, run, "hang", sorter_inactivity_base_s=12, sorter_inactivity_max_s=12)
    assert record["status"] == "sorter_timeout"
    assert "in _hang" in log_tail(run.log, 200)
    journal = {event["event"]: event for event in run.journal.read()}
    assert journal["stopping"]["reason"] == "inactive_s"
    assert journal["stopped"]["exit"] == "SIGABRT"
    assert status_of(run.journal.read()) == "sorter_timeout"


@pytest.mark.parametrize("of_canary", [False, True])
def test_a_container_that_is_left_is_told(file, run, tmp_path, monkeypatch, of_canary):
    """A sort that succeeded warns of a container that Docker, which has gone, could not remove, and its note stays."""
    monkeypatch.syspath_prepend(FAKE_SORTER)
    monkeypatch.setenv("PYTHONPATH", with_fake_sorter()["PYTHONPATH"])
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    left = run.container_notes[of_canary]
    params = {"behaviour": "leave container", "place": left.parent.name}
    options = {"canary_first_n_s": 2.0 * of_canary, "delete_inter": True, "n_jobs": 1, **QUICK}
    config = KILOSORT4.override(sorter_name="fake", kilosort_params=params, use_docker="an image", **options)
    (job,) = plan(file, config, intermediate_folders=run.inter, results_folders=run.results)
    record = run_recording(job).result
    assert record.status == "success"
    assert [warning.code for warning in record.warnings] == ["container-left"]
    assert [path for path in run.inter.rglob("*") if path.is_file() and path.name != LOCK_NAME] == [left]


def test_resources_are_kept(file, run):
    """The curve of memory and disk is on disk, and its peaks are in the record."""
    record = sort(file, run, "sleep")
    header, *rows = run.curve.read_text().splitlines()
    assert header.startswith("elapsed_s,host_ram_pct,")
    assert rows
    assert 0 < record["peak_host_ram_pct"] < 100
    assert record["min_disk_free_gb"] > 0


# ---------------------------------------------------------------------------------------------------- canary


def canary_events(run: RunFolder) -> list[str]:
    return [event["event"] for event in run.journal.read() if event["event"].startswith("canary")]


def test_a_failing_canary_ends_the_recording(file, run):
    """A classified failure of the first seconds is the recording's, before the whole of it is tried."""
    record = sort(file, run, "segfault", canary_first_n_s=2)
    assert record["status"] == "sorter_crashed"
    assert canary_events(run) == ["canary_started", "canary_ended"]
    assert [attempt["phase"] for attempt in record["attempts"]] == ["prepare"]


@pytest.mark.parametrize("behaviour", ["gpu oom", "unknown"])
def test_a_canary_that_says_little_does_not_stop_the_sort(file, run, behaviour):
    """Out of memory in the window, and failures that nobody knows, are remarked upon, and the sort goes on."""
    record = sort(file, run, behaviour, canary_first_n_s=2, oom_retry_max=0)
    assert record["warnings"][0]["code"] == "canary-failed"
    assert [attempt["phase"] for attempt in record["attempts"]] == ["prepare", "sort"]


@pytest.mark.parametrize("options", [{"canary_first_n_s": 60}, {"canary_first_n_s": 2, "canary_min_recording_s": 60}])
def test_short_recordings_send_no_canary(file, run, options):
    """A recording shorter than the window, or than the limit, is sorted at once."""
    assert sort(file, run, **options)["status"] == "success"
    assert canary_events(run) == []


def test_the_command_line_shows_the_canary(file, tmp_path):
    """Whoever looks on is told of the canary as a step of its recording, and of its failure."""
    folders = ("--results", tmp_path / "results", "--intermediate", tmp_path / "inter")
    wanted = ("canary_first_n_s=2", "kilosort_params.behaviour=segfault", "preflight=false", "n_jobs=1")
    options = [option for setting in wanted for option in ("--set", setting)]
    command = ["sort", file, "--sorter", "fake", *folders, *options]
    done = subprocess.run(
        [sys.executable, "-c", "from spikelab.cli import main; main()", *map(str, command)],
        env=with_fake_sorter(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "[1/1] culture.raw.h5: sort, canary" in done.stdout
    assert "failed (sorter_crashed)" in done.stdout


def test_a_silent_canary_is_sent_where_the_recording_is_busy(run, tmp_path):
    """First seconds without a spike are no failure: the busiest ones are tried, and nothing is left of either."""
    options = {"n_channels": 8, "duration_s": 6, "rate_Hz": (20, 30), "peak_uV": (150, 150), "gain_uV": 3.147}
    quiet, busy = (simulate_recording("linear", n_units=n, seed=5, **options).recording for n in (0, 3))
    joined = si.concatenate_recordings([quiet.frame_slice(0, 60_000), busy.frame_slice(60_000, 120_000)])
    file = write_maxwell(tmp_path / "late.raw.h5", joined)
    record = sort(file, run, "need spikes", canary_first_n_s=2)
    assert record["status"] == "success"
    (silent,) = (event for event in run.journal.read() if event["event"] == "canary_silent")
    assert silent["next_start_s"] > 2
    starts_s = [event["start_s"] for event in run.journal.read() if event["event"] == "canary_started"]
    assert starts_s == [0.0, silent["next_start_s"]]
    assert not (run.inter / "canary").exists()


def test_the_canary_does_nothing_again_to_what_was_loaded():
    """Its recording is cut, chosen and cleaned already: of all that loading reads, nothing but the window is left."""
    cut = {"first_n_mins": 5.0, "rec_chunks": [(0, 900)], "mea_y_max": 100.0, "bad_channels": ["3"]}
    of_whole = {**cut, "gain_to_uv": 2.0, "offset_to_uv": -9.0, "stim_times_ms": [500.0]}
    whole = KILOSORT4.override(**of_whole)
    read = set(load.settings(whole)) - {"stimulation", "rec_chunks_s", "start_time_s", "end_time_s"}
    assert read == set(of_whole), "another setting is read: the canary must leave it out, too"
    for config in (whole, KILOSORT4.override(rec_chunks_s=[(0.0, 9.0)])):
        window = {"start_time_s": 3.0, "end_time_s": 5.0, "bad_channels": None}
        assert load.settings(on_window(config, 3.0, 5.0)) == load.settings(KILOSORT4.override(**window))


def test_crossings_are_counted_per_channel():
    """A trough below five times the noise counts once, however long it lasts."""
    traces = np.random.default_rng(0).normal(0, 1, (10_000, 2)).astype(np.float32)
    before = crossings(traces)
    traces[100:110, 0] = -40
    traces[500, 1] = -40
    assert crossings(traces) == before + 2


# ------------------------------------------------------------------------------------------------- its state


def test_state_of_a_run_that_goes_on_and_of_one_that_ended(file, run):
    """Anyone can see who holds a folder and how far it is, while it runs and afterwards."""
    options = {
        "kilosort_params": {"behaviour": "sleep"},
        "intermediate_folders": [str(run.inter)],
        "results_folders": [str(run.results)],
    }
    command = [sys.executable, "-c", _SCRIPT, str(file), json.dumps(options)]
    with subprocess.Popen(command, env=with_fake_sorter(), stdout=subprocess.DEVNULL) as process:
        while not (run.results / ".spikelab.json").exists() or (state := run_state(run.results)).progress is None:
            assert process.poll() is None
            time.sleep(0.05)
        assert state.status == "running"
        assert state.holder is not None
        assert state.holder["pid"] == process.pid
    ended = run_state(run.results)
    assert (ended.status, ended.holder) == ("success", None)
    with pytest.raises(FileNotFoundError, match="sorted_<sorter>"):
        run_state(run.inter)


def test_a_run_that_was_killed_did_not_finish(file, run):
    """P23: a run without an end in its journal is unfinished, never fine."""
    sort(file, run)
    run.journal.write("run_started")
    assert run_state(run.results).status == "did not finish"


def test_clean_takes_only_what_no_result_needs(file, run):
    """After cleaning, the same call still finds everything finished."""
    sort(file, run)
    (run.inter / "waveforms.partial").mkdir()
    (run.inter / "canary").mkdir()
    gone = clean(run.results)
    assert {path.name for path in gone} >= {"waveforms.partial", "canary", "attempts"}
    assert sort(file, run)["attempts"] == []
    assert any(run.stage("waveforms").iterdir())
