"""Work on folders that may not answer any more."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import IOStallError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.lock import hold, holder_of
from spikelab.spike_sorting.work import Work


def work_in(folder: Path, locks: tuple[int, ...] = ()) -> Work:
    run = RunFolder(folder / "inter", folder / "results")
    for place in (run.inter, run.results):
        place.mkdir(exist_ok=True)
    return Work(Job("culture", Source(), run, KILOSORT4), (), "a run", 0.0, locks=locks)


def test_what_hangs_keeps_the_lock(tmp_path):
    """P13, P14: what is given up because its disk hangs may still do something: until then no other run begins."""
    answers = threading.Event()
    work = work_in(tmp_path)
    with hold((work.job.run.results,)) as locks:
        stalled = work_in(tmp_path, locks)
        with pytest.raises(IOStallError) as raised:
            stalled.patiently(lambda: answers.wait(20), 0.1)
        assert raised.value.stall_s == 0.1
    assert holder_of(work.job.run.results) is not None
    answers.set()
    for _ in range(200):
        if holder_of(work.job.run.results) is None:
            break
        time.sleep(0.02)
    assert holder_of(work.job.run.results) is None


def test_an_error_of_the_work_is_its_own(tmp_path):
    """What fails in time is no stall: it is raised as it is."""
    with pytest.raises(FileNotFoundError):
        work_in(tmp_path).patiently((tmp_path / "absent").stat)


@pytest.mark.parametrize("what", ["missing", "a folder", "torn"])
def test_progress_that_cannot_be_read_is_none(tmp_path, what):
    """P3: whatever lies in the place of the progress file, or of its folder, looking at it raises nothing."""
    work = work_in(tmp_path)
    path = work.job.run.progress
    if what == "a folder":
        path.mkdir()
    elif what == "torn":
        path.write_text('{"stage": "so')
    assert work.progress() is None


def test_a_dead_disk_is_waited_for_once(tmp_path):
    """After a disk of a run has stalled, nothing waits for ``io_stall_s`` again until something has answered."""
    answers = threading.Event()
    work = work_in(tmp_path)
    before_s = work.patience_s
    with pytest.raises(IOStallError):
        work.patiently(lambda: answers.wait(20), 0.05)
    answers.set()
    assert replace(work, n_threads=2).patience_s < before_s == KILOSORT4.execution.io_stall_s
    replace(work, n_threads=2).patiently(work.job.run.inter.stat)
    assert work.patience_s == before_s
