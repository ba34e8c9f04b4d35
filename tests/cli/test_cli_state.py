"""``spikelab status`` and ``spikelab clean``, before, during and after a sort."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import with_fake_sorter

from spikelab.cli import status
from spikelab.cli.clean import size_bytes, would_go
from spikelab.spike_sorting.state import RunState, gpu_of, run_of
from spikelab.spike_sorting.supervision.progress import Progress

SORT = ("sort", "--sorter", "fake", "--set", "n_jobs=1", "--set", "create_figures=false")


def results_of(folder: Path, name: str) -> Path:
    return folder / "sorted_fake" / name


def status_of(spikelab, folder: Path) -> list[dict]:
    result = spikelab("status", folder, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def batch(tmp_path_factory, recording, spikelab_process) -> Path:
    """A folder with a sorted recording and one that cannot be read."""
    folder = tmp_path_factory.mktemp("batch")
    shutil.copy(recording, folder / "good.raw.h5")
    (folder / "broken.raw.h5").write_bytes(b"not HDF5")
    done = spikelab_process(*SORT, "--json", "good.raw.h5", "broken.raw.h5", cwd=folder)
    assert [one["status"] for one in json.loads(done.stdout)["records"]] == ["success", "recording_unreadable"]
    return folder


@pytest.fixture
def copied(batch, tmp_path, recording, spikelab_process) -> Path:
    """Results of the sort in a folder of their own, with what a crash leaves beside them."""
    shutil.copy(recording, tmp_path / "good.raw.h5")
    for name in ("sorted_fake", "inter_fake"):
        shutil.copytree(batch / name, tmp_path / name)
    results = results_of(tmp_path, "good.raw.h5")
    card = json.loads((results / ".spikelab.json").read_text())
    inter = tmp_path / "inter_fake" / "good.raw.h5"
    (results / ".spikelab.json").write_text(json.dumps({**card, "intermediate_folder": str(inter)}))
    (inter / "sort_checkpoints").mkdir()
    (inter / "sort_checkpoints" / "features.npy").write_bytes(b"x" * 1_000_000)
    (results / ".report.7.partial.json").write_text("{")
    return tmp_path


@pytest.fixture
def running(tmp_path, recording):
    """A folder in which a recording is being sorted, by a sorter that hangs."""
    shutil.copy(recording, tmp_path / "good.raw.h5")
    hang = ("--set", 'kilosort_params={behaviour = "hang"}')
    command = [sys.executable, "-c", "from spikelab.cli import main; main()", *SORT, *hang, "good.raw.h5"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=with_fake_sorter()) as process:
        next(line for line in process.stdout if "threshold" in line)
        yield tmp_path, process
        process.terminate()
        process.stdout.read()


def test_status_tells_what_came_of_each_recording(batch, spikelab):
    """Every results folder below the given one has its status, units, end and report."""
    result = spikelab("status", batch)
    assert result.exit_code == 0
    assert "good.raw.h5: success, " in result.stdout
    assert "broken.raw.h5: failed (recording_unreadable): " in result.stdout
    assert f"report: {results_of(batch, 'good.raw.h5')}/sorting_report.html" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 results folders: 1 recording_unreadable, 1 success"


def test_status_speaks_json(batch, spikelab):
    """--json prints one list with an object for each results folder."""
    (good,) = status_of(spikelab, results_of(batch, "good.raw.h5"))
    assert (good["status"], good["holder"], good["progress"]) == ("success", None, None)
    assert good["n_curated_units"] >= 0
    assert good["started_at"] < good["ended_at"]
    assert Path(good["report"]).is_file()


def test_a_running_sort_is_seen_and_left_alone(running, spikelab):
    """Status says who sorts since when and how far, and clean refuses with 3; after a crash both say how to go on."""
    folder, process = running
    (state,) = status_of(spikelab, folder)
    assert (state["status"], state["holder"]["pid"]) == ("running", process.pid)
    assert (state["progress"]["stage"], state["progress"]["step"]) == ("sort", "threshold")
    assert f"held by process {process.pid} on " in spikelab("status", folder).stdout
    for options in ((), ("--dry-run",)):
        refused = spikelab("clean", folder, *options)
        assert refused.exit_code == 3
        assert "running, left as it is" in refused.stdout
        assert "Wait until the other run has ended" in " ".join(refused.stderr.split())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while (state := status_of(spikelab, folder)[0])["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (state["status"], state["holder"]) == ("did not finish", None)
    said = spikelab("status", folder).stdout
    assert "did not finish; it was at: sort, threshold" in said
    assert "the same command continues where it stopped" in said
    cleaned = spikelab("clean", results_of(folder, "good.raw.h5"))
    assert cleaned.exit_code == 0
    assert "This sort is not finished" in cleaned.stdout


@pytest.mark.parametrize("state, promised", [("running", True), ("did not finish", False)])
def test_time_is_promised_only_while_somebody_works(batch, spikelab, monkeypatch, state, promised):
    """What a step will still take is told of a run that goes on, and not of one that died in it."""
    progress = Progress("sort", "merging", 0.5, 10, left_s=90.0)
    monkeypatch.setattr(
        status, "run_state", lambda folder: RunState(state, None, progress, "2026-03-01T22:14:00.000+00:00")
    )
    said = " ".join(spikelab("status", results_of(batch, "good.raw.h5")).stdout.split())
    assert "sort, merging 50 %, 10 spikes so far" in said
    assert ("1 min 30 s left of this step" in said) is promised


def test_a_running_sort_names_its_gpu(batch, spikelab, monkeypatch):
    """Who looks on reads on which GPU a sort runs, as long as a worker has one."""
    events = [{"event": "worker_started", "gpu": "GPU 1"}]
    assert gpu_of(events) == "GPU 1"
    assert gpu_of([*events, {"event": "worker_ended"}, {"event": "worker_started"}]) is None
    holder = {"pid": 7, "hostname": "here", "started_at": "2026-03-01T22:14:00.000+00:00"}
    monkeypatch.setattr(status, "run_state", lambda folder: RunState("running", holder, gpu="GPU 1"))
    said = " ".join(spikelab("status", results_of(batch, "good.raw.h5")).stdout.split())
    assert "held by process 7 on here since 2026-03-0" in said
    assert ", on GPU 1" in said


def test_an_interrupted_sort_is_no_failure(batch, spikelab, monkeypatch):
    """What a person stopped is told as such, with how to go on."""
    stopped = RunState("interrupted", ended_at="2026-03-01T22:14:00.000+00:00")
    monkeypatch.setattr(status, "run_state", lambda folder: stopped)
    said = spikelab("status", results_of(batch, "good.raw.h5")).stdout
    assert "good.raw.h5: interrupted\n" in said
    assert "; the same command continues where it stopped" in said
    assert "failed" not in said


def test_clean_says_what_goes_and_the_dry_run_says_the_same(copied, spikelab):
    """A dry run removes nothing and names exactly what clean then removes, with its size."""
    run = run_of(results_of(copied, "good.raw.h5"))
    before = set(copied.rglob("*"))
    dry = spikelab("clean", copied, "--dry-run")
    expected = would_go(run)
    assert set(copied.rglob("*")) == before
    told = json.loads(spikelab("clean", copied, "--dry-run", "--json").stdout)
    assert told["freed_bytes"].keys() == {
        str(results) for results in (run.results, results_of(copied, "broken.raw.h5"))
    }
    assert told["freed_bytes"][str(run.results)] >= 1_000_000
    assert (told["dry_run"], told["left"]) == (True, {})
    done = spikelab("clean", copied)
    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert dry.stdout.replace("would remove", "removed").replace("would free", "freed") == done.stdout
    assert {path.name for path in expected} >= {"sort_checkpoints", "progress.json", ".report.7.partial.json"}
    assert not any(path.exists() for path in expected)
    assert "1.0 MB  " in done.stdout
    assert re.search(r"2 results folders: freed 1\.\d MB", done.stdout)


def test_a_cleaned_sort_is_still_found_finished(copied, spikelab, spikelab_process):
    """Clean takes nothing that a result needs: its files stay, and cleaning twice finds nothing more."""
    results = results_of(copied, "good.raw.h5")
    kept = {path: path.read_bytes() for path in results.iterdir() if path.is_file() and path.suffix != ".lock"}
    kept = {path: data for path, data in kept.items() if "partial" not in path.name}
    spikelab("clean", results)
    assert {path: path.read_bytes() for path in kept} == kept
    assert (copied / "inter_fake" / "good.raw.h5" / "waveforms.done.json").is_file()
    assert spikelab("clean", results).stdout.strip().endswith("nothing to remove")
    assert status_of(spikelab, results)[0]["status"] == "success"


@pytest.mark.parametrize("command", ["status", "clean"])
def test_a_folder_of_something_else_is_a_wrong_call(batch, spikelab, command, tmp_path):
    """A folder without results exits with 2 and says which one to name; an intermediate folder is known as such."""
    result = spikelab(command, tmp_path)
    assert result.exit_code == 2
    assert "Name sorted_<sorter>/<recording>" in result.stderr
    result = spikelab(command, batch / "inter_fake" / "good.raw.h5")
    assert result.exit_code == 2
    assert "That is an intermediate folder" in result.stderr


def test_a_folder_that_may_not_be_read_is_told(batch, spikelab, monkeypatch):
    """A colleague's folder that this user may not lock is told as such, without a traceback."""

    def refuse(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/colleague/.spikelab.lock")

    monkeypatch.setattr(status, "run_state", refuse)
    result = spikelab("status", results_of(batch, "good.raw.h5"))
    assert result.exit_code == 0
    assert "good.raw.h5: Permission denied (/colleague/.spikelab.lock)" in result.stdout


def test_sizes_are_those_on_the_disk(tmp_path):
    """Links are not followed, and everything below a folder counts."""
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"x" * 50_000)
    (folder / "link").symlink_to(tmp_path / "big")
    assert 50_000 <= size_bytes(folder) < 100_000
    assert size_bytes(folder / "link") < 10_000
