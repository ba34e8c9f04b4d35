"""One unit made of two: its train, and what is known about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.curation._ids import UnitId
from spikelab.curation._result import Floats
from spikelab.curation._similarity import defined_channels
from spikelab.curation._union import Union, unite

Attributes = dict[str, Any]

_OF_THE_PLACE = ("channel", "channel_id", "electrode", "x", "y", "has_pos_peak")
"""Attributes that tell of the channel where a unit is largest: taken together from one of the two."""
_WAVEFORMS = ("avg_waveform", "template_full")
_STALE = (
    "ks_contam_pct", "presence_ratio", "amplitude_cutoff", "amplitude_median", "rp_contamination", "rp_violations",
    "isi_violations_ratio", "isi_violations_count", "sliding_rp_violation", "contamination_pct", "noise_cutoff",
    "drift_ptp", "drift_std", "drift_mad", "sd_ratio", "firing_range", "amplitude_cv_median", "amplitude_cv_range",
    "isolation_distance", "l_ratio", "d_prime", "silhouette", "nn_hit_rate", "nn_miss_rate",
)  # fmt: skip
"""Quality metrics that the numbers of two units do not give, unless they are measured again."""


@dataclass(frozen=True)
class Member:
    """A unit on its way into another one.

    Parameters
    ----------
    train_ms : ndarray, shape (n_spikes,), float64
        Its spikes, ascending.
    attributes : dict
        What is known about it.
    name : int, float or str
        How a record names it.
    """

    train_ms: Floats
    attributes: Attributes
    name: UnitId


def absorb(into: Member, unit: Member, shift: Shift) -> Member:
    """Return `into` with the spikes of `unit`, and its attributes anew; its name stays."""
    moved = np.clip(unit.train_ms + shift.lag_ms, *shift.bounds_ms)
    union = unite(into.train_ms, moved, shift.delta_ms)
    weights = (into.train_ms.size, union.order.size - into.train_ms.size)
    attributes = merge_attributes(into, unit, union, weights, shift.lag_samples)
    names = [*_names(into), *_names(unit)]
    return Member(union.times_ms, attributes | {"merged_from": names}, into.name)


@dataclass(frozen=True)
class Shift:
    """How one train is laid on another.

    Parameters
    ----------
    lag_ms : float
        By how much it is moved (ms).
    lag_samples : int
        The same in samples, for its waveform.
    delta_ms : float
        Spikes at most this far apart are one (ms).
    bounds_ms : tuple of float
        First and last time of the recording (ms), beyond which no spike is moved.
    """

    lag_ms: float
    lag_samples: int
    delta_ms: float
    bounds_ms: tuple[float, float]


def _names(member: Member) -> list[UnitId]:
    return list(member.attributes.get("merged_from", [member.name]))


def merge_attributes(
    into: Member, unit: Member, union: Union, weights: tuple[int, int], lag_samples: int
) -> Attributes:
    """Return the attributes of two units that are one: weighted by their spikes, or unknown (NaN)."""
    one, other = into.attributes, unit.attributes
    merged = {name: value for name, value in one.items() if not _is_per_spike(name, value, into)}
    merged |= _joined_per_spike(into, unit, union)
    merged |= {name: math.nan for name in _STALE if name in merged}
    for name in ("position", "amplitude", "ks_amplitude"):
        if name in one and name in other:
            merged[name] = _mean(one[name], other[name], weights)
    for name in _WAVEFORMS:
        if name in one and name in other and np.shape(one[name]) == np.shape(other[name]):
            axis = -1 if name == "avg_waveform" else 0
            merged[name] = _mean_waveform(one[name], other[name], weights, lag_samples, axis)
    merged |= _template_of(merged)
    return merged | _of_the_largest_channel(one, other, merged, weights)


def _is_per_spike(name: str, value: Any, member: Member) -> bool:
    return name.startswith("spike_") and np.ndim(value) > 0 and len(value) == member.train_ms.size


def _joined_per_spike(into: Member, unit: Member, union: Union) -> Attributes:
    """Return the attributes that have one entry per spike in both units, in the order of the union."""
    return {
        name: np.concatenate([value, np.asarray(unit.attributes[name])[union.kept]])[union.order]
        for name, value in into.attributes.items()
        if _is_per_spike(name, value, into) and _is_per_spike(name, unit.attributes.get(name), unit)
    }


def _mean(one: Any, other: Any, weights: tuple[int, int]) -> Any:
    total = max(sum(weights), 1)
    values = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    mean = values[0] + (values[1] - values[0]) * (weights[1] / total)
    return float(mean) if mean.ndim == 0 else mean


def _mean_waveform(
    one: npt.NDArray[Any], other: npt.NDArray[Any], weights: tuple[int, int], lag: int, axis: int
) -> npt.NDArray[Any]:
    """Return the average of all spikes of both; where the moved window ends, that of the first one's alone."""
    here, there = np.moveaxis(np.array(one, dtype=np.float64), axis, 0), np.moveaxis(np.asarray(other), axis, 0)
    n_samples = len(here)
    inside = slice(max(-lag, 0), max(n_samples - max(lag, 0), 0))
    moved = there[max(lag, 0) : max(n_samples - max(-lag, 0), 0)]
    here[inside] += (moved - here[inside]) * (weights[1] / max(sum(weights), 1))
    return np.ascontiguousarray(np.moveaxis(here, 0, axis), dtype=np.asarray(one).dtype)


