"""One real sort by the command line, and what can be done with it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import simulate_maxwell

pytest.importorskip("kilosort")

FAST = ("--set", "kilosort_params.nblocks=0", "--set", "n_jobs=1")


@pytest.fixture(scope="module")
def batch(tmp_path_factory, spikelab_process):
    """A batch of one good and one broken recording, sorted with plain lines."""
    folder = tmp_path_factory.mktemp("batch")
    simulate_maxwell(folder / "good.raw.h5")
    (folder / "broken.raw.h5").write_bytes(b"not HDF5")
    done = spikelab_process("sort", "good.raw.h5", "broken.raw.h5", *FAST, cwd=folder)
    return folder, done


def test_a_batch_goes_on_after_a_failure(batch):
    """The good recording is sorted, the broken one told with advice, and the exit code is 1."""
    _, done = batch
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    outcome = next(line for line in lines if line.startswith("[1/2] good.raw.h5: ") and "found" in line)
    assert "kept" in outcome
    assert outcome.endswith("report: sorted_kilosort4/good.raw.h5/sorting_report.html")
    assert any(line.startswith("[2/2] broken.raw.h5: failed (recording_unreadable)") for line in lines)
    assert any(line.startswith("1 of 2 recordings sorted in") for line in lines)
    assert "report of all: sorted_kilosort4/batch_report.html" in lines


def test_progress_is_in_plain_lines_without_a_terminal(batch):
    """A log has stages and steps as lines of their own, without control characters, and nothing on stderr.

    Which steps are seen depends on the machine: one that is over between two looks has no line.
    """
    _, done = batch
    lines = done.stdout.splitlines()
    assert any(line.startswith("[1/2] good.raw.h5: sort") for line in lines)
    assert any(line.startswith("[1/2] good.raw.h5: ") and ", " in line and "found" not in line for line in lines)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_the_same_command_finds_it_sorted(batch, spikelab_process):
    """Called again, the finished recording is looked up; --json holds its record alone."""
    folder, _ = batch
    done = spikelab_process("sort", "good.raw.h5", "--json", *FAST, cwd=folder)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["records"]
    assert record["status"] == "success"
    assert "sorted before" in done.stderr


def test_report_writes_the_page_again(batch, spikelab):
    """The page comes back where it was deleted, and its path is printed."""
    results = batch[0] / "sorted_kilosort4" / "good.raw.h5"
    page = results / "sorting_report.html"
    page.unlink()
    result = spikelab("report", results)
    assert result.exit_code == 0, result.output
    assert page.is_file()
    told = json.loads(spikelab("report", results, "--json").stdout)
    assert told["report_of_all"] is None
    assert [(one["status"], one["report"]) for one in told["records"]] == [("success", str(page))]
    assert str(page) in result.stdout
    assert "found" in result.stdout


def test_sigterm_stops_the_workers(tmp_path):
    """A sort that is told to end stops its worker, says how to go on, and exits with 143."""
    import psutil

    simulate_maxwell(tmp_path / "long.raw.h5")
    program = "from spikelab.cli import main; main()"
    command = [sys.executable, "-c", program, "sort", "long.raw.h5", *FAST]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ})
    with process:
        said = next(line for line in process.stdout if line.startswith("[1/1]"))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
    assert process.returncode == 143
    assert "interrupted" in said
    assert "continues where it stopped" in said
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    assert not (Path(tmp_path) / "sorted_kilosort4" / "long.raw.h5" / "spikedata_curated.h5").exists()
