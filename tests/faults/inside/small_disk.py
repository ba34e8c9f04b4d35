"""Writes that the disk refuses: full, out of inodes, larger than allowed."""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import nemesis
import numpy as np
from spikeinterface.core import NumpyRecording

from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.binary import flat_binary
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.journal import Journal
from spikelab.spike_sorting.supervision.progress import ProgressFile
from spikelab.spike_sorting.supervision.publish import publish, remove_partials


def main(folder: str) -> dict[str, Any]:
    small, few, normal = (Path(folder, name) for name in ("small", "few", "normal"))
    for place, option in ((small, "size=1m"), (few, "nr_inodes=12")):
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(place)], check=True)
    normal.mkdir()
    found = {
        "a full disk": _refused(small, lambda: publish(small / "data", b"n" * 2_000_000), errno.ENOSPC),
        "no inode left": _refused(few, lambda: _use_up_inodes(few), errno.ENOSPC),
        "a file size limit": _limited(normal),
    }
    found["a copy that is larger than the disk"] = _refused(small, lambda: _copy_recording(small), errno.ENOSPC)
    return {"refused": found, "journal": _journal_on_the_last_bytes(small)}


def _refused(place: Path, write: Callable[[], None], number: int) -> bool:
    """Whether `write` fails with this error and the file, and the old content stays with nothing beside it."""
    (place / "data").write_bytes(b"old")
    try:
        write()
    except OSError as error:
        named = str(place) in str(error.filename)
        for filler in place.glob("filler*"):
            filler.unlink()
        remove_partials(place)
        is_old = (place / "data").read_bytes() == b"old" and [p.name for p in place.iterdir()] == ["data"]
        return error.errno == number and named and is_old
    return False


def _use_up_inodes(place: Path) -> None:
    for number in range(100):
        if os.statvfs(place).f_ffree == 0:
            break
        (place / f"filler{number}").touch()
    publish(place / "data", b"new")


def _copy_recording(place: Path) -> None:
    """Copy a recording as for a sorter, through a memory map, to a disk that is too small for it."""
    recording = NumpyRecording([np.zeros((200_000, 8), dtype="int16")], 20_000.0)
    run = RunFolder(place, place)
    job = SortJob(recording, place, run, SortingPipelineConfig().override(n_jobs=1), ProgressFile(run.progress, "sort"))
    with redirect_stderr(io.StringIO()):
        flat_binary(job, "key")


def _limited(place: Path) -> bool:
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        # A fork that must not run what its parent would at its end.
        os._exit(not _refused(place, lambda: publish(place / "data", b"n" * 200_000), errno.EFBIG))  # noqa: TID251
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _journal_on_the_last_bytes(place: Path) -> dict[str, int]:
    """Write events until the disk is full: how many were told to be written, and how many are there?"""
    (place / "filler").write_bytes(b"x" * (900 * 1024))
    journal, told = Journal(place / "events.jsonl"), 0
    with suppress(OSError):
        for number in range(10_000):
            journal.write("event", number=number, padding="x" * 150)
            told += 1
    (place / "filler").unlink()
    return {"told": told, "there": len(journal.read())}


nemesis.run(main)
