"""What a run rests on, tried in the real folders: a lock, a durable file, and the end of a process.

A second process must see the lock while it is held and get it when it is free, a published file must read back
the same, and a process must be gone after it was killed. Once per volume, in a folder of its own that goes again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from spikelab.spike_sorting._exceptions import UnkillableProcessError
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.preflight.folders import nearest_folder
from spikelab.spike_sorting.supervision.process import WorkerProcess
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX, publish

_PATIENCE_S = 10.0
_POLL_S = 0.005
_SECOND_PROCESS = """
import os, sys, time
from filelock import lock_descriptor
def tell(name):
    with open(os.path.join(sys.argv[1], name + ".new"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, os.path.join(sys.argv[1], name))
descriptor = os.open(os.path.join(sys.argv[1], "lock"), os.O_RDWR)
tell("taken" if lock_descriptor(descriptor, blocking=False) else "refused")
while not lock_descriptor(descriptor, blocking=False):
    time.sleep(0.005)
tell("freed")
time.sleep(60)
"""


def check_machinery(batch: Batch) -> list[Finding]:
    """Find what a run rests on and does not work in the folders of the jobs."""
    findings = []
    for folder in _one_per_volume(batch):
        with _test_folder(folder) as place:
            if place is not None:  # a folder that nothing can be made in is found by a check of its own
                findings += _publish_problems(place) + _lock_problems(place)
    return findings


def _one_per_volume(batch: Batch) -> Iterable[Path]:
    folders = (nearest_folder(folder) for job in batch.jobs for folder in (job.run.inter, job.run.results))
    return {batch.machine.disk(folder).volume: folder for folder in folders}.values()


@contextmanager
def _test_folder(folder: Path) -> Iterator[Path | None]:
    place = folder / f".spikelab-selftest.{os.getpid()}{PARTIAL_SUFFIX}"
    try:
        place.mkdir()
    except OSError:
        yield None
        return
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _finding(what: str, message: str, place: Path) -> Finding:
    advice = "Use folders on another, local disk; `spikelab doctor` tells more about this machine."
    return Finding(f"selftest-{what}", "error", f"in {place.parent}, {message}", advice)


def _publish_problems(place: Path) -> list[Finding]:
    data = os.urandom(1024)
    try:
        publish(place / "published", data)
        same = (place / "published").read_bytes() == data
    except OSError as error:
        return [_finding("publish", f"a file of 1 KB cannot be written durably: {error}", place)]
    return [] if same else [_finding("publish", "a file of 1 KB reads back changed", place)]


def _lock_problems(place: Path) -> list[Finding]:
    try:
        with (place / "lock").open("wb") as lock:
            if not lock_descriptor(lock.fileno(), blocking=False):
                return [_finding("lock", "a lock that nobody holds cannot be taken", place)]
            return _second_process(place, lock)
    except UnkillableProcessError as error:
        return [_finding("process", f"a process cannot be ended: {error}", place)]
    except OSError as error:
        return [_finding("lock", f"a lock or a process fails: {error}", place)]


def _second_process(place: Path, lock: IO[bytes], program: str = _SECOND_PROCESS) -> list[Finding]:
    """Let another process try the lock while it is held and when it is free, then kill it and see it gone."""
    with (place / "log").open("ab") as log:
        second = WorkerProcess(
            [sys.executable, "-c", program, str(place)],
            environment=os.environ,
            log=log,
            status_path=place / "status.json",
        )
    with second:
        told = _wait_for(second, place, "refused", "taken")
        lock.close()
        told_later = _wait_for(second, place, "freed")
        second.kill()
    if told is None or told_later is None:
        said = (place / "log").read_text(encoding="utf-8", errors="replace").strip()[-500:]
        return [_finding("process", f"a second process does not do its work: {said or 'no word from it'}", place)]
    if told.name == "taken":
        return [_finding("lock", "a second process gets a lock that is held: two runs would not see each other", place)]
    if _is_alive(int(told.read_text())):
        return [_finding("process", "a process lives on after it was killed", place)]
    return []


def _wait_for(process: WorkerProcess, place: Path, *names: str) -> Path | None:
    """Return the first of these files when it is there, or None when the process ended without one."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for name in names:
            if (place / name).exists():
                return place / name
        if process.wait(_POLL_S) is not None:
            return None
    return None


def _is_alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))
