"""Curation of large results: criteria, the search for merges, redundant units, and metrics from raw data.

The first three on 1,000 units with 10,000,000 spikes of an hour on a grid of 1,024 channels; the last one on 100 units
of 64 channels and 60 s at 20 kHz, int16 on disk, against SpikeInterface and against a loop that filters for each unit.
Each job runs in a fresh process with one thread. CPU seconds are those of that process, which other work on the machine
does not lengthen. Run it from the repository: ``python benchmarks/curation.py``.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

N_REPEATS = 3
FS_HZ = 20_000.0
SIDE, PITCH_UM = 32, 17.5
N_UNITS, N_SPIKES, HOUR_MS = 1000, 10_000_000, 3_600_000.0
RAW_CHANNELS, RAW_UNITS, RAW_S = 64, 100, 60
N_LOOPED = 3
"""Units of the loop that are measured: the others would take as long."""


def main() -> None:
    print(f"{machine()}\n")
    print("| what | median (s) | from | to | CPU (s) | peak memory (MB) | of it the data (MB) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    medians: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_traces(Path(folder))
        for what in JOBS:
            rows = [_in_a_process(what, folder) for _ in range(N_REPEATS)]
            wall, cpu = ([row[name] for row in rows] for name in ("wall_s", "cpu_s"))
            medians[what] = statistics.median(cpu)
            peak, before = (max(row[name] for row in rows) for name in ("peak_MB", "before_MB"))
            print(
                f"| {what} | {statistics.median(wall):.2f} | {min(wall):.2f} | {max(wall):.2f} | {medians[what]:.2f} "
                f"| {peak:.0f} | {before:.0f} |",
                flush=True,
            )
    ours, theirs, loop = (medians[what] for what in list(JOBS)[-3:])
    print(
        f"\nMetrics from raw data: 1/{loop / ours:.0f} of the loop's CPU time, {ours / theirs:.2f} of SpikeInterface's."
    )


def _in_a_process(what: str, folder: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, what, folder],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


# ------------------------------------------------------------------------------------------------ a large result


def _large() -> Any:
    from spikelab.spikedata import SpikeData

    rng = np.random.default_rng(0)
    shares = rng.lognormal(0.0, 0.7, N_UNITS)
    counts = np.maximum((shares / shares.sum() * N_SPIKES).astype(int), 100)
    positions_um = rng.uniform(0, SIDE * PITCH_UM, (N_UNITS, 2))
    attributes = [
        {"unit_id": unit, "position": positions_um[unit], "avg_waveform": _waveform(rng, positions_um[unit]),
         "snr": 8.0, "std_norm": 0.3, "presence_ratio": 1.0, "amplitude": float(rng.uniform(30, 200))}
        for unit in range(N_UNITS)
    ]  # fmt: skip
    trains = [_train(rng, count) for count in counts.tolist()]
    return SpikeData(trains, length=HOUR_MS, neuron_attributes=attributes, metadata={"fs_Hz": FS_HZ})


def _train(rng: np.random.Generator, n_spikes: int) -> np.ndarray:
    refractory_ms = min(3.0, 0.5 * HOUR_MS / n_spikes)
    free_ms = HOUR_MS - refractory_ms * n_spikes - 10.0
    return np.sort(rng.uniform(0, free_ms, n_spikes)) + np.arange(n_spikes) * refractory_ms + 5.0


def _waveform(rng: np.random.Generator, position_um: np.ndarray) -> np.ndarray:
    grid_um = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2) * PITCH_UM
    reach = np.exp(-np.linalg.norm(grid_um - position_um, axis=1) / 25.0)
    shape = -np.exp(-0.5 * ((np.arange(80) - 40 + rng.integers(-3, 4)) / 3.0) ** 2)
    waveform = np.array(rng.uniform(30, 200) * np.outer(reach, shape), dtype=np.float32)
    waveform += rng.normal(0, 0.5, waveform.shape).astype(np.float32)
    waveform.flags.writeable = False  # so that SpikeData need not copy it
    return waveform


def _criteria(_: Path) -> Callable[[], Any]:
    sd = _large()
    limits = {"min_spikes": 30, "min_rate_hz": 0.05, "isi_max": 1.0, "min_snr": 5.0, "max_std_norm": 1.0}
    return partial(sd.curate, **limits, metrics={"presence_ratio": (">=", 0.9)})


def _merges(_: Path) -> Callable[[], Any]:
    sd = _large()
    return partial(sd.curate_by_merge_duplicates, dry_run=True)


def _redundancy(_: Path) -> Callable[[], Any]:
    sd = _large()
    return partial(sd.curate_by_redundancy)


# ------------------------------------------------------------------------------------------------ raw data


def _write_traces(folder: Path) -> None:
    rng = np.random.default_rng(1)
    n_samples = int(RAW_S * FS_HZ)
    raw = np.memmap(folder / "raw.bin", dtype="int16", mode="w+", shape=(RAW_CHANNELS, n_samples))
    for channel in range(RAW_CHANNELS):
        raw[channel] = np.rint(rng.normal(0, 30, n_samples))
    raw.flush()


def _with_raw(folder: Path) -> Any:
    from spikelab.spikedata import SpikeData

    rng = np.random.default_rng(2)
    n_samples = int(RAW_S * FS_HZ)
    raw = np.memmap(folder / "raw.bin", dtype="int16", mode="r", shape=(RAW_CHANNELS, n_samples))
    trains = [np.sort(rng.choice(n_samples - 200, 500, replace=False) + 100) / FS_HZ * 1000.0 for _ in range(RAW_UNITS)]
    return SpikeData(trains, length=RAW_S * 1000.0, raw_data=raw, raw_time=FS_HZ / 1000.0)


def _ours(folder: Path) -> Callable[[], Any]:
    sd = _with_raw(folder)
    return partial(sd.compute_waveform_metrics)


def _theirs(folder: Path) -> Callable[[], Any]:
    from spikeinterface import create_sorting_analyzer
    from spikeinterface.core import BinaryRecordingExtractor
    from spikeinterface.preprocessing import bandpass_filter

    sorting = _with_raw(folder).to_sorting(FS_HZ)
    recording = BinaryRecordingExtractor(
        folder / "raw.bin", FS_HZ, "int16", num_channels=RAW_CHANNELS, time_axis=1, gain_to_uV=1.0, offset_to_uV=0.0
    )
    grid = np.column_stack([np.zeros(RAW_CHANNELS), 20.0 * np.arange(RAW_CHANNELS)])
    recording.set_dummy_probe_from_locations(grid)

    def run() -> None:
        filtered = bandpass_filter(recording, 300, 6000, dtype="float32")
        analyzer = create_sorting_analyzer(sorting, filtered, sparse=False, format="memory")
        templates = {"operators": ["average", "std"], "ms_before": 1.0, "ms_after": 2.0}
        wanted = {"random_spikes": {"max_spikes_per_unit": 300}, "templates": templates, "noise_levels": {},
                  "quality_metrics": {"metric_names": ["snr"]}}  # fmt: skip
        analyzer.compute(wanted, n_jobs=1, progress_bar=False)

    return run


def _loop(folder: Path) -> Callable[[], Any]:
    """Return a loop that filters the whole trace for each unit; its time is scaled to all units."""
    from scipy.signal import butter, sosfiltfilt

    sd = _with_raw(folder)
    sections = butter(5, (300, 6000), "bandpass", fs=FS_HZ, output="sos")

    def run() -> None:
        for train in sd.train[:N_LOOPED]:
            filtered = sosfiltfilt(sections, np.asarray(sd.raw_data), axis=1)
            noise = np.median(np.abs(filtered), axis=1) / 0.6745
            samples = np.rint(train[:300] * FS_HZ / 1000.0).astype(int)
            mean = np.mean([filtered[:, sample - 20 : sample + 40] for sample in samples], axis=0)
            np.abs(mean).max(axis=1) / noise

    return run


JOBS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "all criteria, 1,000 units, 10^7 spikes": _criteria,
    "search for merges, the same on 1,024 channels": _merges,
    "redundant units, the same": _redundancy,
    "SNR and std_norm of 100 units from raw data": _ours,
    "the same with SpikeInterface": _theirs,
    f"a loop that filters for each unit (of {N_LOOPED}, scaled)": _loop,
}


def _measure(what: str, folder: Path) -> None:
    run = JOBS[what](folder)
    before_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    scale = RAW_UNITS / N_LOOPED if JOBS[what] is _loop else 1.0
    peak_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall_s": wall_s * scale, "cpu_s": cpu_s * scale, "peak_MB": peak_MB, "before_MB": before_MB}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _measure(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
