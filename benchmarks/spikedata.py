"""The file of a SpikeData: 10^7 spikes saved and loaded, and templates of a thousand units on a thousand channels.

Each measurement is a fresh process; peak memory is what the work adds to it. Processor time is what would be left on a
machine and a disk with nothing else to do.
Run it from the repository: ``python benchmarks/spikedata.py``.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _machine import machine

from spikelab.spikedata import SpikeData

N_REPEATS = 5
N_UNITS, N_SPIKES, N_CHANNELS, LENGTH_MS = 1_000, 10_000, 1_024, 3.6e6


def main() -> None:
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = {what: [_run(what, folder) for _ in range(N_REPEATS)] for what in WAYS}
        sizes = {path.stem: path.stat().st_size / 1e6 for path in Path(folder).iterdir()}
    print(", ".join(f"{name}: {megabytes:.0f} MB" for name, megabytes in sorted(sizes.items())), "\n")
    print("| what | median (s) | from | to | processor (s) | peak memory (MB) | to reach (s) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for what, taken in rows.items():
        seconds, cpu = ([row[name] for row in taken] for name in ("seconds", "cpu"))
        peak, goal = max(row["peak_MB"] for row in taken), "1" if "spikes" in what else ""
        spread = f"{statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f}"
        print(f"| {what} | {spread} | {statistics.median(cpu):.2f} | {peak:.0f} | {goal} |")


def _run(what: str, folder: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, what, folder],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------ in a process


def _save_spikes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, LENGTH_MS, N_SPIKES)) for _ in range(N_UNITS)]
    sd = SpikeData(trains, length=LENGTH_MS, neuron_attributes=[{"unit_id": unit} for unit in range(N_UNITS)])
    _measure(lambda: sd.save(folder / "spikes.h5"))


def _load_spikes(folder: Path) -> None:
    _measure(lambda: SpikeData.load(folder / "spikes.h5"))


def _save_templates(folder: Path) -> None:
    template = np.ones((60, N_CHANNELS), dtype="f4")
    attributes = [{"unit_id": unit, "template_full": template} for unit in range(N_UNITS)]
    sd = SpikeData([[1.0]] * N_UNITS, length=LENGTH_MS, neuron_attributes=attributes)
    _measure(lambda: sd.save(folder / "templates.h5"))


def _load_templates(folder: Path) -> None:
    _measure(lambda: SpikeData.load(folder / "templates.h5"))


def _use_templates(folder: Path) -> None:
    sd = SpikeData.load(folder / "templates.h5")
    _measure(lambda: [np.ptp(own["template_full"]) for own in sd.neuron_attributes])


WAYS = {
    "save 10^7 spikes of 1,000 units": _save_spikes,
    "load those spikes": _load_spikes,
    "load those spikes again, without the checksum": lambda folder: _measure(
        lambda: SpikeData.load(folder / "spikes.h5", verify=False)
    ),
    "save templates of 1,000 units on 1,024 channels": _save_templates,
    "load the file": _load_templates,
    "go through its templates": _use_templates,
}


def _measure(work: Callable[[], object]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_MB": (after.ru_maxrss - before.ru_maxrss) / 1024}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        WAYS[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
