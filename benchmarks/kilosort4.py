"""Kilosort4 with our functions against Kilosort4 with its own, on one simulated recording, step by step.

Both run in turn, each time in a fresh process, with the same settings. CPU seconds are those of all threads: where
other work shares the machine they say more than the clock. With ``--durations``, ours alone sorts recordings of
several lengths, with its spikes on disk, as it leaves them by itself once they are large beside the memory.

Run it from the repository: ``make bench-kilosort``, or
``python benchmarks/kilosort4.py --layout linear --duration 30``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """A probe, how many units are near it, how long it is recorded, and how it is corrected for drift."""

    n_channels: int
    n_units: int
    duration_s: float
    nblocks: tuple[int, ...] = (0, 1)


LAYOUTS = {
    "mea": Layout(64, 20, 120),
    "neuropixels1": Layout(96, 30, 60),
    "linear": Layout(32, 12, 60),
    "tetrode": Layout(4, 4, 120, nblocks=(0,)),
    "neuropixels2": Layout(96, 32, 60),
}
"""A multi-electrode array, Neuropixels of one shank, a linear probe, a tetrode, four shanks.

Upstream corrects four contacts for drift in such a way that no peak is left to learn templates from.
"""
SIDES = ("upstream", "ours")


def main() -> None:
    options = _parser().parse_args()
    if options.measure:
        _measure(options)
        return
    print(f"{machine(options.device)}\n")
    for layout in options.layout:
        if options.durations:
            _lengthen(layout, options)
            continue
        duration_s = options.duration or LAYOUTS[layout].duration_s
        with tempfile.TemporaryDirectory() as folder:
            _simulate(Path(folder), layout, duration_s)
            for nblocks in options.nblocks or LAYOUTS[layout].nblocks:
                what = f"{layout}, {LAYOUTS[layout].n_channels} channels, {duration_s:g} s, nblocks {nblocks}"
                _compare(Path(folder), what, nblocks, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--duration", type=float, help="seconds of recording; each layout has its own unless given")
    parser.add_argument(
        "--durations", nargs="+", type=float, metavar="MINUTES", help="ours alone, on recordings of these lengths"
    )
    parser.add_argument("--nblocks", nargs="+", type=int, help="0: no drift correction; each layout has its own")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arrays-on-disk", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    return parser


def _simulate(folder: Path, layout: str, duration_s: float) -> None:
    from spikelab.simulation import simulate_recording

    probe = LAYOUTS[layout]
    truth = simulate_recording(
        layout, n_channels=probe.n_channels, n_units=probe.n_units, duration_s=duration_s, seed=1
    )
    truth.recording.save(folder=folder / "recording", n_jobs=1, verbose=False, progress_bar=False)


# ------------------------------------------------------------------------------------------- side by side


def _compare(folder: Path, what: str, nblocks: int, options: argparse.Namespace) -> None:
    taken: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(options.repeats):
        for side in SIDES:
            taken[side].append(_measured(side, folder, nblocks, options.device))
    theirs, ours = taken["upstream"], taken["ours"]
    print(f"{what}: {_agreement(folder)}\n")
    print("| step | upstream (s) | ours (s) | ratio | upstream (CPU s) | ours (CPU s) | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for step in theirs[0]["wall_s"]:
        cells = []
        for unit in ("wall_s", "cpu_s"):
            one, other = (statistics.median(run[unit][step] for run in runs) for runs in (theirs, ours))
            cells += [f"{one:.2f}", f"{other:.2f}", f"{one / max(other, 1e-3):.1f}"]
        print(f"| {step} | {' | '.join(cells)} |")
    peaks = [max(run["peak_MB"] for run in runs) for runs in (theirs, ours)]
    print(f"\nPeak memory: upstream {peaks[0]:.0f} MB, ours {peaks[1]:.0f} MB.\n", flush=True)


def _measured(side: str, folder: Path, nblocks: int, device: str, *more: str) -> dict[str, Any]:
    """Return what a sort in a process of its own took."""
    command = [sys.executable, __file__, "--measure", side, str(folder), "--nblocks", str(nblocks), "--device", device]
    done = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _lengthen(layout: str, options: argparse.Namespace) -> None:
    """Print how time and memory of a sort grow with the length of the recording."""
    print(f"{layout}, {LAYOUTS[layout].n_channels} channels, ours alone, spikes on disk\n")
    print("| minutes | nblocks | spikes | s | CPU s | CPU s a minute | peak memory (MB) |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for minutes in options.durations:
        with tempfile.TemporaryDirectory() as folder:
            _simulate(Path(folder), layout, 60 * minutes)
            for nblocks in options.nblocks or LAYOUTS[layout].nblocks:
                taken = _measured("ours", Path(folder), nblocks, options.device, "--arrays-on-disk")
                n_spikes = len(np.load(Path(folder, "ours", "spike_times.npy")))
                wall_s, cpu_s = taken["wall_s"]["all"], taken["cpu_s"]["all"]
                row = (f"{minutes:g}", nblocks, n_spikes, f"{wall_s:.1f}", f"{cpu_s:.1f}", f"{cpu_s / minutes:.2f}")
                print(f"| {' | '.join(map(str, row))} | {taken['peak_MB']:.0f} |", flush=True)
    print()


def _agreement(folder: Path) -> str:
    """Return how many spikes of upstream's are ours, at the same sample, with the same unit."""
    times, units = (
        [np.load(folder / side / f"spike_{what}.npy").ravel() for side in SIDES] for what in ("times", "clusters")
    )
    if all(np.array_equal(*pair) for pair in (times, units)):
        return f"{len(times[0])} spikes of {len(np.unique(units[0]))} units, identical in time and unit"
    same_unit = 0
    for unit in np.unique(units[0]):
        at = np.isin(times[1], times[0][units[0] == unit])
        same_unit += np.bincount(units[1][at]).max() if at.any() else 0
    same_time = np.isin(times[0], times[1]).mean()
    share = min(1.0, same_unit / len(times[0]))
    return f"{len(times[0])} and {len(times[1])} spikes, {same_time:.4%} at the same time, {share:.4%} in the same unit"


