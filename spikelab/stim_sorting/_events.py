"""Which samples each event concerns: planned once, so that any part of a recording can be cleaned by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, Reader, filled
from spikelab.stim_sorting._levels import Levels
from spikelab.stim_sorting._pulse import SEARCH_AFTER_MS, SEARCH_BEFORE_MS, saturated

_STEP_MS = 20.0
_LONGEST_SATURATION_MS = 2_000.0


@dataclass(frozen=True, eq=False)
class Event:
    """One pulse, or one logged train, and the samples that it concerns.

    Attributes
    ----------
    start, stop : int
        Samples of the recording that decide how it is cleaned, stop excluded.
    edge : int
        Sample of the logged edge.
    near : int
        End of the samples in which the pulse itself lies.
    next_start, next_edge : int or None
        Those of the next event, where it begins within this one.
    """

    start: int
    stop: int
    edge: int
    near: int
    next_start: int | None
    next_edge: int | None


@dataclass(frozen=True, eq=False)
class Windows:
    """Where the pulse of each event is looked for, in samples; shape (n_events,), int64.

    Attributes
    ----------
    start, edge, near : ndarray
        First sample, sample of the logged edge, and end.
    """

    start: npt.NDArray[np.int64]
    edge: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]


def pulse_windows(times_ms: Floats, n_samples: int, fs_Hz: float) -> Windows:
    """Return where the pulse of each event is looked for; no two windows overlap."""
    edges = np.asarray(times_ms, dtype=np.float64) * fs_Hz / 1000
    gaps = np.diff(edges, prepend=-np.inf, append=np.inf)
    before = np.minimum(SEARCH_BEFORE_MS * fs_Hz / 1000, gaps[:-1] / 2)
    start = np.maximum(np.ceil(edges - before), 0).astype(np.int64)
    near = np.ceil(edges + SEARCH_AFTER_MS * fs_Hz / 1000).astype(np.int64) + 1
    near = np.minimum(near, ends_at(start, n_samples))
    return Windows(start, np.minimum(np.rint(edges).astype(np.int64), n_samples - 1), near)


def ends_at(start: npt.NDArray[np.int64], n_samples: int) -> npt.NDArray[np.int64]:
    """Return where each window ends at the latest: where the next one begins, or the recording ends."""
    return np.append(start[1:], n_samples)[: start.size]


def find_reaches(reader: Reader, windows: Windows, levels: Levels, n_tail: int) -> npt.NDArray[np.int64]:
    """Return where each event ends: `n_tail` samples after the last saturated one, or where the next one begins."""
    follows = ends_at(windows.start, reader.n_samples)
    reaches: npt.NDArray[np.int64] = np.minimum(windows.near + n_tail, follows)
    active = ~levels.stuck
    if not active.any() or not (np.isfinite(levels.low) | np.isfinite(levels.high))[active].any():
        return reaches
    for index, (start, limit) in enumerate(zip(windows.start, follows, strict=True)):
        reaches[index] = _reach(reader, int(start), int(reaches[index]), int(limit), levels, active, n_tail)
    return reaches


def _reach(
    reader: Reader,
    start: int,
    reach: int,
    limit: int,
    levels: Levels,
    active: npt.NDArray[np.bool_],
    n_tail: int,
) -> int:
    """Return the end of one event, reading on for as long as something is saturated."""
    step = max(n_tail, round(_STEP_MS * reader.fs_Hz / 1000))
    longest = start + round(_LONGEST_SATURATION_MS * reader.fs_Hz / 1000)
    seen = start
    while seen < reach:
        window = filled(reader.read(seen, reach))[0] - levels.baseline[:, None]
        at_rail = np.flatnonzero((saturated(window, levels) & active[:, None]).any(axis=0))
        last = seen + int(at_rail[-1]) if at_rail.size else start
        seen = reach
        if last + n_tail + 2 > reach:
            reach = min(max(last + n_tail + 2, reach + step * (last >= reach - 1)), limit, longest)
    return reach


def make_events(windows: Windows, reaches: npt.NDArray[Any]) -> list[Event]:
    """Return the events, each with what it must know of the next one."""
    events = []
    for index in range(len(windows.start)):
        follower = index + 1 if index + 1 < len(windows.start) and reaches[index] >= windows.start[index + 1] else None
        events.append(
            Event(
                start=int(windows.start[index]),
                stop=int(reaches[index] if follower is None else windows.near[follower]),
                edge=int(windows.edge[index]),
                near=int(windows.near[index]),
                next_start=None if follower is None else int(windows.start[follower]),
                next_edge=None if follower is None else int(windows.edge[follower]),
            )
        )
    return events
