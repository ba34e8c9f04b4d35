"""What it costs to begin: fresh interpreters, from their start to their end.

Run it from the repository: ``python benchmarks/startup.py``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from _machine import machine

N_REPEATS = 7
SORT = "from spikelab.spike_sorting import sort_recording"
COMMANDS = {
    "an interpreter that does nothing": ["python", "-c", "pass"],
    "`import spikelab`": ["python", "-c", "import spikelab"],
    f"`{SORT}`": ["python", "-c", SORT],
    "`spikelab --version`": ["spikelab", "--version"],
    "`spikelab --help`": ["spikelab", "--help"],
    "`spikelab sort --help`": ["spikelab", "sort", "--help"],
}


def main() -> None:
    print(f"{machine()}\n")
    print("| what | median (s) | from | to |\n|---|---:|---:|---:|")
    seconds: dict[str, list[float]] = {what: [] for what in COMMANDS}
    for _ in range(N_REPEATS):  # in turn, so that all of them meet the same machine
        for what, arguments in COMMANDS.items():
            seconds[what].append(_run_s(arguments))
    for what, taken in seconds.items():
        print(f"| {what} | {statistics.median(taken):.2f} | {min(taken):.2f} | {max(taken):.2f} |")


def _run_s(arguments: list[str]) -> float:
    program = Path(sys.executable).with_name(arguments[0])
    started = time.perf_counter()
    subprocess.run([program, *arguments[1:]], capture_output=True, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
