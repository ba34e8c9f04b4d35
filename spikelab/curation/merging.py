"""Units that are one neuron: found by place, waveform and refractory period, and made one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from spikelab.curation import _metrics
from spikelab.curation._ids import UnitId, unit_ids
from spikelab.curation._members import Member, Shift, absorb
from spikelab.curation._result import CriterionResult, Floats, require_not_negative
from spikelab.curation._similarity import Pairs, compare_neighbours, read_waveforms
from spikelab.curation._union import count_meetings, gaps_to_nearest, unite, violation_fraction
from spikelab.curation.quality_metrics import measure_again

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_TELLING = 3.0
"""Meetings that chance must predict before their number says anything: none at all has a probability of 5 % then."""
_UNLIKELY = 1e-3
"""Probability below which so few meetings are not those of two neurons; hundreds of pairs could be wrong."""
_ENOUGH = 30.0
"""So many are as good as all: two neurons have less than half of them once in a thousand pairs."""
_SAME_SHAPE = 0.95
"""Cosine that speaks for one neuron by itself, where there are too few spikes for their times to speak."""


class Merge(TypedDict):
    """A pair of units whose waveforms are alike, and what became of it; strict JSON."""

    unit: UnitId
    """The unit that is absorbed, as a history names it."""
    into: UnitId
    """The unit that absorbs it."""
    similarity: float
    """Best cosine of their average waveforms, or of those of the members that brought them together."""
    distance_um: float
    """Distance of those two (um)."""
    lag_ms: float
    """By how much the absorbed spikes are moved (ms)."""
    lag_samples: int
    """The same in samples."""
    delta_ms: float
    """Spikes at most this far apart are one (ms)."""
    n_spikes: int
    """Spikes of the absorbed unit."""
    n_common: int | None
    """Those of them that the other one has too; None here and below where the chance ratio has decided already."""
    violation_before: float | None
    """Share of refractory violations (0 to 1) of the absorbing unit before."""
    violation_after: float | None
    """Share of refractory violations (0 to 1) of both together."""
    chance_ratio: float | None
    """Spikes of both within the refractory period, over what two independent neurons would have; None: too few."""
    accepted: bool
    reason: str
    """Why the merge was refused; empty when it was accepted."""


class MergeResult(CriterionResult):
    """Similarity and verdict for every unit, and the merges that were looked at."""

    merges: list[Merge]


@dataclass(frozen=True)
class _Rules:
    isi_threshold_ms: float
    delta_ms: float
    max_isi_increase: float
    max_chance_ratio: float | None


def curate_by_merge_duplicates(
    sd: SpikeData,
    dist_um: float = 24.8,
    max_violation_rate: float = 4.0,
    isi_threshold_ms: float = 1.5,
    cosine_threshold: float = 0.5,
    max_lag: int = 10,
    delta_ms: float = 0.4,
    max_isi_increase: float = 0.04,
    *,
    max_chance_ratio: float | None = 0.5,
    dry_run: bool = False,
) -> tuple[SpikeData, MergeResult]:
    """Merge units that are the same neuron, found twice or in pieces.

    Pairs of units are taken by falling similarity; the unit with more spikes absorbs the other one, whose spikes are
    moved by the lag between the two waveforms. Merged units merge on.

    Parameters
    ----------
    sd : SpikeData
        Units with the attributes ``position`` (or ``x`` and ``y``; um) and ``avg_waveform`` (channels, samples); never
        changed.
    dist_um : float, default 24.8
        Largest distance of two units that may be one (um).
    max_violation_rate : float, default 4.0
        Largest share of refractory violations (percent) of a unit that takes part.
    isi_threshold_ms : float, default 1.5
        Refractory period (ms).
    cosine_threshold : float, default 0.5
        Least cosine of the average waveforms, over all lags, on the channels where either is defined (a tenth of its
        largest peak-to-peak amplitude).
    max_lag : int, default 10
        Largest shift of one waveform against the other (samples).
    delta_ms : float, default 0.4
        Spikes of the two units at most this far apart are one spike (ms).
    max_isi_increase : float, default 0.04
        Largest rise of the share of refractory violations (a fraction) over that of the absorbing unit.
    max_chance_ratio : float or None, default 0.5
        Two neurons that only look alike meet within the refractory period as often as chance has it; one neuron never
        does. A merge is refused when the two do so more than this share of chance. It also needs a reason: so few
        meetings that two neurons would have them once in a thousand pairs, or most spikes of the smaller unit shared
        with the larger one, or a cosine of 0.95. None: neither is looked at.
    dry_run : bool, default False
        Only say what would be merged.

    Returns
    -------
    sd_merged : SpikeData
        The units that are left, in their order, under their ``unit_id``; `sd` itself in a dry run. The attributes of
        merged units are anew: waveforms, templates and positions as the mean of all spikes, amplitudes, SNR, std_norm,
        counts and attributes per spike to match; ``merged_from`` names the parts. Quality metrics are SpikeInterface's
        for the new train and ``spike_amplitudes``; those that need more than that are NaN.
    result : dict
        "metric": shape (N,), float64, the largest cosine with a unit nearby (NaN: there is none); "passed": shape
        (N,), bool, False for the units that were absorbed; "merges": list of dict, the pairs that were looked at,
        accepted ones in the order in which they merged; N = all units given.

    Raises
    ------
    ValueError
        When a threshold is negative, a unit has no position or average waveform, or spikes have to be moved and
        ``metadata["fs_Hz"]`` is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.spikedata import SpikeData
    >>> train, shape = np.arange(1.0, 1000.0, 10.0), [[0.0, -9.0, 3.0, 0.0]]
    >>> attributes = [{"position": (0.0, y), "avg_waveform": shape} for y in (0.0, 10.0, 90.0)]
    >>> sd = SpikeData([train, train[::2] + 0.1, train + 5.0], length=1000.0, neuron_attributes=attributes)
    >>> merged, result = sd.curate_by_merge_duplicates()
    >>> merged.N, result["passed"].tolist()
    (2, [True, False, True])
    """
    require_not_negative(
        dist_um=dist_um, max_violation_rate=max_violation_rate, isi_threshold_ms=isi_threshold_ms,
        cosine_threshold=cosine_threshold, max_lag=max_lag, delta_ms=delta_ms, max_isi_increase=max_isi_increase,
        max_chance_ratio=0.0 if max_chance_ratio is None else max_chance_ratio,
    )  # fmt: skip
    _check_places(sd)
    rules = _Rules(isi_threshold_ms, delta_ms, max_isi_increase, max_chance_ratio)
    pairs = compare_neighbours(sd.unit_locations, read_waveforms(sd), dist_um, int(max_lag))
    is_clean = _metrics.isi_violation_percent(sd, isi_threshold_ms) <= max_violation_rate
    merges = list(_merge_greedily(sd, _by_similarity(pairs, cosine_threshold, is_clean), rules))
    merged = sd if dry_run else replay_merges(sd, merges)
    return merged, {"metric": _best(pairs, sd.N), "passed": _not_absorbed(sd, merges), "merges": merges}


def replay_merges(
    sd: SpikeData, merges: Sequence[Mapping[str, Any]], names: Sequence[UnitId] | None = None
) -> SpikeData:
    """Return the units with the accepted merges done, in their order.

    Parameters
    ----------
    sd : SpikeData
        The units; never changed.
    merges : sequence of mapping
        As :func:`curate_by_merge_duplicates` returns them.
    names : sequence, optional
        What the merges call the units; default: their ids.

    Raises
    ------
    ValueError
        When a merge names a unit that is not there any more.
    """
    accepted = [merge for merge in merges if merge["accepted"]]
    if not accepted:
        return sd.subset(slice(None))
    members = {
        str(name): Member(train, attributes, name)
        for name, train, attributes in zip(
            unit_ids(sd) if names is None else names, sd.train, sd.neuron_attributes, strict=True
        )
    }
    for merge in accepted:
        unit, into = (members.get(str(merge[part])) for part in ("unit", "into"))
        if unit is None or into is None:
            msg = f"unit {merge['unit']!r} cannot be merged into {merge['into']!r}: there are {list(members)[:20]}"
            raise ValueError(msg)
        shift = Shift(merge["lag_ms"], merge["lag_samples"], merge["delta_ms"], (sd.start_time, sd.end_time))
        members[str(into.name)] = absorb(into, unit, shift)
        del members[str(unit.name)]
    left = list(members.values())
    absorbers = {str(merge["into"]) for merge in accepted}
    merged = sd.replace(
        train=[member.train_ms for member in left], neuron_attributes=[member.attributes for member in left]
    )
    return measure_again(merged, [unit for unit, member in enumerate(left) if str(member.name) in absorbers])


# ------------------------------------------------------------------------------------------------ which pairs


def _check_places(sd: SpikeData) -> None:
    for unit, attributes in enumerate(sd.neuron_attributes):
        if attributes.get("position") is None and (attributes.get("x") is None or attributes.get("y") is None):
            msg = (
                f"unit {unit} has no attribute 'position' (x, y in um), which finding neighbours needs; set it with "
                "sd.set_neuron_attribute('position', positions)"
            )
            raise ValueError(msg)


def _by_similarity(pairs: Pairs, cosine_threshold: float, is_clean: Any) -> Pairs:
    """Return the pairs that are alike enough, of units that are clean enough, the most similar first."""
    chosen = np.flatnonzero((pairs.similarity >= cosine_threshold) & is_clean[pairs.first] & is_clean[pairs.second])
    chosen = chosen[np.argsort(-pairs.similarity[chosen], kind="stable")]
    return Pairs(*(getattr(pairs, part)[chosen] for part in ("first", "second", "distance_um", "similarity", "lag")))


def _best(pairs: Pairs, n_units: int) -> Floats:
    best = np.full(n_units, -np.inf)
    for units in (pairs.first, pairs.second):
        np.maximum.at(best, units, pairs.similarity)
    return np.where(np.isfinite(best), best, np.nan)


def _not_absorbed(sd: SpikeData, merges: Sequence[Merge]) -> Any:
    absorbed = {str(merge["unit"]) for merge in merges if merge["accepted"]}
    return np.array([str(name) not in absorbed for name in unit_ids(sd)], dtype=bool)


# ------------------------------------------------------------------------------------------------ greedy merging


class _Groups:
    """Which unit has absorbed which, and by how much each one's spikes were moved."""

    def __init__(self, trains_ms: Sequence[Floats]) -> None:
        self.trains_ms = list(trains_ms)
        self._violation: list[float | None] = [None] * len(self.trains_ms)
        self._root = list(range(len(self.trains_ms)))
        self._lag = [0] * len(self.trains_ms)

    def root(self, unit: int) -> int:
        return self._root[unit]

    def violation(self, root: int, threshold_ms: float) -> float:
        """Return the share of violations of a group."""
        known = self._violation[root]
        if known is None:
            known = self._violation[root] = violation_fraction(self.trains_ms[root], threshold_ms)
        return known

    def lag_between(self, first: int, second: int, lag: int) -> int:
        """Return by how many samples the second one's group moves onto the first one's, given the pair's own lag."""
        return lag + self._lag[first] - self._lag[second]

    def merge(self, unit: int, into: int, lag: int, train_ms: Floats) -> None:
        for member, root in enumerate(self._root):
            if root == unit:
                self._root[member] = into
                self._lag[member] += lag
        self.trains_ms[into], self._violation[into] = train_ms, None


