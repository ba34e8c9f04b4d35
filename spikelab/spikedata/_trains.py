"""Spike trains: what is accepted, and the way from one vector of all spikes and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._values import freeze

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def sort_trains(train: Sequence[Any], n_units: int | None) -> tuple[list[Floats], list[Ints | None]]:
    """Return every train sorted and read-only, and the order that sorted it (None: it was sorted).

    Raises
    ------
    ValueError
        When a train is no vector of finite numbers, or there are more trains than units.
    """
    if n_units is not None and n_units < len(train):
        msg = f"N must be at least the number of trains ({len(train)}), got {n_units}"
        raise ValueError(msg)
    n_silent = 0 if n_units is None else n_units - len(train)
    pairs = [_sort(unit, times) for unit, times in enumerate([*train, *([()] * n_silent)])]
    return [times for times, _ in pairs], [order for _, order in pairs]


def _sort(unit: int, times: Any) -> tuple[Floats, Ints | None]:
    vector = _as_vector(unit, times)
    if bool(np.all(vector[1:] >= vector[:-1])) and np.isfinite(vector[[0, -1]] if vector.size else vector).all():
        return freeze(vector), None
    if not np.isfinite(vector).all():
        n_bad = int((~np.isfinite(vector)).sum())
        msg = f"train of unit {unit} must be finite (ms), found {n_bad} NaN or infinite times; drop them"
        raise ValueError(msg)
    order = np.argsort(vector, kind="stable")
    return freeze(vector[order]), order


def _as_vector(unit: int, times: Any) -> Floats:
    try:
        vector = np.asarray(times)
    except (TypeError, ValueError) as error:
        msg = f"train of unit {unit} must be a vector of spike times (ms): {error}"
        raise ValueError(msg) from error
    if vector.ndim != 1:
        hint = "; give one vector per unit, or a raster to SpikeData.from_raster" if vector.ndim > 1 else ""
        msg = f"train of unit {unit} must be a vector of spike times (ms), found shape {vector.shape}{hint}"
        raise ValueError(msg)
    # Text and dates would turn into numbers without a word, and a row of a raster into spikes at 0 and 1 ms.
    if vector.size and vector.dtype.kind not in "iuf":
        msg = f"train of unit {unit} must be a vector of spike times (ms), found {_name_kind(vector)}; convert it to ms"
        raise ValueError(msg)
    return vector.astype(np.float64, copy=False)


def _name_kind(vector: npt.NDArray[Any]) -> str:
    kinds = {"b": "booleans", "c": "complex numbers", "U": "text", "S": "bytes", "M": "dates", "m": "time spans"}
    return kinds.get(vector.dtype.kind, "objects")


def check_finite(field: str, value: float) -> float:
    """Return the value as a float, or raise ValueError."""
    if not math.isfinite(value):
        msg = f"{field} must be finite (ms), got {value}"
        raise ValueError(msg)
    return float(value)


def check_length(trains: Sequence[Floats], start_time: float, length: float | None) -> float:
    """Return the length (ms): as given, else up to the last spike.

    Raises
    ------
    ValueError
        When it is negative or infinite, or a spike lies outside the window.
    """
    if length is None:
        last = max((float(times[-1]) for times in trains if times.size), default=start_time)
        length = max(last - start_time, 0.0)
    if check_finite("length", length) < 0:
        msg = f"length must be zero or more (ms), got {length}"
        raise ValueError(msg)
    for unit, times in enumerate(trains):
        _check_inside(unit, times, start_time, start_time + length)
    return float(length)


def _check_inside(unit: int, times: Floats, start_time: float, end_time: float) -> None:
    # Ends are sums of rounded numbers: a few units in the last place are no disagreement.
    slack = 4 * np.spacing(max(abs(start_time), abs(end_time)))
    if times.size and (times[0] < start_time - slack or times[-1] > end_time + slack):
        n_outside = int(((times < start_time - slack) | (times > end_time + slack)).sum())
        msg = (
            f"train of unit {unit} must lie in [{start_time}, {end_time}] ms, found {n_outside} spikes "
            f"outside, in [{times[0]}, {times[-1]}]; check length, start_time and the unit of the times (ms)"
        )
        raise ValueError(msg)


def group_by_unit(idces: Any, times: Any, n_units: int | None) -> list[Floats]:
    """Return the times of each unit, in the order given.

    Raises
    ------
    ValueError
        When the two differ in length, or an index is negative, fractional or beyond `n_units`.
    """
    units, stamps = np.asarray(idces), np.asarray(times, dtype=np.float64)
    if units.shape != stamps.shape or units.ndim != 1:
        msg = f"idces and times must be vectors of one length, got shapes {units.shape} and {stamps.shape}"
        raise ValueError(msg)
    if units.size and units.dtype.kind not in "iu":
        msg = f"idces must be integers, got {units.dtype}"
        raise ValueError(msg)
    highest = int(units.max()) if units.size else -1
    n_units = highest + 1 if n_units is None else n_units
    if highest >= n_units or (units.size and units.min() < 0):
        msg = f"idces must lie in [0, {n_units}) for N={n_units}, found [{units.min()}, {highest}]"
        raise ValueError(msg)
    # numpy sorts 16-bit integers by radix, several times faster than 64-bit ones.
    narrow = units.astype(np.uint16) if n_units <= np.iinfo(np.uint16).max else units
    ordered = stamps[np.argsort(narrow, kind="stable")]
    ends = np.cumsum(np.bincount(units.astype(np.int64), minlength=n_units))
    return np.split(ordered, ends[:-1]) if n_units else []


def merge_trains(trains: Sequence[Floats]) -> tuple[Ints, Floats]:
    """Return unit indices and times of all spikes, ordered by time; spikes at one time in order of units."""
    units = np.repeat(np.arange(len(trains)), [times.size for times in trains])
    stamps = np.concatenate([np.zeros(0), *trains])
    order = np.argsort(stamps, kind="stable")
    return units[order], stamps[order]
