"""A batch of recordings whose sorters misbehave, undisturbed from outside."""

from __future__ import annotations

import time
from typing import Any

import nemesis


def main(jobs: list[dict[str, Any]], template: str | None, patience: list[float] | None = None) -> dict[str, Any]:
    for job in jobs:
        if template is not None:
            nemesis.with_load_done(template, job["inter"])
    started = time.monotonic()
    more = {} if patience is None else {"patience": patience}
    report = nemesis.sort_to_the_end(jobs=jobs, limit_s=600, **more)
    return {
        "report": report,
        "seconds": time.monotonic() - started,
        "left": nemesis.living(),
        "leftovers": nemesis.leftovers(*(job[place] for job in jobs for place in ("inter", "results"))),
        "free": all(nemesis.is_free(job[place]) for job in jobs for place in ("inter", "results")),
        "content": [nemesis.content(job["results"]) for job in jobs],
    }


nemesis.run(main)
