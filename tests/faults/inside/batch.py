"""A batch of recordings whose sorters misbehave; small disks and limits of memory on request."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import groups
import nemesis


def main(
    jobs: list[dict[str, Any]],
    template: str | None = None,
    small_disk: dict[str, str] | None = None,
    memory_bytes: int | None = None,
    parallel: int = 1,
) -> dict[str, Any]:
    for folder, size in (small_disk or {}).items():
        Path(folder).mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    for job in jobs:
        if template is not None and job["file"] == str(Path(template).with_name("culture.raw.h5")):
            nemesis.with_load_done(template, job["inter"])
    with ExitStack() as stack:
        if memory_bytes is not None:
            try:
                stack.enter_context(groups.memory_limited(memory_bytes))
            except OSError as error:
                return {"skip": f"no memory control group: {error}"}
        started = time.monotonic()
        report = nemesis.sort_to_the_end(jobs=jobs, parallel=parallel, limit_s=600)
        seconds = time.monotonic() - started
    return {
        "report": report,
        "peak_bytes": report.pop("peak_bytes"),
        "seconds": seconds,
        "left": nemesis.living(),
        "leftovers": nemesis.leftovers(*(job[place] for job in jobs for place in ("inter", "results"))),
        "free": all(nemesis.is_free(job[place]) for job in jobs for place in ("inter", "results")),
        "content": [nemesis.content(job["results"]) for job in jobs],
        "files": [_files(Path(job["results"])) for job in jobs],
        "events": [nemesis.events(job["results"]) for job in jobs],
    }


def _files(results: Path) -> dict[str, Any]:
    """Return what a person, and a program, find in a results folder."""
    found: dict[str, Any] = {}
    for name in ("recording_report.json", "disk_exhaustion_report.json"):
        found[name] = json.loads((results / name).read_text()) if (results / name).exists() else None
    for name in ("sorting_report.md", "sorting.log"):
        found[name] = _end_of(results / name) if (results / name).exists() else None
    return found


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1_000_000))
        return file.read().decode(errors="replace")


nemesis.run(main)
