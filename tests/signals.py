"""Signals as amplifiers give them: coloured noise, what channels share, spikes, and faults put into them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from probeinterface import generate_linear_probe, generate_multi_columns_probe
from scipy.signal import butter, sosfilt
from spikeinterface.core import NumpyRecording

FS_HZ = 20_000.0


def signal(
    n_channels: int = 16, seconds: float = 2.0, dtype: str = "int16", seed: int = 1, *, is_white: bool = False
) -> NDArray[Any]:
    """Return noise of 20 steps, of the band of an amplifier, with a slow part that neighbours share."""
    rng = np.random.default_rng(seed)
    n_samples = int(seconds * FS_HZ)
    noise = rng.normal(0, 20, (n_samples, n_channels))
    if is_white:
        return noise.astype(dtype)
    fast = sosfilt(butter(2, (100, 7000), "bandpass", fs=FS_HZ, output="sos"), noise, axis=0)
    slow = sosfilt(butter(2, 100, fs=FS_HZ, output="sos"), rng.normal(0, 300, (n_samples, 1)), axis=0)
    return (fast + slow * np.linspace(0.5, 1, n_channels)).astype(dtype)


def recording_of(traces: NDArray[Any], gain_uV: float | None = 1.0, *, n_columns: int = 1) -> Any:
    """Return a recording of `traces` on a probe of so many columns."""
    n_channels = traces.shape[1]
    recording = NumpyRecording([traces], FS_HZ)
    if n_columns == 1:
        probe = generate_linear_probe(n_channels)
    else:
        probe = generate_multi_columns_probe(num_columns=n_columns, num_contact_per_column=n_channels // n_columns)
    probe.set_device_channel_indices(np.arange(n_channels))
    recording.set_probe(probe)
    if gain_uV is not None:
        recording.set_channel_gains(gain_uV)
        recording.set_channel_offsets(0.0)
    return recording
