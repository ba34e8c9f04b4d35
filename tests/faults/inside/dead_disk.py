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

from spikelab.spike_sorting import SortRunReport, batch, call_settings
from spikelab.spike_sorting.jobs import plan

_MNT_DETACH = 2


def main(jobs: list[dict[str, Any]], dying: str, dies_in: str | None, template: str) -> dict[str, Any]:
    """Sort recordings; once the first is at work, or else before the start, all below `dying` stops to answer."""
    for job in jobs:
        nemesis.with_load_done(template, job["inter"])
    try:
        os.close(_mount(dying))
        _unmount(dying)
    except OSError as error:
        return {"skip": f"no FUSE file systems here: {error}"}
    return _during(jobs, dying, dies_in) if dies_in else _before(jobs, dying)


def _before(jobs: list[dict[str, Any]], dying: str) -> dict[str, Any]:
    """The disk dies when it is planned already what is sorted."""
    planned, report = [], SortRunReport()
    for job in jobs:
        folders = {"intermediate_folders": [job["inter"]], "results_folders": [job["results"]]}
        planned += plan(job["file"], call_settings.resolve_config(None, "fake", job["options"]), **folders)
    server, started = _mount(dying), time.monotonic()
    batch.run_jobs(planned, on_error="continue", out_report=report)
    seconds = time.monotonic() - started
    _unmount(dying)
    os.close(server)
    return {"report": report.to_dict(), "seconds": seconds, **_left_behind(jobs)}


def _during(jobs: list[dict[str, Any]], dying: str, dies_in: str) -> dict[str, Any]:
    started = time.monotonic()
    sort = nemesis.start_sort(jobs=jobs, patience=[1, 1, 3])
    nemesis.wait_until(lambda: nemesis.is_misbehaving(sort, dies_in), 30, "the first sort")
    server = _mount(dying)
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
    return {"report": json.loads(report), "seconds": seconds, **_left_behind(jobs)}


def _left_behind(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "content": [nemesis.content(job["results"]) for job in jobs],
        "reported": [Path(job["results"], "sorting_report.md").exists() for job in jobs],
    }


def _mount(folder: str) -> int:
    """Put an empty file system over `folder` that asks its server for everything: us, who never answer."""
    server = os.open("/dev/fuse", os.O_RDWR)
    Path(folder).mkdir(parents=True, exist_ok=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return server


def _unmount(folder: str) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(folder), _MNT_DETACH)


nemesis.run(main)
