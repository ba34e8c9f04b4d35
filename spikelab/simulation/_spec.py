"""What a simulation is asked for, and the arithmetic that needs nothing but numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DTYPES = ("int16", "uint16")
# Below this SpikeInterface's waveform has a depolarisation of less than one sample.
MIN_FS_HZ = 12_000.0


@dataclass(frozen=True)
class SimulationSpec:
    """Everything that decides the samples of a simulated recording; plain values that JSON can hold.

    The fields are the arguments of `simulate_recording`, checked, with nothing left open.
    """

    layout: str
    n_channels: int
    duration_s: float
    n_units: int
    fs_Hz: float
    seed: int
    drift: bool
    noise_uV: float
    peak_uV: tuple[float, float]
    rate_Hz: tuple[float, float]
    gain_uV: float
    offset_uV: float
    dtype: str

    def __post_init__(self) -> None:
        _check_numbers(self)
        for name in ("peak_uV", "rate_Hz"):
            # Lists when the spec comes from JSON.
            object.__setattr__(self, name, as_range(name, getattr(self, name)))

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        return round(self.duration_s * self.fs_Hz)

    def seed_of(self, step: str) -> int:
        """Return a seed of its own for a step, so that no two steps draw the same numbers."""
        words = np.random.SeedSequence([self.seed, *step.encode()]).generate_state(1)
        return int(words[0])


def default_n_units(n_channels: int) -> int:
    """Return one unit for every three channels, at least 4."""
    return max(4, n_channels // 3)


def quantise(
    traces_uV: npt.NDArray[np.floating], gain_uV: float, offset_uV: float, dtype: str
) -> npt.NDArray[np.integer]:
    """Return ``round((uV - offset) / gain)``, clipped to the dtype.

    Parameters
    ----------
    traces_uV : ndarray, any shape, float
        Voltages (uV).
    gain_uV : float
        Size of one step (uV).
    offset_uV : float
        Voltage of the sample value 0 (uV).
    dtype : str
        An integer dtype.

    Returns
    -------
    ndarray, same shape, dtype
        Samples; halves go to the even neighbour.
    """
    limits = np.iinfo(dtype)
    # float64: a float32 quotient would round some samples to the other neighbour.
    steps = np.rint((traces_uV.astype(np.float64) - offset_uV) / gain_uV)
    samples: npt.NDArray[np.integer] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return samples


def _check_numbers(spec: SimulationSpec) -> None:
    check_at_least("fs_Hz", spec.fs_Hz, MIN_FS_HZ)
    _check_positive("duration_s", spec.duration_s)
    check_at_least("duration_s", spec.duration_s, 1 / spec.fs_Hz)
    _check_positive("gain_uV", spec.gain_uV)
    check_at_least("noise_uV", spec.noise_uV, 0.0)
    check_at_least("n_units", spec.n_units, 0)
    check_at_least("seed", spec.seed, 0)
    check_at_least("offset_uV", spec.offset_uV, -math.inf)
    _check_dtype(spec.dtype)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        message = f"{name} must be a finite number above 0, but is {value!r}."
        raise ValueError(message)


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError for a number below `least`, or none."""
    if not (value >= least and math.isfinite(value)):
        message = f"{name} must be a finite number of at least {least:g}, but is {value!r}."
        raise ValueError(message)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        message = f"dtype must be one of {', '.join(DTYPES)}, as recording systems write, but is {dtype!r}."
        raise ValueError(message)


def as_range(name: str, bounds: Sequence[float]) -> tuple[float, float]:
    """Return bounds as (low, high), or raise ValueError where they are none."""
    values = tuple(float(bound) for bound in bounds)
    if len(values) != 2 or not 0 < values[0] <= values[1] < math.inf:
        message = f"{name} must be (low, high) with 0 < low <= high, but is {bounds!r}."
        raise ValueError(message)
    return values[0], values[1]
