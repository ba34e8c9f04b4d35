"""The report of a batch as a note and as a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.remarks import CODES, sentence
from spikelab.spike_sorting.report import wells, wording
from spikelab.spike_sorting.report.batch import Entry, plates_of
from spikelab.spike_sorting.report.markdown import inline, table
from spikelab.spike_sorting.report.page import environment
from spikelab.spike_sorting.report.plain import mapping, to_number
from spikelab.spike_sorting.report.wording import UNKNOWN, count, decimal, duration, number


@dataclass(frozen=True)
class Harvest:
    """What a batch comes to.

    Parameters
    ----------
    n_recordings, n_sorted : int
        Recordings, and those that are sorted.
    n_units, n_kept, n_spikes : int
        Units found, units kept, and their spikes, over the sorted ones.
    duration_s, work_s : float
        Length of what was sorted, and the time that it took (s).
    """

    n_recordings: int
    n_sorted: int
    n_units: int
    n_kept: int
    n_spikes: int
    duration_s: float
    work_s: float


def harvest(entries: Sequence[Entry]) -> Harvest:
    """Return what a batch comes to."""
    done = [entry.result for entry in entries if entry.result.succeeded]
    return Harvest(
        n_recordings=len(entries),
        n_sorted=len(done),
        n_units=sum(result.n_units or 0 for result in done),
        n_kept=sum(result.n_curated_units or 0 for result in done),
        n_spikes=sum(result.n_spikes or 0 for result in done),
        duration_s=sum(e.duration_s for e in entries if e.result.succeeded and math.isfinite(e.duration_s)),
        work_s=sum(wording.total_s(entry.result) for entry in entries),
    )


def headline(entries: Sequence[Entry]) -> str:
    """Return in one line what came of the batch."""
    total = harvest(entries)
    if total.n_sorted == total.n_recordings:
        return f"{count(total.n_recordings, 'recording')} sorted: {count(total.n_kept, 'unit')} kept"
    return f"{number(total.n_sorted)} of {count(total.n_recordings, 'recording')} sorted"


# ------------------------------------------------------------------------------------------------------- note

_COLUMNS = (
    "recording",
    "outcome",
    "units found",
    "units kept",
    "spikes",
    "recorded",
    "median SNR",
    "estimated",
    "took",
    "to look at",
)


def to_markdown(entries: Sequence[Entry]) -> str:
    """Return the note: what came of the batch, of each recording, and what to do about those that failed."""
    sections = [f"# {inline(headline(entries))}", table("Recordings", _COLUMNS, [_cells(entry) for entry in entries])]
    sections += [_told(group) for group in unsorted(entries)]
    return "\n\n".join(sections) + "\n"


def _told(group: Sequence[Entry]) -> str:
    result = group[0].result
    names = ", ".join(entry.result.rec_name for entry in group)
    lines = [f"## {inline(wording.verdict_of(result))}", inline(names)]
    lines += [inline(result.error_message)] if result.error_message else []
    lines += [f"**What to do:** {inline(result.advice)}"] if result.advice else []
    return "\n\n".join(lines)


def unsorted(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the recordings that are not sorted, those together of which the same is to be said."""
    groups: dict[tuple[str | None, ...], list[Entry]] = {}
    for entry in entries:
        result = entry.result
        if not result.succeeded:
            said = (wording.verdict_of(result), result.error_message, result.advice)
            groups.setdefault(said, []).append(entry)
    return list(groups.values())


def _cells(entry: Entry) -> tuple[str, ...]:
    result = entry.result
    return (
        result.rec_name,
        outcome_of(result),
        number(result.n_units),
        number(result.n_curated_units),
        number(result.n_spikes),
        duration(entry.duration_s),
        decimal(entry.median_snr, 1),
        duration(estimated_s(result)),
        duration(wording.total_s(result)),
        number(n_remarks(result)),
    )


def estimated_s(result: RecordingResult) -> float:
    """Return what a recording was expected to take (s); NaN where nobody has asked."""
    return to_number(mapping(result.estimated_s).get("likely"))


def n_remarks(result: RecordingResult) -> int:
    """Return how much there is to look at."""
    return len(result.suspicions) + len(result.warnings)


@dataclass(frozen=True)
class Told:
    """A suspicion or warning, and the recordings that have it.

    Parameters
    ----------
    code, meaning : str
        Its name for programs, and what was found, in general.
    entries : tuple of Entry
        The recordings.
    """

    code: str
    meaning: str
    entries: tuple[Entry, ...]


def told_of(entries: Iterable[Entry]) -> list[Told]:
    """Return what deserves a look in sorted recordings: suspicions first, then warnings, the commonest first."""
    found: dict[tuple[bool, str], dict[int, Entry]] = {}
    for entry in entries:
        result = entry.result
        told = [(False, one.code) for one in result.suspicions] + [(True, one.code) for one in result.warnings]
        for is_warning, code in told if result.succeeded else ():
            found.setdefault((is_warning, code), {})[id(entry)] = entry
    ordered = sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    return [
        Told(code, CODES[code].meaning if code in CODES else sentence(code), tuple(members.values()))
        for (_, code), members in ordered
    ]


def outcome_of(result: RecordingResult) -> str:
    """Return what came of a recording in a word or two."""
    return "sorted" if result.succeeded else result.status.replace("_", " ")


# ------------------------------------------------------------------------------------------------------- page


def to_html(entries: Sequence[Entry]) -> str:
    """Return the page."""
    most = max((entry.result.n_units or 0 for entry in entries), default=0)
    page: str = (
        environment()
        .get_template("batch.html.j2")
        .render(
            title=headline(entries),
            is_good=all(entry.result.succeeded for entry in entries),
            cards=_cards(entries),
            plates=[(plate, Path(plate.path).name) for plate in plates_of(entries)],
            wells=wells,
            columns=_COLUMNS,
            rows=[(entry, _cells(entry)) for entry in entries],
            outcome_of=outcome_of,
            failed=unsorted(entries),
            verdict=wording.verdict_of,
            took=wording.total_s,
            estimated=estimated_s,
            remarks_of=n_remarks,
            told=told_of(entries),
            most_units=most,
            written=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            unknown=UNKNOWN,
        )
    )
    return page


def _cards(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    total = harvest(entries)
    return [
        (f"{number(total.n_sorted)} / {number(total.n_recordings)}", "recordings sorted"),
        (number(total.n_units), "units found"),
        (number(total.n_kept), "units kept"),
        (number(total.n_spikes), "spikes of units kept"),
        (duration(total.duration_s), "of recording"),
        (duration(total.work_s), "of work"),
    ]
