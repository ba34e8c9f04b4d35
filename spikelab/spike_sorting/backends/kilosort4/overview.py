"""What a report shows of Kilosort4's own view: drift of each batch, and a sample of the spikes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelab.spike_sorting.backends.overview import MAX_SPIKES, Overview


def make_overview(folder: Path, ops: Mapping[str, Any], first_sample: int, n_samples: int) -> Overview:
    """Return the overview of a sort.

    Parameters
    ----------
    folder : Path
        Kilosort4's files for Phy.
    ops : mapping
        Kilosort's state at the end.
    first_sample : int
        Sample of the recording at which sorting began.
    n_samples : int
        Samples that were sorted.
    """
    fs_Hz = float(ops["fs"])
    samples = np.load(folder / "spike_times.npy", mmap_mode="r")
    drawn = _drawn(samples, range(first_sample, first_sample + n_samples))
    positions = np.load(folder / "spike_positions.npy", mmap_mode="r")
    amplitudes = np.load(folder / "amplitudes.npy", mmap_mode="r")
    times_s, depths_um, drift_um = _drift(ops, first_sample / fs_Hz)
    return Overview(
        n_spikes=np.asarray(len(samples), dtype=np.int64),
        time_s=(samples[drawn] / fs_Hz).astype(np.float32),
        depth_um=positions[drawn, 1].astype(np.float32),
        amplitude=amplitudes[drawn].astype(np.float32),
        drift_time_s=times_s,
        drift_depth_um=depths_um,
        drift_um=drift_um,
    )


def _drawn(samples: NDArray[np.int64], sorted_samples: range) -> NDArray[np.int64]:
    """Return the spikes of the sample, in their order; with a generator of its own, as the global one is the sort's."""
    n_spikes = len(samples)
    if n_spikes <= MAX_SPIKES:
        drawn = np.arange(n_spikes)
    else:
        # A permutation would hold a number for every spike of the recording.
        drawn = np.unique(np.random.default_rng(0).integers(n_spikes, size=MAX_SPIKES))
    at = samples[drawn]
    return drawn[(at >= sorted_samples.start) & (at < sorted_samples.stop)]


def _drift(ops: Mapping[str, Any], begin_s: float) -> tuple[NDArray[np.float32], ...]:
    """Return times (s), depths (um) and drift (um) of each batch and block; all empty where it was not estimated."""
    drift_um = ops.get("dshift")
    if drift_um is None:
        return np.empty(0, "float32"), np.empty(0, "float32"), np.empty((0, 0), "float32")
    settings = ops["settings"]
    batch_s = settings["batch_size"] / ops["fs"]
    first_of_batch_s = np.arange(len(drift_um)) * settings.get("batch_downsampling", 1) * batch_s
    times_s = begin_s + first_of_batch_s + batch_s / 2
    return times_s.astype("float32"), np.asarray(ops["yblk"], "float32"), np.asarray(drift_um, "float32")
