"""Units that are the shadow of a larger one: what its template leaves behind fires whenever it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikelab.curation._result import CriterionResult, Floats, apply, judge, require_not_negative
from spikelab.curation.waveform_metrics import recall

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_SIZES = ("amplitude", "ks_amplitude")
"""Attributes that tell how large a unit is. The average waveform of a shadow is that of the unit which it follows, so
that amplitudes alone are as good as equal; the sorter knows how little of it was left for the shadow.
"""
_LEAST_AGREEMENT = 0.2
"""Least share of the spikes of both units that they have in common. A template also fires on some other unit's spikes:
that unit then lies wholly within the larger one, is a small part of it, and is real.
"""


def curate_by_redundancy(
    sd: SpikeData, max_redundancy: float = 60.0, window_ms: float = 0.4
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units that do not fire together with a larger one, beyond chance.

    A sorter that subtracts templates finds what is left of a large spike as a spike of another unit. Such a unit
    coincides with the large one nearly always, looks different and may lie elsewhere. The larger unit stays.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    max_redundancy : float, default 60.0
        Largest share (percent) of a unit's spikes that coincide with those of one larger unit, beyond what chance
        gives.
    window_ms : float, default 0.4
        Spikes at most this far apart coincide (ms).

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, that share (percent), 0 for chance, for the largest unit, and where the two
        have less than a fifth of all their spikes in common; "passed": shape (N,), bool; N = all units given. Larger
        is the unit with the larger product of the attributes ``amplitude`` and ``ks_amplitude`` (of those that all
        units have), or with more spikes where there is neither.

    Raises
    ------
    ValueError
        When a threshold is negative.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> large, shadow = [100.0 * i for i in range(1, 9)], [100.0 * i + 0.2 for i in range(1, 9)]
    >>> sizes = [{"amplitude": 120.0}, {"amplitude": 30.0}]
    >>> curated, result = curate_by_redundancy(SpikeData([large, shadow], length=1000.0, neuron_attributes=sizes))
    >>> curated.N, result["passed"].tolist()
    (1, [True, False])
    """
    return apply(sd, evaluate_redundancy(sd, max_redundancy, window_ms))


def evaluate_redundancy(sd: SpikeData, max_redundancy: float, window_ms: float = 0.4) -> CriterionResult:
    """Return for each unit how much of it is the shadow of a larger one, and whether that is little enough."""
    require_not_negative(max_redundancy=max_redundancy, window_ms=window_ms)
    metric = redundancy_pct(sd.train, _sizes(sd), sd.length, window_ms)
    return judge(metric, metric <= max_redundancy)


def redundancy_pct(
    trains_ms: Sequence[npt.NDArray[np.float64]], sizes: npt.ArrayLike, length_ms: float, window_ms: float
) -> Floats:
    """Return the largest share of each unit's spikes that coincide with one larger unit, beyond chance.

    Parameters
    ----------
    trains_ms : sequence of ndarray, shape (n_spikes,), float64
        Spike times of each unit (ms).
    sizes : array-like, shape (n_units,)
        Sizes of the units; of two that are alike, the one with more spikes counts as the larger, then the first.
    length_ms : float
        Length of the recording (ms).
    window_ms : float
        Spikes at most this far apart coincide (ms).

    Returns
    -------
    ndarray, shape (n_units,), float64
        Percent: 0 as chance would have it, 100 where each spike coincides.
    """
    counts = np.array([len(train) for train in trains_ms], dtype=np.int64)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.lexsort((-np.arange(len(counts)), counts, np.asarray(sizes, dtype=float)))] = np.arange(len(counts))
    common = _coincident(trains_ms, rank, window_ms)
    is_part = common < _LEAST_AGREEMENT * (counts[:, None] + counts - common)
    together = np.where(is_part, 0.0, common / np.maximum(counts, 1)[:, None])
    # The larger unit's own windows cover this part of the recording.
    chance = np.minimum(counts * (2 * window_ms / length_ms), 1.0) if length_ms > 0 else np.zeros(len(counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.where(chance < 1.0, (together - chance) / (1.0 - chance), 0.0)
    largest: Floats = np.maximum(beyond.max(axis=1, initial=0.0), 0.0) * 100.0
    return largest


def _coincident(
    trains_ms: Sequence[npt.NDArray[np.float64]], rank: npt.NDArray[np.int64], window_ms: float
) -> npt.NDArray[np.int64]:
    """Return how many spikes of each unit (row) coincide with a larger one (column)."""
    n_units = len(trains_ms)
    found = np.zeros((n_units, n_units), dtype=np.int64)
    times_ms = np.concatenate([np.empty(0), *trains_ms])
    units = np.repeat(np.arange(n_units), [len(train) for train in trains_ms])
    order = np.argsort(times_ms, kind="stable")
    times_ms, units = times_ms[order], units[order]
    pairs = [np.empty(0, dtype=np.int64)]
    first = np.arange(times_ms.size)
    for lag in range(1, times_ms.size):
        first = first[first + lag < times_ms.size]
        # A hair more than the window: times in ms are rounded, and a sample more or less must not decide.
        first = first[times_ms[first + lag] - times_ms[first] <= window_ms + 1e-6]
        if not first.size:
            break
        second = first + lag
        is_smaller = rank[units[first]] < rank[units[second]]
        spike, larger = np.where(is_smaller, first, second), np.where(is_smaller, second, first)
        differs = units[first] != units[second]
        pairs.append(spike[differs] * n_units + units[larger[differs]])
    # A spike between two of the larger unit counts once.
    spikes, larger_units = np.divmod(np.unique(np.concatenate(pairs)), max(n_units, 1))
    np.add.at(found, (units[spikes], larger_units), 1)
    return found


def _sizes(sd: SpikeData) -> Floats:
    known = [values for name in _SIZES if (values := recall(sd, name)).size and np.isfinite(values).all()]
    if known:
        product: Floats = np.prod(np.abs(known), axis=0)
        return product
    return np.array([len(train) for train in sd.train], dtype=np.float64)
