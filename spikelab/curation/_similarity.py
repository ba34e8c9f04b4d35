"""How much the average waveforms of neighbouring units resemble each other, for many pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.curation._result import Floats

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

Ints = npt.NDArray[np.int64]
Waveforms = Sequence[npt.NDArray[np.float32]]
"""Average waveform of each unit, shape (channels, samples), all alike."""

DEFINED_SHARE = 0.1
"""A waveform is defined on the channels whose peak-to-peak amplitude reaches this share of its largest."""

_BATCH_VALUES = 2**21  # 8 MB of float32 for each of the two sides


@dataclass(frozen=True)
class Pairs:
    """Pairs of units and what connects them; all arrays have shape (n_pairs,)."""

    first: Ints
    second: Ints
    distance_um: Floats
    similarity: Floats
    """Best cosine of the two average waveforms over all lags."""
    lag: Ints
    """Samples by which the second unit's spikes are moved so that its waveform falls on the first one's."""


def read_waveforms(sd: SpikeData) -> Waveforms:
    """Return the attribute ``avg_waveform`` of all units.

    Raises
    ------
    ValueError
        When a unit lacks it, or the units differ in its shape; the message names the unit.
    """
    waveforms = [_read_waveform(attributes, unit) for unit, attributes in enumerate(sd.neuron_attributes)]
    for unit, waveform in enumerate(waveforms):
        if waveform.shape != waveforms[0].shape:
            msg = (
                "avg_waveform must have one shape (channels, samples) for all units, found "
                f"{waveforms[0].shape} at unit 0 and {waveform.shape} at unit {unit}"
            )
            raise ValueError(msg)
    return waveforms


def _read_waveform(attributes: dict[str, Any], unit: int) -> npt.NDArray[np.float32]:
    stored = attributes.get("avg_waveform")
    if stored is None:
        msg = (
            f"unit {unit} has no attribute 'avg_waveform' (channels, samples), which comparing waveforms needs; set "
            "it with sd.set_neuron_attribute('avg_waveform', waveforms)"
        )
        raise ValueError(msg)
    waveform = np.atleast_2d(np.asarray(stored, dtype=np.float32))
    if waveform.ndim != 2 or not np.isfinite(waveform).all():
        msg = f"avg_waveform of unit {unit} must be finite numbers (channels, samples), found shape {waveform.shape}"
        raise ValueError(msg)
    return waveform


def defined_channels(waveform: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return on which channels a waveform (channels, samples) is more than what noise leaves of an average."""
    reach = np.ptp(waveform, axis=1) if waveform.shape[1] else np.zeros(len(waveform))
    defined: npt.NDArray[np.bool_] = reach >= DEFINED_SHARE * max(reach.max(initial=0.0), np.finfo(np.float32).tiny)
    return defined


def compare_neighbours(positions_um: Floats, waveforms: Waveforms, dist_um: float, max_lag: int) -> Pairs:
    """Return all pairs of units at most `dist_um` apart, with the similarity of their waveforms.

    Parameters
    ----------
    positions_um : ndarray, shape (N, 2)
        A unit whose position is not finite has no neighbours.
    waveforms : sequence of ndarray, shape (channels, samples)
        Average waveforms.
    dist_um : float
        Largest distance (um).
    max_lag : int
        Largest shift of one waveform against the other (samples).
    """
    first, second = _neighbours(positions_um, dist_um)
    distance_um = np.linalg.norm(positions_um[first] - positions_um[second], axis=1)
    similarity, lag = best_cosine(waveforms, first, second, max_lag)
    return Pairs(first, second, distance_um, similarity, lag)


def _neighbours(positions_um: Floats, dist_um: float) -> tuple[Ints, Ints]:
    from scipy.spatial import KDTree

    placed = np.flatnonzero(np.isfinite(positions_um).all(axis=1))
    if placed.size < 2:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    pairs = placed[KDTree(positions_um[placed]).query_pairs(dist_um, output_type="ndarray")].reshape(-1, 2)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[:, 0], pairs[:, 1]


def best_cosine(waveforms: Waveforms, first: Ints, second: Ints, max_lag: int) -> tuple[Floats, Ints]:
    """Return the largest cosine of each pair over all lags, and that lag; of equal ones, the shortest.

    Channels are shifted one by one: what leaves a channel at its end is gone. Both norms are those of the whole
    waveforms on the channels where either is defined, so a lag that pushes a spike out of its window costs.
    """
    similarity, lag = np.zeros(first.size), np.zeros(first.size, dtype=np.int64)
    if not first.size:
        return similarity, lag
    defined = np.array([defined_channels(waveform) for waveform in waveforms])
    for batch in _batches(defined[first] | defined[second], waveforms[0].shape[1]):
        channels = defined[first[batch]] | defined[second[batch]]
        one, other = (_gather(waveforms, units[batch], channels) for units in (first, second))
        similarity[batch], lag[batch] = _best_lag(one, other, min(max_lag, one.shape[2] - 1))
    return similarity, lag


def _batches(channels: npt.NDArray[np.bool_], n_samples: int) -> Iterator[Ints]:
    """Yield pairs that have about as many channels, as many as fit into a batch."""
    counts = channels.sum(axis=1)
    order = np.argsort(counts, kind="stable")
    while order.size:
        width = max(int(counts[order[-1]]) * n_samples, 1)
        size = max(_BATCH_VALUES // width, 1)
        yield order[-size:]
        order = order[:-size]


def _gather(waveforms: Waveforms, units: Ints, channels: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the waveforms of the units on the channels of each pair, zero beyond, shape (pairs, channels, samples)."""
    n_samples = waveforms[0].shape[1]
    gathered = np.zeros((units.size, max(int(channels.sum(axis=1).max()), 1), n_samples), dtype=np.float32)
    for row, (unit, chosen) in enumerate(zip(units.tolist(), channels, strict=True)):
        part = waveforms[unit][chosen]
        gathered[row, : len(part)] = part
    return gathered


def _best_lag(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], max_lag: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    n_samples = one.shape[2]
    norms = np.sqrt(np.einsum("pks,pks->p", one, one) * np.einsum("pks,pks->p", other, other)).astype(np.float64)
    best, lag = np.full(len(one), -np.inf), np.zeros(len(one), dtype=np.int64)
    for shift in sorted(range(-max_lag, max_lag + 1), key=abs):
        here = slice(max(-shift, 0), n_samples - max(shift, 0))
        there = slice(max(shift, 0), n_samples - max(-shift, 0))
        product = np.einsum("pks,pks->p", one[:, :, here], other[:, :, there]).astype(np.float64)
        # A hair of float32's rounding must not prefer a long lag to a short one.
        better = product > best + 1e-6 * norms
        best, lag = np.where(better, product, best), np.where(better, shift, lag)
    return np.divide(best, norms, out=np.zeros(len(one)), where=norms > 0), lag
