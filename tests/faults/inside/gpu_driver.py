"""A sort beside an NVIDIA driver that changes its answers in the middle of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nemesis

HEALTHY = "total 8000000000\nused 1000000000\nown 0\npid 0\ntemp 55\nutil 12\n"


def main(
    job: dict[str, Any], template: str, driver: str, answers: str, after: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Sort one recording, during which the driver changes, and perhaps another one afterwards."""
    jobs = [job, after] if after else [job]
    for each in jobs:
        nemesis.with_load_done(template, each["inter"])
    os.environ.update(LD_LIBRARY_PATH=driver, SPIKELAB_GPU_LOCKS=driver)
    Path(driver, "gpu.txt").write_text(HEALTHY)
    script = nemesis.start_sort(jobs=jobs)
    nemesis.wait_until(lambda: nemesis.is_misbehaving(script, job["inter"]), 30, "misbehaviour")
    _answer(driver, answers.format(worker=nemesis.worker_of(script).pid))
    said, complained = script.communicate(timeout=90)
    if not said:
        raise RuntimeError(complained[-2000:])
    records = json.loads(said.splitlines()[-1])["records"]
    return {
        "record": records[0],
        "after": records[1:],
        "events": nemesis.events(job["results"]),
        "content": nemesis.content(job["results"]),
        "left": nemesis.living(),
    }


def _answer(driver: str, answers: str) -> None:
    """Change the answers at once: the driver reads them all the time."""
    partial = Path(driver, "gpu.partial")
    partial.write_text(answers)
    partial.replace(Path(driver, "gpu.txt"))


nemesis.run(main)
