"""Agreement of several sortings of one recording: which units several sorters have found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from spikelab.spikedata._attributes import unit_ids

if TYPE_CHECKING:
    import pandas as pd

    from spikelab.spikedata.spikedata import SpikeData

_SAME_RATE = 1e-3
"""Sorters round rates; SpikeInterface lets as much pass."""
_SAME_LENGTH, _SAME_LENGTH_MS = 0.01, 1000.0
"""A sorting that does not know its length ends with its last spike: only what both do not explain is another span."""


@dataclass(frozen=True)
class FoundUnit:
    """One unit, as one or several of the sortings have it.

    Parameters
    ----------
    unit_ids : mapping of str to object
        Its id in each sorting that has it, by the name of the sorting.
    agreement : float
        Mean agreement of the pairs of those that match; 0 where one sorting alone has it.
    """

    unit_ids: Mapping[str, Any]
    agreement: float


@dataclass(frozen=True, eq=False)
class PairAgreement:
    """How two of the sortings agree.

    Parameters
    ----------
    names : (str, str)
        Names of the two.
    matches : DataFrame
        One row per pair of units that match, best first: ``unit_id``, ``match`` (ids), ``agreement``, ``n_spikes``,
        ``n_spikes_other``, ``n_matched``.
    unmatched : (list, list)
        Ids of the units of each that match none of the other.
    """

    names: tuple[str, str]
    matches: pd.DataFrame
    unmatched: tuple[list[Any], list[Any]]


@dataclass(frozen=True, eq=False)
class Agreement:
    """What `compare_sorters` finds.

    Parameters
    ----------
    n_units, n_spikes : mapping of str to int
        Units and spikes of each sorting, by its name.
    delta_ms : float
        Spikes this close or closer were one spike (ms).
    min_agreement : float
        Lowest agreement of units that match.
    pairs : tuple of PairAgreement
        Each pair of sortings.
    units : tuple of FoundUnit
        Each unit of each sorting once, those that most sortings have first.
    """

    n_units: Mapping[str, int]
    n_spikes: Mapping[str, int]
    delta_ms: float
    min_agreement: float
    pairs: tuple[PairAgreement, ...]
    units: tuple[FoundUnit, ...]

    @property
    def names(self) -> list[str]:
        """Names of the sortings, in the order in which they were given."""
        return list(self.n_units)

    def n_found_by(self, n_sortings: int) -> int:
        """Return how many units exactly so many of the sortings have."""
        return sum(len(unit.unit_ids) == n_sortings for unit in self.units)

    def table(self) -> pd.DataFrame:
        """Return one row per unit: its id in each sorting, None without, ``n_sortings`` and ``agreement``."""
        import pandas as pd

        rows = [
            [*(unit.unit_ids.get(name) for name in self.names), len(unit.unit_ids), unit.agreement]
            for unit in self.units
        ]
        # As objects, ids of any kind and None stay what they are.
        table = pd.DataFrame(rows, columns=[*self.names, "n_sortings", "agreement"], dtype=object)
        return table.astype({"n_sortings": "int64", "agreement": "float64"})

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return {
            "sortings": [
                {"name": name, "n_units": self.n_units[name], "n_spikes": self.n_spikes[name]} for name in self.names
            ],
            "delta_ms": self.delta_ms,
            "min_agreement": self.min_agreement,
            "found_by": {str(k): self.n_found_by(k) for k in range(len(self.names), 0, -1)},
            "units": [
                {
                    "unit_ids": {name: _plain(unit_id) for name, unit_id in unit.unit_ids.items()},
                    "n_sortings": len(unit.unit_ids),
                    "agreement": unit.agreement,
                }
                for unit in self.units
            ],
            "pairs": [
                {
                    "sortings": list(pair.names),
                    "matches": [
                        {name: _plain(value) for name, value in row.items()}
                        for row in pair.matches.to_dict(orient="records")
                    ],
                    "unmatched": {
                        name: [_plain(unit_id) for unit_id in ids]
                        for name, ids in zip(pair.names, pair.unmatched, strict=True)
                    },
                }
                for pair in self.pairs
            ],
        }


def compare_sorters(
    sortings: Mapping[str, SpikeData], *, delta_ms: float = 0.4, min_agreement: float = 0.5
) -> Agreement:
    """Return which units several sortings of one recording have in common.

    Two at a time are compared as :meth:`SpikeData.compare_sorter` does it, with SpikeInterface: units match one to
    one, and agree by n_matched / (n_spikes + n_spikes_other - n_matched). Of more than two sortings, units that match
    become one unit, those that agree most first; a sorting has at most one unit in it.

    Parameters
    ----------
    sortings : mapping of str to SpikeData
        Two or more, by names of your choice.
    delta_ms : float, default 0.4
        Spikes this close or closer are one spike.
    min_agreement : float, default 0.5
        Lowest agreement of units that match (0-1).

    Raises
    ------
    ValueError
        There is one sorting only, one has no unit, they are not of one recording, or a number is out of its range.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> one = SpikeData([[10.0, 20.0, 30.0], [5.0, 15.0]], length=100.0)
    >>> other = SpikeData([[10.1, 20.1, 30.1]], length=100.0)
    >>> agreement = compare_sorters({"one": one, "other": other})
    >>> agreement.n_found_by(2), agreement.units[0].unit_ids, agreement.pairs[0].unmatched
    (1, {'one': 0, 'other': 0}, ([1], []))
    """
    _check_numbers(delta_ms, min_agreement)
    _check_sortings(sortings)
    pairs = tuple(
        _pair((one, other), sortings[one], sortings[other], delta_ms, min_agreement)
        for one, other in combinations(sortings, 2)
    )
    return Agreement(
        n_units={name: sd.N for name, sd in sortings.items()},
        n_spikes={name: sum(train.size for train in sd.train) for name, sd in sortings.items()},
        delta_ms=delta_ms,
        min_agreement=min_agreement,
        pairs=pairs,
        units=tuple(_units(sortings, pairs)),
    )


def _pair(
    names: tuple[str, str], one: SpikeData, other: SpikeData, delta_ms: float, min_agreement: float
) -> PairAgreement:
    table = one.compare_sorter(other, delta_ms=delta_ms, match_score=min_agreement)
    matched = table[table["match"].notna()].reset_index().rename(columns={"accuracy": "agreement"})
    matched = matched.sort_values("agreement", ascending=False, kind="stable", ignore_index=True)
    unmatched = table.index[table["match"].isna()].tolist()
    found = set(matched["match"])
    lonely = [unit_id for unit_id in unit_ids(other.neuron_attributes) if unit_id not in found]
    return PairAgreement(names, matched.drop(columns=["precision", "recall"]), (unmatched, lonely))


def _units(sortings: Mapping[str, SpikeData], pairs: Sequence[PairAgreement]) -> list[FoundUnit]:
    """Join units that match to one, the best match first; a match of units that both have another partner is left.

    SpikeInterface's own comparison of more than two sorters loses units where matches contradict each other.
    """
    where = {
        (name, unit_id): _Group({name: unit_id}, [])
        for name, sd in sortings.items()
        for unit_id in unit_ids(sd.neuron_attributes)
    }
    for agreement, one, other in sorted(_matches(pairs), key=lambda match: -match[0]):
        here, there = where[one], where[other]
        if here is there:
            here.agreements.append(agreement)
        elif not here.members.keys() & there.members.keys():
            here.members |= there.members
            here.agreements += [*there.agreements, agreement]
            where |= dict.fromkeys(there.members.items(), here)
    groups = {id(group): group for group in where.values()}.values()
    units = [group.unit(list(sortings)) for group in groups]
    return sorted(units, key=lambda unit: (-len(unit.unit_ids), -unit.agreement))


@dataclass
class _Group:
    """Units that match, as far as they are joined."""

    members: dict[str, Any]
    agreements: list[float]

    def unit(self, names: Sequence[str]) -> FoundUnit:
        mean = sum(self.agreements) / len(self.agreements) if self.agreements else 0.0
        return FoundUnit({name: self.members[name] for name in names if name in self.members}, mean)


def _matches(pairs: Sequence[PairAgreement]) -> Iterator[tuple[float, tuple[str, Any], tuple[str, Any]]]:
    for pair in pairs:
        one, other = pair.names
        for row in pair.matches.itertuples():
            yield row.agreement, (one, row.unit_id), (other, row.match)


def _plain(value: Any) -> Any:
    """Return a number of numpy's as Python's own."""
    return value.item() if hasattr(value, "item") else value


# ------------------------------------------------------------------------------------------------ what fits together


def _check_numbers(delta_ms: float, min_agreement: float) -> None:
    if not delta_ms > 0:
        msg = f"delta_ms must be above 0 (ms), got {delta_ms!r}"
        raise ValueError(msg)
    if not 0 < min_agreement <= 1:
        msg = f"min_agreement must be above 0 and at most 1, got {min_agreement!r}"
        raise ValueError(msg)


def _check_sortings(sortings: Mapping[str, SpikeData]) -> None:
    if len(sortings) < 2:
        msg = f"two or more sortings can be compared, got {len(sortings)}"
        raise ValueError(msg)
    for name, sd in sortings.items():
        if not sd.N:
            msg = f"{name} has no unit: there is nothing to compare; leave it out"
            raise ValueError(msg)
    (first, one), *others = sortings.items()
    for name, sd in others:
        difference = next(_differences(one, sd), None)
        if difference:
            msg = (
                f"{first} and {name} are not sortings of one recording: {difference[0]} and {difference[1]}; compare "
                "those of one, over one period"
            )
            raise ValueError(msg)


def _differences(one: SpikeData, other: SpikeData) -> Iterator[tuple[str, str]]:
    """Yield what says that two sortings are not of one recording, where both say it."""
    rate_Hz, other_Hz = (sd.metadata.get("fs_Hz") for sd in (one, other))
    if rate_Hz and other_Hz and abs(rate_Hz - other_Hz) > _SAME_RATE * rate_Hz:
        yield f"{rate_Hz:g} Hz", f"{other_Hz:g} Hz"
    for read in (_files, _stream, _part):
        said = read(one), read(other)
        if None not in said and said[0] != said[1]:
            yield str(said[0]), str(said[1])
    allowed_ms = max(_SAME_LENGTH * max(one.length, other.length), _SAME_LENGTH_MS)
    if abs(one.start_time - other.start_time) > allowed_ms or abs(one.end_time - other.end_time) > allowed_ms:
        yield _span(one), _span(other)


def _files(sd: SpikeData) -> str | None:
    """Return the names of the files: people move them, and rarely rename them."""
    files = sd.metadata.get("source_file")
    return ", ".join(PurePath(file).name for file in files) if isinstance(files, (list, tuple)) else None


def _stream(sd: SpikeData) -> str | None:
    stream = sd.metadata.get("source_stream")
    return None if stream is None else f"stream {stream}"


def _part(sd: SpikeData) -> str | None:
    """Return which samples were sorted, where that was a part of the recording."""
    description = sd.metadata.get("recording")
    if not isinstance(description, str):
        return None
    starts = re.findall(r'"start_frame": (\d+)', description)
    return f"samples from {', '.join(starts) or 0} on"


def _span(sd: SpikeData) -> str:
    return f"{sd.start_time / 1000:g} to {sd.end_time / 1000:g} s"