# ------------------------------------------------------------------------------------------ in a process


class Stopwatch:
    """Takes the time when a step begins; stands in for the file to which progress is reported."""

    def __init__(self) -> None:
        self.began: dict[str, tuple[float, float]] = {}

    def report(self, step: str, *_: object) -> None:
        self.began.setdefault(step, (time.perf_counter(), time.process_time()))

    def steps(self) -> dict[str, dict[str, float]]:
        """Return what each step took, by the clock and of all threads, and their sums."""
        self.report("end")
        names, began = list(self.began)[:-1], np.array(list(self.began.values()))
        spent = np.vstack([np.diff(began, axis=0), began[-1] - began[0]])
        columns = zip(("wall_s", "cpu_s"), spent.T, strict=True)
        return {unit: dict(zip([*names, "all"], column.tolist(), strict=True)) for unit, column in columns}


def _measure(options: argparse.Namespace) -> None:
    import spikeinterface
    import torch

    from spikelab.spike_sorting.backends.binary import FlatBinary
    from spikelab.spike_sorting.backends.kilosort4 import steps
    from spikelab.spike_sorting.probes.dictionary import probe_dictionary

    side, folder = options.measure[0], Path(options.measure[1])
    recording = spikeinterface.load(folder / "recording")
    described = recording.get_binary_description()
    binary = FlatBinary(Path(described["file_paths"][0]), "int16", recording.get_num_channels())
    (nblocks,) = options.nblocks
    request = steps.Request(
        binary,
        "benchmark",
        probe_dictionary(recording),
        recording.sampling_frequency,
        {"nblocks": nblocks},
        torch.device(options.device),
        folder / side,
        in_memory_bytes=0.0 if options.arrays_on_disk else math.inf,
        accelerated=side == "ours",
    )
    request.folder.mkdir(exist_ok=True)
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as checkpoints:
        replaced = steps.run_steps(request, stopwatch, Path(checkpoints))
    if bool(replaced) != request.accelerated:
        msg = f"{side} ran with {replaced or 'functions of upstream alone'}"
        raise RuntimeError(msg)
    peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.device != "cpu":
        peak_MB = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({**stopwatch.steps(), "peak_MB": peak_MB}))


def machine(device: str) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("spikelab", "kilosort", "torch", "numpy"))
    threads, load = os.environ.get("OMP_NUM_THREADS", "all"), os.getloadavg()[0]
    where = f"{platform.platform()}, {os.cpu_count()} cores (load {load:.1f}, OMP_NUM_THREADS {threads}), {device}"
    return f"{where}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main()
