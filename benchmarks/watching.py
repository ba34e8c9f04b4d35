"""What watching a worker costs: processor time of the orchestrator while a sorter works, and of the guardian.

Two sorts with the fake sorter of the tests, which waits so long as it is told: the longer one, less the shorter one,
is watching and nothing else. The sorter holds memory and child processes, as a real one does.
Run it from the repository: ``python benchmarks/watching.py``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _machine import machine

REPOSITORY = Path(__file__).parents[1]
N_REPEATS = 3
SHORT_S, LONG_S = 5, 65
_SORT = """
import json, resource, sys, time
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
params = json.loads(sys.argv[2])
sort_recording(sys.argv[1], sorter="fake", out_report=report, n_jobs=1, preflight=False, create_figures=False,
               recompute_sorting=True, kilosort_params=params)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": time.process_time(), "peak_mb": usage.ru_maxrss / 1000, "status": report.records[0].status}))
"""


def main() -> None:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from support import simulate_maxwell

    cores, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "culture.raw.h5")
        simulate_maxwell(file)
        _sort(file, SHORT_S)  # loads, so that both of the others find that done
        for _ in range(N_REPEATS):
            short, long = _sort(file, SHORT_S), _sort(file, LONG_S)
            cores.append((long["cpu_s"] - short["cpu_s"]) / (LONG_S - SHORT_S))
            peaks.append(long["peak_mb"])
    print(f"{machine()}\n")
    print("| what | median | from | to | to reach |\n|---|---:|---:|---:|---|")
    _row("watching one worker (% of a core)", [100 * share for share in cores], "0.5")
    _row("peak memory of the process that watches (MB)", peaks, "")


def _row(what: str, values: list[float], goal: str) -> None:
    print(f"| {what} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} | {goal} |")


def _sort(file: Path, seconds: int) -> dict[str, Any]:
    from support import with_fake_sorter

    params = json.dumps({"behaviour": "sleep", "seconds": seconds})
    command = [sys.executable, "-c", _SORT, str(file), params]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=with_fake_sorter())
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
