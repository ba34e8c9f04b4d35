"""The self-test of lock, durable files and the end of processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting.preflight import selftest
from spikelab.spike_sorting.preflight.machine import Disk
from spikelab.spike_sorting.preflight.selftest import check_machinery
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.lock import hold

Make = Callable[..., Any]


@pytest.mark.usefixtures("nothing_left")
def test_sound_machine_passes_and_keeps_nothing(make_batch: Make, make_job: Make) -> None:
    """On a sound disk a lock excludes, a file lasts and a process ends, and nothing of it is left."""
    assert check_machinery(make_batch(make_job(name="a"), make_job(name="b"))) == []


def test_folders_of_a_running_sort_are_left_alone(make_batch: Make, make_job: Make) -> None:
    """The self-test neither needs nor disturbs the lock of a sort that is running in the same folders."""
    job = make_job()
    with hold((job.run.inter, job.run.results)):
        card = (job.run.results / ".spikelab.lock").read_bytes()
        assert check_machinery(make_batch(job)) == []
        assert (job.run.results / ".spikelab.lock").read_bytes() == card


def test_each_volume_is_tried_once(make_batch: Make, make_job: Make, tmp_path: Path) -> None:
    """Many recordings on one volume cost one try, and two volumes two."""
    tried: list[Path] = []

    def disk(folder: Path) -> Disk:
        tried.append(folder)
        return Disk(1 if "one" in folder.parts else 2, 10**12, None)

    for name in ("one", "two"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        (tmp_path / "inter" / name).mkdir(parents=True)
    batch = make_batch(*(make_job(name=f"{volume}/{k}") for volume in ("one", "two") for k in range(3)), disk=disk)
    assert len(list(selftest._one_per_volume(batch))) == 2
    assert tried


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_folder_that_takes_no_files_is_left_to_its_own_check(make_batch: Make, make_job: Make) -> None:
    """Where nothing can be written the self-test says nothing: that is found, with its reason, elsewhere."""
    job = replace(make_job(), run=RunFolder(Path("/proc/spikelab/inter"), Path("/proc/spikelab/sorted")))
    assert check_machinery(make_batch(job)) == []


@pytest.mark.parametrize(
    "program, code",
    [
        ("import os, sys; os.chdir(sys.argv[1]); open('taken', 'w'); open('freed', 'w')", "selftest-lock"),
        ("raise SystemExit('no locks available')", "selftest-process"),
    ],
)
def test_what_does_not_work_is_an_error(tmp_path: Path, program: str, code: str) -> None:
    """A lock that excludes nobody, and a process that fails, are errors of the machine."""
    started = time.monotonic()
    with (tmp_path / "lock").open("wb") as lock:
        found = selftest._second_process(tmp_path, lock, program)
    assert [(finding.code, finding.level) for finding in found] == [(code, "error")]
    assert time.monotonic() - started < 5


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_file_that_cannot_be_made_durable_is_an_error() -> None:
    """A file that cannot be published is an error that carries the kernel's words."""
    (found,) = selftest._publish_problems(Path("/proc"))
    assert (found.code, found.level) == ("selftest-publish", "error")
