"""What the page says of all recordings together: how many stand where, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from spikelab.cli.live.view import View
from spikelab.cli.output import counted

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


def summary(views: Sequence[View], n_parallel: int = 1) -> Batch:
    """Return what `views` come to, with so many recordings in flight at once."""
    kinds = [view.kind for view in views]
    standing = _standing(kinds)
    counts = tuple((kind, _WORDS[kind], kinds.count(kind)) for kind in _WORDS if kind in kinds)
    left = left_s(views, n_parallel) if standing == "running" else None
    return Batch(standing, _headline(standing, kinds), counts, len(views), left)


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


def left_s(views: Sequence[View], n_parallel: int) -> float | None:
    """Return what running and waiting recordings will still take (s), by what sorted ones took; None: nothing tells.

    A recording takes as long as its length says where that is known, else as long as the others did.
    """
    done = [view for view in views if view.kind == "sorted" and view.elapsed_s]
    if not done:
        return None
    typical_s = median(view.elapsed_s or 0.0 for view in done)
    rates = [view.elapsed_s / view.recorded_s for view in done if view.elapsed_s and view.recorded_s]
    rate = median(rates) if rates else None
    running = [_left_of(view, typical_s, rate) for view in views if view.kind == "running"]
    known = [one for one in running if one is not None]
    if len(known) < len(running):
        return None
    waiting = sum(view.kind == "waiting" for view in views) * typical_s
    together = (sum(known) + waiting) / max(1, min(n_parallel, len(views)))
    return round(max(together, *known, 0.0), 1)


def _left_of(view: View, typical_s: float, rate: float | None) -> float | None:
    """Return what a running one will still take (s); None where it takes longer than the others did."""
    whole_s = rate * view.recorded_s if rate is not None and view.recorded_s else typical_s
    left = max(whole_s - (view.elapsed_s or 0.0), view.step_left_s or 0.0)
    return left or None
