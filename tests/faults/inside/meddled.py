"""A batch whose folders are deleted, moved or made read-only by others in the middle, and the same call afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nemesis


def main(jobs: list[dict[str, Any]], again: list[dict[str, Any]], template: str) -> dict[str, Any]:
    for job in jobs:
        nemesis.with_load_done(template, job["inter"])
    first = nemesis.sort_to_the_end(jobs=jobs, parallel=3)
    left, free = nemesis.living(), [_is_free(job) for job in jobs]
    told = [_told(record) for record in first["records"]]
    for job in jobs:
        for place in ("inter", "results"):
            _repair(Path(job[place]))
    second = nemesis.sort_to_the_end(jobs=again, parallel=3)
    return {
        "first": first["records"],
        "told": told,
        "complained": first["complained"],
        "left": left,
        "free": free,
        "second": second["records"],
        "content": [nemesis.content(job["results"]) for job in again],
    }


def _is_free(job: dict[str, Any]) -> bool:
    places = [Path(job[place]) for place in ("inter", "results")]
    # What was moved away, or hidden by a mount, has its lock with it.
    return all(nemesis.is_free(str(place)) for place in places if place.is_dir() and not _is_read_only(place))


def _told(record: dict[str, Any]) -> str:
    """Return what a person reads of a failure: its message, and what of the log is in the report."""
    report = Path(record["results_folder"], "recording_report.json")
    return str(record["error_message"]) + (report.read_text() if report.is_file() else "")


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _repair(folder: Path) -> None:
    """Put a folder where it was, as a person does before calling again; what was deleted stays deleted."""
    if folder.exists() and _is_read_only(folder):
        subprocess.run(["umount", folder], check=True)
    if (moved := folder.with_name("moved")).exists():
        if folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
        moved.rename(folder)


nemesis.run(main)
