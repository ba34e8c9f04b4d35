"""Comparison with another sorting or with the truth, by SpikeInterface's comparison module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spikelab.spikedata._attributes import unit_ids

if TYPE_CHECKING:
    import pandas as pd

    from spikelab.spikedata.spikedata import SpikeData

_FALLBACK_HZ = 100_000.0
"""Rate to which times are rounded where neither side knows its own; far finer than spikes coincide."""


def compare_sorter(
    sd: SpikeData, other: Any, *, delta_ms: float = 0.4, match_score: float = 0.5, fs_Hz: float | None = None
) -> pd.DataFrame:
    """Return how each unit agrees with its best match in another sorting of the same recording.

    Matches are one to one (Hungarian), over the time that both cover. With n_matched spikes in common:
    accuracy is n_matched / (n_spikes + n_spikes_other - n_matched), precision n_matched / n_spikes, recall
    n_matched / n_spikes_other, as if the other sorting were true.

    Parameters
    ----------
    other : SpikeData or spikeinterface.BaseSorting
        The other sorting.
    delta_ms : float, default 0.4
        Spikes this close or closer are one spike.
    match_score : float, default 0.5
        Lowest accuracy of a match.
    fs_Hz : float, optional
        Rate (Hz) to whose samples times are rounded; default: that of either side's metadata.

    Returns
    -------
    DataFrame
        One row per unit, in order, indexed by unit id: ``match`` (id of the other's unit, None without),
        ``accuracy``, ``precision``, ``recall`` (0 without a match), ``n_spikes``, ``n_spikes_other``,
        ``n_matched``.

    Raises
    ------
    ValueError
        When the two have no time in common.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> one = SpikeData([[10.0, 20.0, 30.0, 40.0]], length=100.0)
    >>> table = one.compare_sorter(SpikeData([[10.1, 20.1, 30.1]], length=100.0))
    >>> table[["accuracy", "precision", "recall"]].to_numpy().tolist()
    [[0.75, 0.75, 1.0]]
    """
    return _compare(sd, other, {"delta_time": delta_ms, "match_score": match_score}, fs_Hz)


def compare_ground_truth(
    sd: SpikeData, truth: Any, *, delta_ms: float = 0.4, match_score: float = 0.5, fs_Hz: float | None = None
) -> pd.DataFrame:
    """Return how well each true unit was found: :meth:`compare_sorter` with one row per unit of the truth.

    Parameters
    ----------
    truth : SpikeData or spikeinterface.BaseSorting
        The true units.
    delta_ms, match_score, fs_Hz : float
        As for :meth:`compare_sorter`.

    Returns
    -------
    DataFrame
        Indexed by the truth's unit ids: ``match`` (id of the unit here, None where the true one was missed),
        ``accuracy``, ``precision`` (share of the match's spikes that are true), ``recall`` (share of the true
        spikes that were found), ``n_spikes`` (true ones), ``n_spikes_other`` (of the match), ``n_matched``.

    Raises
    ------
    ValueError
        When the two have no time in common.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> truth = SpikeData([[10.0, 20.0], [5.0]], length=100.0, neuron_attributes=[{"unit_id": "a"}, {"unit_id": "b"}])
    >>> found = SpikeData([[10.0, 20.0, 30.0]], length=100.0)
    >>> found.compare_ground_truth(truth)["recall"].to_dict()
    {'a': 1.0, 'b': 0.0}
    """
    options = {"delta_time": delta_ms, "match_score": match_score}
    table = _compare(_as_spikedata(type(sd), truth), sd, options, fs_Hz, is_true=True)
    # The first of the two is the true one here.
    return table.rename(columns={"precision": "recall", "recall": "precision"})[_COLUMNS]


_COLUMNS = ["match", "accuracy", "precision", "recall", "n_spikes", "n_spikes_other", "n_matched"]
_TYPES = {name: "int64" if name.startswith("n_") else "float64" for name in _COLUMNS[1:]}


def _compare(
    sd: SpikeData, other: Any, options: Mapping[str, float], fs_Hz: float | None, *, is_true: bool = False
) -> pd.DataFrame:
    """Return one row per unit of `sd`; `is_true` says that it is the truth."""
    import pandas as pd

    one, two = _in_common_time(sd, _as_spikedata(type(sd), other), options["delta_time"])
    other_ids = unit_ids(two.neuron_attributes)
    rows = []
    for train, (match, n_matched) in zip(one.train, _match(one, two, options, fs_Hz, is_true=is_true), strict=True):
        if match is None:
            rows.append([None, 0.0, 0.0, 0.0, train.size, 0, 0])
            continue
        n_spikes, n_other = train.size, two.train[match].size
        accuracy = n_matched / (n_spikes + n_other - n_matched)
        shares = [n_matched / n_spikes, n_matched / n_other]
        rows.append([other_ids[match], accuracy, *shares, n_spikes, n_other, n_matched])
    index = pd.Index(unit_ids(one.neuron_attributes), name="unit_id")
    # As objects, ids of any kind and None stay what they are.
    return pd.DataFrame(rows, index=index, columns=_COLUMNS, dtype=object).astype(_TYPES)


def _as_spikedata(cls: type[SpikeData], sorting: Any) -> SpikeData:
    return sorting if isinstance(sorting, cls) else cls.from_sorting(sorting)


def _in_common_time(one: SpikeData, two: SpikeData, delta_ms: float) -> tuple[SpikeData, SpikeData]:
    start, end = max(one.start_time, two.start_time), min(one.end_time, two.end_time)
    if end < start:
        spans = f"[{one.start_time}, {one.end_time}] and [{two.start_time}, {two.end_time}] ms"
        msg = f"sortings can be compared over the time that both cover, found {spans}; shift one with subtime(...)"
        raise ValueError(msg)
    # A sorting that does not know its length ends with its last spike, whose match may be a little later.
    after = end + delta_ms
    return one.subtime(start, min(after, one.end_time)), two.subtime(start, min(after, two.end_time))


def _match(
    one: SpikeData, two: SpikeData, options: Mapping[str, float], fs_Hz: float | None, *, is_true: bool
) -> list[tuple[int | None, int]]:
    """Return for each unit the index of its match in the other, None without, and the spikes in common."""
    if not one.N or not two.N:
        return [(None, 0)] * one.N
    from spikeinterface.comparison import compare_sorter_to_ground_truth, compare_two_sorters

    rate = fs_Hz or one.metadata.get("fs_Hz") or two.metadata.get("fs_Hz") or _FALLBACK_HZ
    # Indices for ids: SpikeInterface says -1 where there is no match.
    sortings = [sd.replace(neuron_attributes=None).to_sorting(rate) for sd in (one, two)]
    found = (
        compare_sorter_to_ground_truth(*sortings, **options) if is_true else compare_two_sorters(*sortings, **options)
    )
    pairs, counts = found.hungarian_match_12, found.match_event_count
    matches = [int(pairs[unit]) for unit in range(one.N)]
    return [(None, 0) if match < 0 else (match, int(counts.at[unit, match])) for unit, match in enumerate(matches)]
