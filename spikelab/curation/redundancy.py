"""Units that are the shadow of larger ones: what their templates leave behind fires whenever they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
_LEAST_AGREEMENT, _WHOLLY = 0.2, 0.6
"""A template also fires on some other unit's spikes: of that unit, more than this second share lies within the larger
one, and of the spikes of both they have less than the first in common. Such a unit is real.
"""
_LEAST_SHARE = 0.1
"""Share of a unit's spikes, beyond chance, that coincide with a larger one if that has to do with it."""
_SHIFTS_MS = (-7.0, -5.0, 5.0, 7.0)
"""Trains moved by so much have in common what chance gives: longer than a spike, shorter than most bursts."""
_AT_ONCE = 1_000_000
"""Spikes that are looked at in one go, which keeps memory small."""


def curate_by_redundancy(
    sd: SpikeData, max_redundancy: float = 60.0, window_ms: float = 0.4, reach_um: float = 400.0
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units that do not fire together with larger ones, beyond chance.

    A sorter that subtracts templates finds what is left of a large spike as a spike of another unit. Such a unit
    coincides with the large one, or with one of several, nearly always, and looks different. The larger units stay.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    max_redundancy : float, default 60.0
        Largest share (percent) of a unit's spikes that coincide with those of larger units, beyond what chance gives.
    window_ms : float, default 0.4
        Spikes at most this far apart coincide (ms).
    reach_um : float, default 400.0
        Larger units farther away do not count (um): a template reaches less far. A unit without a position is within
        reach of all.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, that share (percent), 0 for chance and for the largest unit; "passed": shape
        (N,), bool; N = all units given. A larger unit of which this one is a small part is left out: it lies within
        that, and the two have less than a fifth of all their spikes in common. Larger
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
    return apply(sd, evaluate_redundancy(sd, max_redundancy, window_ms, reach_um))


def evaluate_redundancy(
    sd: SpikeData, max_redundancy: float, window_ms: float = 0.4, reach_um: float = 400.0
) -> CriterionResult:
    """Return for each unit how much of it is the shadow of a larger one, and whether that is little enough."""
    require_not_negative(max_redundancy=max_redundancy, window_ms=window_ms, reach_um=reach_um)
    metric = redundancy_pct(sd.train, _sizes(sd), window_ms, _within_reach(sd.unit_locations, reach_um))
    return judge(metric, metric <= max_redundancy)


def _within_reach(positions_um: Floats, reach_um: float) -> npt.NDArray[np.bool_]:
    """Return which pairs of units are not known to be farther apart, shape (N, N)."""
    from scipy.spatial.distance import cdist

    is_far: npt.NDArray[np.bool_] = cdist(positions_um, positions_um) > reach_um
    return ~is_far


def redundancy_pct(
    trains_ms: Sequence[npt.NDArray[np.float64]],
    sizes: npt.ArrayLike,
    window_ms: float,
    within_reach: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """Return the share of each unit's spikes that coincide with those of larger units, beyond chance.

    Counted are the larger units with which a tenth of the unit's spikes or more coincide beyond chance: what several
    of them leave behind may be one unit. Chance is what the same trains have 5 and 7 ms apart, so that bursts of many
    units at once are chance, too.

    Parameters
    ----------
    trains_ms : sequence of ndarray, shape (n_spikes,), float64
        Spike times of each unit (ms).
    sizes : array-like, shape (n_units,)
        Sizes of the units; of two that are alike, the one with more spikes counts as the larger, then the first.
    window_ms : float
        Spikes at most this far apart coincide (ms).
    within_reach : ndarray of bool, shape (n_units, n_units), optional
        Pairs of units that may have to do with each other; default: all.

    Returns
    -------
    ndarray, shape (n_units,), float64
        Percent: 0 as chance would have it, 100 where each spike coincides.
    """
    spikes = _Spikes.of(trains_ms, sizes)
    counts = spikes.counts
    common = spikes.in_common(0.0, window_ms)
    # Chance only takes away, so that it need not be counted where too few coincide to begin with.
    may_follow = (common > 0) & (common >= _LEAST_SHARE * counts[:, None] * (1.0 - 1e-9))
    if within_reach is not None:
        may_follow &= within_reach
    some = spikes.of_units(may_follow)
    beyond = _beyond(common, _mean(some.in_common(shift, window_ms) for shift in _SHIFTS_MS), counts[:, None])
    is_part = common < _LEAST_AGREEMENT * (counts[:, None] + counts - common)
    wholly_within = common > _WHOLLY * counts[:, None]
    partners = may_follow & (beyond >= _LEAST_SHARE) & ~(is_part & wholly_within)
    some = some.of_units(partners)
    together = some.with_any(partners, 0.0, window_ms)
    by_chance = _mean(some.with_any(partners, shift, window_ms) for shift in _SHIFTS_MS)
    return _beyond(together, by_chance, counts) * 100.0


def _mean(arrays: Iterable[npt.NDArray[np.int64]]) -> Floats:
    means: Floats = np.mean(list(arrays), axis=0)
    return means


def _beyond(found: npt.NDArray[np.int64], chance: Floats, n_spikes: npt.NDArray[np.int64]) -> Floats:
    """Return the share of `n_spikes` that were `found` beyond `chance`, of what chance leaves."""
    shares: Floats = np.maximum(found - chance, 0.0) / np.maximum(n_spikes - chance, 1.0)
    return shares


@dataclass(frozen=True, eq=False)
class _Spikes:
    """The spikes of all units in one train.

    Parameters
    ----------
    times_ms : ndarray, shape (n_spikes,), float64
        When, rising.
    units : ndarray, shape (n_spikes,), int64
        Whose.
    previous : ndarray, shape (n_spikes,), int64
        Which spike of the same unit came before, -1 for none.
    rank : ndarray, shape (n_units,), int64
        How many units are smaller than each.
    """

    times_ms: npt.NDArray[np.float64]
    units: npt.NDArray[np.int64]
    previous: npt.NDArray[np.int64]
    rank: npt.NDArray[np.int64]

    @classmethod
    def of(cls, trains_ms: Sequence[npt.NDArray[np.float64]], sizes: npt.ArrayLike) -> _Spikes:
        counts = np.array([len(train) for train in trains_ms], dtype=np.int64)
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.lexsort((-np.arange(len(counts)), counts, np.asarray(sizes, dtype=float)))] = np.arange(len(counts))
        times_ms = np.concatenate([np.empty(0), *trains_ms])
        order = np.argsort(times_ms, kind="stable")
        units = np.repeat(np.arange(len(counts)), counts)[order]
        return cls(times_ms[order], units, _previous_of_unit(units), rank)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Spikes of each unit."""
        return np.bincount(self.units, minlength=len(self.rank))

    def of_units(self, pairs: npt.NDArray[np.bool_]) -> _Spikes:
        """Return the spikes of the units that are part of a pair; units keep their numbers."""
        is_part = np.logical_or(pairs.any(axis=0), pairs.any(axis=1))
        chosen = np.flatnonzero(is_part[self.units])
        units = self.units[chosen]
        return _Spikes(self.times_ms[chosen], units, _previous_of_unit(units), self.rank)

    def in_common(self, shift_ms: float, window_ms: float) -> npt.NDArray[np.int64]:
        """Return how many spikes of each unit (row), moved by `shift_ms`, coincide with a larger one (column)."""
        n_units = len(self.rank)
        found = np.zeros(n_units * n_units, dtype=np.int64)
        for spikes, larger in self._coincident(shift_ms, window_ms):
            np.add.at(found, self.units[spikes] * n_units + larger, 1)
        return found.reshape(n_units, n_units)

    def with_any(self, partners: npt.NDArray[np.bool_], shift_ms: float, window_ms: float) -> npt.NDArray[np.int64]:
        """Return how many spikes of each unit, moved by `shift_ms`, coincide with any of its `partners`."""
        hit = np.zeros(len(self.times_ms), dtype=bool)
        for spikes, larger in self._coincident(shift_ms, window_ms):
            hit[spikes[partners[self.units[spikes], larger]]] = True
        return np.bincount(self.units[hit], minlength=len(self.rank))

    def _coincident(
        self, shift_ms: float, window_ms: float
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield spikes, moved by `shift_ms`, and the larger units of which each coincides with a spike, each once."""
        # A hair more than the window: times in ms are rounded, and a sample more or less must not decide.
        reach_ms = window_ms + 1e-6
        for start in range(0, len(self.times_ms), _AT_ONCE):
            moved_ms = self.times_ms[start : start + _AT_ONCE] + shift_ms
            first = np.searchsorted(self.times_ms, moved_ms - reach_ms, "left")
            many = np.searchsorted(self.times_ms, moved_ms + reach_ms, "right") - first
            spikes = np.repeat(np.arange(start, start + len(moved_ms)), many)
            others = np.arange(many.sum()) + np.repeat(first - np.cumsum(many) + many, many)
            larger = self.units[others]
            # A spike between two of the larger unit counts once.
            is_one = (self.rank[larger] > self.rank[self.units[spikes]]) & (
                self.previous[others] < np.repeat(first, many)
            )
            yield spikes[is_one], larger[is_one]


def _previous_of_unit(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    order = np.argsort(units, kind="stable")
    is_same = units[order[1:]] == units[order[:-1]]
    previous = np.full(len(units), -1, dtype=np.int64)
    previous[order[1:][is_same]] = order[:-1][is_same]
    return previous


def _sizes(sd: SpikeData) -> Floats:
    known = [values for name in _SIZES if (values := recall(sd, name)).size and np.isfinite(values).all()]
    if known:
        product: Floats = np.prod(np.abs(known), axis=0)
        return product
    return np.array([len(train) for train in sd.train], dtype=np.float64)
