"""What the flat copy of a recording costs that Kilosort4 reads: time beside a plain copy, and memory.

The recording is a Maxwell file of 1,024 channels. One block of it is simulated, and the file repeats that block as an
HDF5 virtual dataset, so that minutes of it take no space; what is read, decoded, transposed and written is all of it.
A plain copy reads the decoded samples from a flat file and writes them to another one, block by block, to the disk.
Run it from the repository: ``python benchmarks/conversion.py [SECONDS]``; it takes 6 GB of the temporary folder.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _machine import machine

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting.backends import binary
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source, open_source
from spikelab.spike_sorting.supervision.progress import ProgressFile

N_CHANNELS, FS_HZ, BLOCK_S, TIMED_S, N_REPEATS = 1024, 20_000, 10, 20, 5
PLAIN = "plain copy of the decoded samples"
PIECE_S = 100
"""The long recording is converted in pieces of this length, so that its copy never needs more than 4.1 GB of disk."""
_PLAIN_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Cost:
    """What something took: seconds by the clock and of processors, and megabytes of all its processes together."""

    seconds: float
    cpu_s: float
    peak_MB: float


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory() as folder:
        block = _simulate_block(Path(folder, "block.raw.h5"))
        _print_times(Path(folder), block)
        _print_memory(Path(folder), block, seconds)


# ------------------------------------------------------------------------------------------ the recording


def _simulate_block(path: Path) -> Path:
    """Write a block of noise and spikes: one second of 1,024 channels, with other seconds made of it."""
    from spikeinterface.core import NumpyRecording

    truth = simulate_recording(
        "mea", n_channels=N_CHANNELS, duration_s=1, dtype="uint16", gain_uV=6.294, offset_uV=-512 * 6.294
    ).recording
    second = truth.get_traces()
    traces = np.concatenate([np.roll(second, 1000 * k, axis=0) for k in range(BLOCK_S)])
    recording = NumpyRecording([traces], float(FS_HZ))
    recording.set_probe(truth.get_probe())
    recording.set_channel_gains(6.294)
    recording.set_channel_offsets(-512 * 6.294)
    return write_maxwell(path, recording)


def _repeat(block: Path, path: Path, seconds: float) -> Path:
    """Write a Maxwell file that is `block` again and again, without its samples."""
    import h5py

    name, n_samples, n_block = "wells/well000/rec0000", round(seconds * FS_HZ), BLOCK_S * FS_HZ
    with h5py.File(block, "r") as source, h5py.File(path, "w") as file:
        file.create_dataset("version", data=source["version"][()])
        source.copy(f"{name}/settings", file.require_group(name))
        layout = h5py.VirtualLayout((N_CHANNELS, n_samples), dtype="<u2")
        samples = h5py.VirtualSource(source[f"{name}/groups/routed/raw"])
        for start in range(0, n_samples, n_block):
            end = min(start + n_block, n_samples)
            layout[:, start:end] = samples[:, : end - start]
        file.create_virtual_dataset(f"{name}/groups/routed/raw", layout)
    return path


# ----------------------------------------------------------------------------------------------- the time


def _print_times(folder: Path, block: Path) -> None:
    file = _repeat(block, folder / "timed.raw.h5", TIMED_S)
    recording = _open(file)
    decoded = folder / "decoded.bin"
    _convert(recording, folder, n_jobs=1).rename(decoded)
    n_cores = len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], object]] = {
        PLAIN: lambda: _plain_copy(decoded, folder / "plain.bin"),
        "from Maxwell's file, one process": lambda: _convert(recording, folder, n_jobs=1).unlink(),
        f"from Maxwell's file, {n_cores} processes": lambda: _convert(recording, folder, n_jobs=n_cores).unlink(),
    }
    costs: dict[str, list[Cost]] = {what: [] for what in ways}
    for _ in range(N_REPEATS):  # in turn: what else the machine does meets all of them
        for what, do in ways.items():
            costs[what].append(_measured(do))
    decoded.unlink()
    usual = statistics.median(cost.seconds for cost in costs[PLAIN])
    size_GB = 2 * N_CHANNELS * TIMED_S * FS_HZ / 1e9
    print(f"{machine()}\n\n{N_CHANNELS} channels, {TIMED_S} s at {FS_HZ} Hz, {size_GB:.1f} GB\n")
    print("| what | median (s) | from | to | of the plain copy | CPU (s) | peak memory (MB) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for what, measured in costs.items():
        times = [cost.seconds for cost in measured]
        peak = max(cost.peak_MB for cost in measured)
        median, cpu_s = statistics.median(times), statistics.median(cost.cpu_s for cost in measured)
        spread = f"{median:.1f} | {min(times):.1f} | {max(times):.1f}"
        print(f"| {what} | {spread} | {median / usual:.2f} | {cpu_s:.1f} | {peak:.0f} |")


def _plain_copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(_PLAIN_BLOCK_BYTES):
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())
    target.unlink()


# --------------------------------------------------------------------------------------------- the memory


def _print_memory(folder: Path, block: Path, seconds: float) -> None:
    recording = _open(_repeat(block, folder / "long.raw.h5", seconds))
    print(f"\n{N_CHANNELS} channels, {seconds / 60:g} min, all processes together\n")
    print("| total_memory | time (s) | peak memory (MB) |\n|---|---:|---:|")
    for total_memory in (None, "1G"):
        cost = _measured(lambda limit=total_memory: _in_pieces(recording, folder, limit))
        print(f"| {total_memory or 'not given'} | {cost.seconds:.0f} | {cost.peak_MB:.0f} |")


def _in_pieces(recording: Any, folder: Path, total_memory: str | None) -> None:
    n_samples, n_piece = recording.get_num_samples(), PIECE_S * FS_HZ
    for start in range(0, n_samples, n_piece):
        piece = recording.frame_slice(start, min(start + n_piece, n_samples))
        _convert(piece, folder, total_memory=total_memory).unlink()


# ---------------------------------------------------------------------------------------------- in common


def _open(file: Path) -> Any:
    return open_source(Source((str(file),), "well000"))[0]


def _convert(recording: Any, folder: Path, **execution: Any) -> Path:
    run = RunFolder(folder / "inter", folder / "results")
    run.inter.mkdir(exist_ok=True)
    job = SortJob(recording, folder, run, KILOSORT4.override(**execution), ProgressFile(run.progress, "sort"))
    run.remove_binary()
    return binary.flat_binary(job, "key").path


def _measured(do: Callable[[], object]) -> Cost:
    """Run `do` and return its time, and the peak of what this process and its children held together."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _resident_MB())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, before_s = time.perf_counter(), _cpu_s()
    do()
    seconds, cpu_s = time.perf_counter() - started, _cpu_s() - before_s
    done.set()
    watcher.join()
    return Cost(seconds, cpu_s, peak[0])


def _cpu_s() -> float:
    """Return the processor time of this process, and of the children that it has waited for (s)."""
    return sum(os.times()[:4])


def _resident_MB() -> float:
    total = 0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        total += memory.rss - memory.shared
    return total / 1e6


if __name__ == "__main__":
    main()