def _merge_greedily(sd: SpikeData, pairs: Pairs, rules: _Rules) -> Iterator[Merge]:
    groups, names = _Groups(sd.train), unit_ids(sd)
    for index in range(pairs.first.size):
        first, second = int(pairs.first[index]), int(pairs.second[index])
        into, unit = groups.root(first), groups.root(second)
        if into == unit:
            continue
        lag = groups.lag_between(first, second, int(pairs.lag[index]))
        if groups.trains_ms[unit].size > groups.trains_ms[into].size:
            into, unit, lag = unit, into, -lag
        merge = _judge(sd, groups, (into, unit, lag), float(pairs.similarity[index]), rules)
        merge |= {"unit": names[unit], "into": names[into], "distance_um": float(pairs.distance_um[index])}
        yield merge


def _judge(sd: SpikeData, groups: _Groups, what: tuple[int, int, int], similarity: float, rules: _Rules) -> Merge:
    """Return whether the second group may go into the first one; it has gone there when it may."""
    into, unit, lag = what
    lag_ms = _lag_ms(sd, lag)
    here_ms = groups.trains_ms[into]
    moved_ms = np.clip(groups.trains_ms[unit] + lag_ms, sd.start_time, sd.end_time)
    meetings = _count_meetings(here_ms, moved_ms, sd.observed_ms, rules)
    judged: Merge = {
        "unit": unit, "into": into, "similarity": similarity, "distance_um": math.nan, "lag_ms": lag_ms,
        "lag_samples": lag, "delta_ms": float(rules.delta_ms), "n_spikes": int(moved_ms.size), "n_common": None,
        "violation_before": None, "violation_after": None, "chance_ratio": meetings.chance_ratio, "accepted": False,
        "reason": "spikes meet as those of two neurons do",
    }  # fmt: skip
    if rules.max_chance_ratio is not None and (meetings.chance_ratio or 0.0) > rules.max_chance_ratio:
        return judged
    union = unite(here_ms, moved_ms, rules.delta_ms)
    before = groups.violation(into, rules.isi_threshold_ms)
    after = violation_fraction(union.times_ms, rules.isi_threshold_ms)
    judged |= {"n_common": union.n_common, "violation_before": before, "violation_after": after}
    if after - before > rules.max_isi_increase:
        return judged | {"reason": "refractory violations rise"}
    is_shared = 2 * union.n_common > moved_ms.size
    if rules.max_chance_ratio is not None and not (is_shared or similarity >= _SAME_SHAPE or meetings.are_too_few):
        return judged | {"reason": "too few spikes to tell, and not alike enough"}
    groups.merge(unit, into, lag, union.times_ms)
    return judged | {"accepted": True, "reason": ""}


