"""A disk that answers nothing any more, like a network share whose server is gone: a FUSE mount without a server."""

from __future__ import annotations

import ctypes
import json
import os
import select
import time
from pathlib import Path
from typing import Any

import nemesis

_MNT_DETACH = 2


def main(jobs: list[dict[str, Any]], dying: str, dies_in: str, template: str) -> dict[str, Any]:
    """Sort recordings, the first of which hangs; while it does, everything below `dying` stops to answer."""
    for job in jobs:
        nemesis.with_load_done(template, job["inter"])
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
        _mount(server, Path(dying))
        _unmount(dying)
    except OSError as error:
        return {"skip": f"no FUSE file systems here: {error}"}
    started = time.monotonic()
    sort = nemesis.start_sort(jobs=jobs, patience=[1, 1, 3])
    nemesis.wait_until(lambda: nemesis.is_misbehaving(sort, dies_in), 30, "the first sort")
    os.close(server)
    server = os.open("/dev/fuse", os.O_RDWR)
    _mount(server, Path(dying))
    # A thread that hangs in the kernel keeps even a process that has ended: its report comes before its end.
    assert sort.stdout is not None
    report = sort.stdout.readline() if select.select([sort.stdout], [], [], 90)[0] else "nothing"
    seconds = time.monotonic() - started
    _unmount(dying)
    os.close(server)
    complained = sort.communicate(timeout=20)[1]
    if not report.startswith("{"):
        raise RuntimeError(f"said: {report}\n{complained[-3000:]}")
    nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of what hung")
    return {
        "report": json.loads(report),
        "seconds": seconds,
        "content": [nemesis.content(job["results"]) for job in jobs],
    }


def _mount(server: int, folder: Path) -> None:
    """Put an empty file system over `folder` that asks its server for everything: us, who never answer."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _unmount(folder: str) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(folder), _MNT_DETACH)


nemesis.run(main)
