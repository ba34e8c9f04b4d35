"""Kilosort4 itself, killed in each of its steps in turn, and sorted to the end by the same call."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import nemesis


def main(file: str, folder: str, steps: list[str]) -> dict[str, Any]:
    # One thread: sums of floats depend on their number, which follows from how busy the machine is.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.pop("NUMBA_DISABLE_JIT", None)
    calm, disturbed = (_call(file, Path(folder, name)) for name in ("calm", "disturbed"))
    nemesis.sort_to_the_end(**calm)
    killed = [step for step in steps if _kill_in(step, disturbed)]
    report = nemesis.sort_to_the_end(**disturbed)
    return {
        "report": report,
        "killed": killed,
        "calm": nemesis.content(_results(calm)),
        "disturbed": nemesis.content(_results(disturbed)),
        "left": nemesis.living(),
        "leftovers": nemesis.leftovers(*disturbed["options"]["results_folders"]),
    }


def _call(file: str, place: Path) -> dict[str, Any]:
    options = {
        "sorter": "kilosort4",
        "intermediate_folders": [str(place / "inter")],
        "results_folders": [str(place / "results")],
        "kilosort_params": {"nblocks": 1, "torch_device": "cpu"},
        "n_jobs": 1,
        "save_raw_pkl": True,
        "preflight": False,
        "on_error": "continue",
    }
    return {"files": [file], "options": options}


def _results(call: dict[str, Any]) -> str:
    return str(call["options"]["results_folders"][0])


def _kill_in(step: str, call: dict[str, Any]) -> bool:
    """Start the sort, kill the orchestrator when Kilosort4 is in `step`; return whether it came to that."""
    (inter,) = call["options"]["intermediate_folders"]
    sort = nemesis.start_sort(**call)
    while sort.poll() is None:
        if nemesis.step_of(inter) == f"sort: {step}":
            sort.kill()
            sort.communicate()
            nemesis.wait_until(lambda: not nemesis.living(), 10, "the end of everything")
            return True
        time.sleep(nemesis.POLL_S / 5)
    return False


nemesis.run(main)
