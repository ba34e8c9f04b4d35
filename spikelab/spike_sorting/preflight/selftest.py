"""What a run rests on, tried in the real folders: a lock, a durable file, and the end of a process.

A second process must see the lock while it is held and get it when it is free, a published file must read back
the same, and a process must be gone after it was killed. Once per volume, in a folder of its own that goes again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from spikelab.spike_sorting._exceptions import UnkillableProcessError
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.preflight.folders import nearest_folder
from spikelab.spike_sorting.supervision.process import WorkerProcess
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX, publish

_PATIENCE_S = 5.0
_POLL_S = 0.005
_SIZE_BYTES = 1024
_SECOND_PROCESS = """
import json, os, sys, time
from filelock import lock_descriptor
folder = sys.argv[1]
descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR)
def tell(name):
    with open(os.path.join(folder, name), "x"):
        pass
tell("refused" if not lock_descriptor(descriptor, blocking=False) else "taken")
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
            if place is not None:  # otherwise it is not writable, which a check of its own tells
                findings += _published(place) + _locked_and_killed(place)
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


def _published(place: Path) -> list[Finding]:
    path, data = place / "published", os.urandom(_SIZE_BYTES)
    try:
        publish(path, data)
        back = path.read_bytes()
    except OSError as error:
        return [_finding("publish", f"a file of 1 KB cannot be written durably ({error})", place)]
    return [] if back == data else [_finding("publish", "a file of 1 KB reads back changed", place)]


def _locked_and_killed(place: Path) -> list[Finding]:
    """Let a second process try a lock that is held, then one that is free, and kill it."""
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not lock_descriptor(lock, blocking=False):
            return [_finding("lock", "a lock that nobody holds cannot be taken", place)]
        return _second_process(place, lock)
    except OSError as error:
        return [_finding("lock", f"a lock cannot be taken ({error})", place)]
    finally:
        os.close(lock) 
