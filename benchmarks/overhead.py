"""What supervision costs: time to import, from the call to the first stage, and beside the work of the stages.

The sorter is the fake one of the tests, which sorts in milliseconds: what is left is ours, and SpikeInterface's.
Run it from the repository: ``python benchmarks/overhead.py``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from _machine import machine

REPOSITORY = Path(__file__).parents[1]
N_REPEATS = 3
_SORT = """
import json, sys, time
from datetime import datetime, timezone
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
called = datetime.now(timezone.utc).isoformat()
started = time.monotonic()
sort_recording(sys.argv[1], sorter="fake", out_report=report, n_jobs=1, create_figures=False)
seconds = time.monotonic() - started
print(json.dumps({"called": called, "seconds": seconds, "record": report.records[0].to_dict()}))
"""


def main() -> None:
    rows = [*_imports(), *_sorts()]
    print(f"{machine()}\n")
    print("| what | median (s) | from | to | to reach |\n|---|---:|---:|---:|---|")
    for what, seconds, goal in rows:
        print(f"| {what} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} | {goal} |")


def _imports() -> list[tuple[str, list[float], str]]:
    """Time fresh interpreters, less the time of one that imports nothing."""
    statements = {"import spikelab": "import spikelab", "import spikelab.spike_sorting.sort_recording": _DEEP}
    empty = statistics.median(_run_s("pass") for _ in range(N_REPEATS))
    return [(what, [max(0.0, _run_s(code) - empty) for _ in range(N_REPEATS)], "") for what, code in statements.items()]


_DEEP = "from spikelab.spike_sorting import sort_recording"


def _run_s(code: str) -> float:
    timed = f"import time\nstarted = time.perf_counter()\n{code}\nprint(time.perf_counter() - started)"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _sorts() -> list[tuple[str, list[float], str]]:
    first, beside, again, total = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(N_REPEATS):
            file = Path(folder, str(number), "culture.raw.h5")
            file.parent.mkdir()
            _simulate(file)
            said = _sort(file)
            first.append(_to_first_stage_s(said, file))
            total.append(said["seconds"])
            beside.append(said["seconds"] - sum(said["record"]["stage_timings_s"].values()))
            again.append(_sort(file)["seconds"])
    return [
        ("from the call to the first stage", first, "3"),
        ("a whole sort of 10 s of recording with the fake sorter", total, ""),
        ("of that, beside the stages: preflight, three workers, supervision, report", beside, ""),
        ("the same call again", again, ""),
    ]


def _simulate(path: Path) -> None:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from support import simulate_maxwell

    simulate_maxwell(path)


def _sort(file: Path) -> dict[str, Any]:
    from support import with_fake_sorter

    command = [sys.executable, "-c", _SORT, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=with_fake_sorter())
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _to_first_stage_s(said: dict[str, Any], file: Path) -> float:
    journal = file.parent / "sorted_fake" / file.name / "events.jsonl"
    events = map(json.loads, journal.read_text().splitlines())
    began = next(event["time"] for event in events if event["event"] == "stage_started")
    return (datetime.fromisoformat(began) - datetime.fromisoformat(said["called"])).total_seconds()


if __name__ == "__main__":
    main()
