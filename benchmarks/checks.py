"""What the look at the samples of a recording takes before it is sorted: 10 minutes of 1,024 channels on disk.

A flat binary file of 24 GB is made without writing it: a sparse file whose sampled windows alone hold noise. Run it
from the repository: ``python benchmarks/checks.py``. The page cache holds the windows, as after a copy.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

N_REPEATS, FS_HZ, SECONDS = 5, 20_000.0, 600
REACH_S = 2.0


def main() -> None:
    print(f"{machine()}\n")
    print("| what | median (s) | from | to | CPU (s) | to reach |")
    print("|---|---:|---:|---:|---:|---:|")
    for n_channels, n_columns, dtype in ((1024, 32, "uint16"), (384, 4, "int16"), (64, 8, "int16"), (64, 8, "float32")):
        with tempfile.TemporaryDirectory() as folder:
            recording = _recording(Path(folder, "recording.bin"), n_channels, n_columns, dtype)
            cpu_s = time.process_time()
            seconds = [_judged_s(recording) for _ in range(N_REPEATS)]
            cpu_s = (time.process_time() - cpu_s) / N_REPEATS
        what = f"{SECONDS // 60} min of {n_channels} channels, {dtype}"
        reach = f"{REACH_S:g}" if n_channels == 1024 else ""
        taken = (statistics.median(seconds), min(seconds), max(seconds), cpu_s)
        print(f"| {what} | {' | '.join(f'{value:.2f}' for value in taken)} | {reach} |")
    print(f"\nPeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB.")


def _judged_s(recording: Any) -> float:
    from spikelab.spike_sorting.samples.verdict import judge

    started = time.perf_counter()
    verdict = judge(recording)
    seconds = time.perf_counter() - started
    assert not verdict.is_bad.any(), verdict.bad
    assert not verdict.misread, verdict.misread
    return seconds


def _recording(path: Path, n_channels: int, n_columns: int, dtype: str) -> Any:
    from probeinterface import generate_multi_columns_probe
    from spikeinterface.core import read_binary

    n_samples = int(SECONDS * FS_HZ)
    with path.open("wb") as file:
        file.truncate(n_samples * n_channels * np.dtype(dtype).itemsize)
    recording = read_binary(path, FS_HZ, dtype, n_channels, gain_to_uV=1.0, offset_to_uV=0.0)
    probe = generate_multi_columns_probe(num_columns=n_columns, num_contact_per_column=n_channels // n_columns)
    probe.set_device_channel_indices(np.arange(n_channels))
    recording.set_probe(probe)
    _fill_windows(path, recording, dtype)
    return recording


def _fill_windows(path: Path, recording: Any, dtype: str) -> None:
    """Write noise where the look reads: into windows, found by a recording that notes what is read of it."""
    rng = np.random.default_rng(0)
    file = np.memmap(path, dtype=dtype, mode="r+", shape=(recording.get_num_samples(), recording.get_num_channels()))
    block = np.cumsum(rng.normal(0, 5, (1000, recording.get_num_channels())), axis=0).astype("float32")
    block += 500 - block.mean(axis=0) + rng.normal(0, 5, block.shape)
    for start in _starts(recording):
        file[start : start + len(block)] = np.roll(block, start % 997, axis=0).astype(dtype)
    file.flush()


def _starts(recording: Any) -> list[int]:
    from spikelab.spike_sorting.samples.glance import glance_at

    starts: list[int] = []

    class Noting:
        sampling_frequency = recording.sampling_frequency

        def get_num_samples(self) -> int:
            return int(recording.get_num_samples())

        def get_num_channels(self) -> int:
            return int(recording.get_num_channels())

        def get_traces(self, start_frame: int, end_frame: int) -> Any:
            starts.append(start_frame)
            return np.zeros((end_frame - start_frame, 1))

    glance_at(Noting())
    return starts


if __name__ == "__main__":
    main()