@dataclass(frozen=True)
class _Meetings:
    """How often two units fire within the refractory period of each other, and how often two neurons would."""

    n_found: int
    n_expected: float

    @property
    def chance_ratio(self) -> float | None:
        return self.n_found / self.n_expected if self.n_expected >= _TELLING else None

    @property
    def are_too_few(self) -> bool:
        from scipy.special import pdtr

        return bool(pdtr(self.n_found, self.n_expected) < _UNLIKELY)


def _count_meetings(here_ms: Floats, moved_ms: Floats, observed_ms: float, rules: _Rules) -> _Meetings:
    """Return the meetings of two trains, of a part of the second one where that is enough to tell."""
    window_ms = 2.0 * max(rules.isi_threshold_ms - rules.delta_ms, 0.0)
    per_spike = here_ms.size * window_ms / observed_ms if observed_ms > 0 else 0.0
    sample_ms = moved_ms[:: max(int(per_spike * moved_ms.size / _ENOUGH), 1)]
    gaps_ms = gaps_to_nearest(here_ms, sample_ms)
    n_found = count_meetings(gaps_ms, rules.delta_ms, rules.isi_threshold_ms)
    return _Meetings(n_found, per_spike * sample_ms.size)


def _lag_ms(sd: SpikeData, lag: int) -> float:
    if lag == 0:
        return 0.0
    fs_Hz = sd.metadata.get("fs_Hz") or (sd.raw_fs_Hz if sd.raw_data is not None else None)
    if not fs_Hz:
        msg = (
            "merging moves spikes by the lag between two waveforms, in samples, and the sampling rate is unknown; give "
            "metadata={'fs_Hz': ...}, or max_lag=0"
        )
        raise ValueError(msg)
    return lag * 1000.0 / float(fs_Hz)
