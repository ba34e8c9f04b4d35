"""What the page says of all recordings together: how many stand where, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from spikelab.cli.live.view import View
from spikelab.cli.output import counted
from spikelab.spike_sorting.schedule import Flight

Standing = Literal["empty", "running", "gone", "finished"]

_ORDER = ("running", "failed", "gone", "silent", "stopped", "unknown", "waiting", "sorted")
_WORDS = {
    "running": "running",
    "waiting": "waiting",
    "sorted": "sorted",
    "failed": "failed",
    "stopped": "stopped",
    "gone": "not finished",
    "silent": "not answering",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Batch:
    """All recordings together.

    Parameters
    ----------
    standing : {"empty", "running", "gone", "finished"}
        Whether somebody works, nobody although there is work left, or nobody because all is done.
    headline : str
        The same in words.
    counts : tuple of (str, str, int)
        Kind, what it is called, and how many recordings are of it; what none is of is left out.
    n_total : int
        Recordings.
    left_s : float or None
        What the batch will still take (s); None: nothing tells.
    """

    standing: Standing
    headline: str
    counts: tuple[tuple[str, str, int], ...]
    n_total: int
    left_s: float | None


def summary(views: Sequence[View], n_parallel: int = 1, n_gpus: int = 0) -> Batch:
    """Return what `views` come to, with so many recordings in flight at once, sorted on so many GPUs."""
    kinds = [view.kind for view in views]
    standing = _standing(kinds)
    counts = tuple((kind, _WORDS[kind], kinds.count(kind)) for kind in _WORDS if kind in kinds)
    return Batch(standing, _headline(standing, kinds), counts, len(views), left_s(views, n_parallel, n_gpus))


def in_order(views: Sequence[View]) -> list[View]:
    """Return what needs eyes first: what runs, then what failed, then the rest."""
    return sorted(views, key=lambda view: _ORDER.index(view.kind))


def _standing(kinds: Sequence[str]) -> Standing:
    if not kinds:
        return "empty"
    if "running" in kinds or "waiting" in kinds:
        return "running"
    return "gone" if "gone" in kinds else "finished"


def _headline(standing: Standing, kinds: Sequence[str]) -> str:
    n_sorted, total = kinds.count("sorted"), counted(len(kinds), "recording")
    if standing == "empty":
        return "No sort yet"
    if standing == "running":
        return f"{n_sorted} of {total} sorted"
    if standing == "gone":
        return f"The process that ran this batch is gone: {n_sorted} of {total} sorted"
    if n_sorted == len(kinds):
        return f"Finished: {total} sorted"
    return f"Finished: {n_sorted} of {total} sorted"


# ---------------------------------------------------------------------------------------------- the time left


def with_time_left(views: Sequence[View]) -> list[View]:
    """Return `views`, what runs and waits with what it will still take where something tells that.

    That is the time per second of recording of those that are sorted, or the estimate from before the start, or what
    the others took or are estimated to take.
    """
    done = [view for view in views if view.kind == "sorted" and view.elapsed_s]
    rates = [view.elapsed_s / view.recorded_s for view in done if view.elapsed_s and view.recorded_s]
    wholes = [view.elapsed_s for view in done if view.elapsed_s]
    wholes = wholes or [view.estimated_s for view in views if view.estimated_s]
    rate, typical = median(rates) if rates else None, median(wholes) if wholes else None
    return [replace(view, left_s=_left_of(view, rate, typical)) for view in views]


def _left_of(view: View, rate: float | None, typical_s: float | None) -> float | None:
    """Return what one will still take (s); None where nothing tells, as of one that takes longer than thought."""
    if view.kind == "waiting":
        return typical_s
    if view.kind != "running":
        return None
    by_length = rate * view.recorded_s if rate is not None and view.recorded_s else None
    whole_s = next((known for known in (by_length, view.estimated_s, typical_s) if known is not None), None)
    if whole_s is None:
        return None
    left = max(whole_s - (view.elapsed_s or 0.0), view.step_left_s or 0.0)
    return round(left, 1) or None


def left_s(views: Sequence[View], n_parallel: int, n_gpus: int = 0) -> float | None:
    """Return what all `views`, see `with_time_left`, will still take (s); None: nothing tells.

    One that takes longer than thought counts as nearly done.
    """
    times = [view.left_s for view in views if view.kind in {"running", "waiting"}]
    known = [time for time in times if time is not None]
    if not known:
        return None
    flight = Flight(max(1, min(n_parallel, len(times))), n_gpus)
    return round(flight.together_s(known, _sorts_left_s(views)), 1)


def _sorts_left_s(views: Sequence[View]) -> float:
    """Return what all sorts will still take (s), without what comes before and after each."""
    ended = [view.sort_frac for view in views if view.kind == "sorted" and view.sort_frac is not None]
    shares = ended or [view.sort_frac for view in views if view.sort_frac is not None]
    typical = median(shares) if shares else 0.0
    return sum(typical * (view.left_s or 0.0) for view in views if view.kind == "waiting" or _has_sort_before(view))


def _has_sort_before(view: View) -> bool:
    return view.kind == "running" and not any(name == "sort" and standing == "done" for name, standing in view.stages)