def _template_of(merged: Mapping[str, Any]) -> Attributes:
    """Return the template (samples, channels) on the channels on which the merged waveform is defined."""
    if "template" not in merged or "avg_waveform" not in merged:
        return {}
    on = np.flatnonzero(defined_channels(np.atleast_2d(merged["avg_waveform"])))
    template = np.ascontiguousarray(np.atleast_2d(merged["avg_waveform"])[on].T, dtype=np.float32)
    return {"template": template, **({"template_channels": on} if "template_channels" in merged else {})}


# -------------------------------------------------------------------------------- where the merged unit is largest


def _of_the_largest_channel(
    one: Attributes, other: Attributes, merged: Attributes, weights: tuple[int, int]
) -> Attributes:
    """Return what is true at the largest channel: its place, SNR and spread, from the unit that has it."""
    if "avg_waveform" not in merged or "avg_waveform" not in other:
        return {}
    height_uV = _peak(merged["avg_waveform"])
    heights_uV = _peak(one["avg_waveform"]), _peak(other["avg_waveform"])
    channels = [np.abs(np.atleast_2d(unit["avg_waveform"])).max(axis=1).argmax() for unit in (one, other)]
    by_channel = np.abs(np.atleast_2d(merged["avg_waveform"])).max(axis=1)
    source, own_uV = (one, heights_uV[0])
    if by_channel[channels[1]] > by_channel[channels[0]]:
        source, own_uV = (other, heights_uV[1])
    changed = {name: source[name] for name in _OF_THE_PLACE if name in one and name in source}
    if "snr" in one and source.get("snr") is not None:
        changed["snr"] = _scaled(source["snr"], height_uV, own_uV)
    if "std_norm" in one and other.get("std_norm") is not None:
        changed["std_norm"] = _spread((one, other), heights_uV, height_uV, weights)
    return changed


def _peak(waveform: npt.NDArray[Any]) -> float:
    return float(np.abs(waveform).max(initial=0.0))


def _scaled(value: float, new: float, old: float) -> float:
    """Return an SNR whose noise stays while the peak changes."""
    return float(value) * new / old if old > 0 else math.nan


def _spread(
    units: tuple[Attributes, Attributes], heights_uV: tuple[float, float], height_uV: float, weights: tuple[int, int]
) -> float:
    """Return the deviation of all spikes over their peak: that within both units, and that between them."""
    if height_uV <= 0:
        return math.nan
    n_all = max(sum(weights), 1)
    within = [(float(unit["std_norm"]) * height) ** 2 for unit, height in zip(units, heights_uV, strict=True)]
    mean_within = (weights[0] * within[0] + weights[1] * within[1]) / n_all
    between = weights[0] * weights[1] / n_all**2 * (heights_uV[0] - heights_uV[1]) ** 2
    return math.sqrt(mean_within + between) / height_uV
