"""One event cleaned: from its samples alone, so that the result does not depend on how a recording is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._events import Event
from spikelab.stim_sorting._inputs import Floats, Mask, filled
from spikelab.stim_sorting._levels import Levels
from spikelab.stim_sorting._pulse import Hull, find_hull, find_onset, saturated
from spikelab.stim_sorting._tail import fit_tails

Method = Literal["polynomial", "blank"]

LONGEST_TAIL_WINDOWS = 10
"""How far a tail is followed when it is not bound to the artifact window."""
_SETTLING_MS = 1.0
_SETTLING_SD = 4.5
_SHORTEST_TAPER_MS, _LONGEST_TAPER_FRAC = 0.3, 0.75
_FADE_IN_MS = 0.5
_SHORTEST_TAIL_MS = 1.0
MARGIN_MS = 2.5
"""How much is read behind the window: where a tail ends is clearer from what follows."""
_LEVEL_MS = 0.5


@dataclass(frozen=True, eq=False)
class Cleaner:
    """How events are cleaned.

    Attributes
    ----------
    levels : Levels
        What the channels are like.
    fs_Hz : float
        Sampling rate (Hz).
    method : {"polynomial", "blank"}
        Whether tails are kept.
    n_window : int
        Samples of the artifact window.
    poly_order : int
        Order of the polynomial.
    window_only : bool
        Whether tails are followed within the window only.
    clamp_factor : float
        The curve stays within this many times the tail's own amplitude.
    """

    levels: Levels
    fs_Hz: float
    method: Method
    n_window: int
    poly_order: int
    window_only: bool
    clamp_factor: float

    @property
    def n_tail(self) -> int:
        """Samples in which a tail is followed."""
        return self.n_window if self.window_only or self.method == "blank" else LONGEST_TAIL_WINDOWS * self.n_window

    @property
    def n_read(self) -> int:
        """Samples after the pulse that decide its curve."""
        return self.n_tail + self.samples(MARGIN_MS)

    def samples(self, ms: float) -> int:
        """Return a duration in samples, at least 1."""
        return max(1, round(ms * self.fs_Hz / 1000))


@dataclass(frozen=True, eq=False)
class Correction:
    """What is done to the samples from `start` on; arrays have the shape (n_channels, n_samples).

    Attributes
    ----------
    start : int
        First sample.
    curve : ndarray, float32
        To be subtracted; 0 where samples stay as they are.
    blanked : ndarray, bool
        To be set to zero.
    n_saturated : ndarray, shape (n_channels,), int64
        Samples at a rail, those of the next event apart.
    """

    start: int
    curve: npt.NDArray[np.float32]
    blanked: Mask
    n_saturated: npt.NDArray[np.int64]

    def part(self, start: int, end: int) -> tuple[slice, slice]:
        """Return where samples `start` to `end` overlap with this: in those samples, and in these arrays."""
        low, high = max(start, self.start), min(end, self.start + self.curve.shape[1])
        return slice(low - start, high - start), slice(low - self.start, high - self.start)


def clean_event(
    raw: npt.NDArray[Any],
    event: Event,
    cleaner: Cleaner,
    seen: npt.NDArray[Any] | None = None,
    seen_levels: Levels | None = None,
) -> Correction:
    """Return what is done to the samples of one event.

    Parameters
    ----------
    raw : ndarray, shape (n_channels, n_samples)
        Samples of the recording from ``event.start`` to ``event.stop``.
    event : Event
        Which samples they are.
    cleaner : Cleaner
        How to clean.
    seen : ndarray or None
        The same samples where saturation shows, when it does not in `raw`.
    seen_levels : Levels or None
        What the channels are like there.
    """
    levels = cleaner.levels
    found = find_artifact(raw, event, cleaner, seen, seen_levels)
    window, at_rail, hull, until = found.window, found.at_rail, found.hull, found.until
    blanked = _hull_mask(hull, at_rail, until, window.shape[1])
    after = _between(hull.end, until, window.shape[1]) & found.finite
    curve = np.zeros(window.shape, dtype=np.float32)
    if cleaner.method == "blank":
        blanked |= _between(hull.end, np.minimum(hull.end + cleaner.n_tail, until), window.shape[1])
    else:
        if event.next_start is not None:
            merged = _bursts(window, hull, until, cleaner)
            after &= ~merged[:, None]
            blanked[merged] |= _between(hull.begin, until, window.shape[1])[merged]
        _follow_tails(window, hull, after, curve, blanked, cleaner)
    blanked[levels.stuck] = False
    curve[levels.stuck] = 0.0
    n_saturated = np.where(levels.stuck, 0, np.count_nonzero(at_rail[:, : found.n_own], axis=1))
    return Correction(event.start, curve, blanked, n_saturated)


@dataclass(frozen=True, eq=False)
class Artifact:
    """Where the artifact of an event lies; `window`, `finite` and `at_rail` have the shape (n_channels, n_samples).

    Attributes
    ----------
    window : ndarray, float32
        Samples relative to the baseline, from the first one of the event on.
    finite : ndarray, bool
        Samples that are numbers.
    at_rail : ndarray, bool
        Saturated samples.
    hull : Hull
        The pulse and its saturation.
    until : ndarray, shape (n_channels,), int64
        Where the next event takes over.
    n_own : int
        Samples before those of the next event.
    """

    window: npt.NDArray[np.float32]
    finite: Mask
    at_rail: Mask
    hull: Hull
    until: npt.NDArray[np.int64]
    n_own: int


def find_artifact(
    raw: npt.NDArray[Any],
    event: Event,
    cleaner: Cleaner,
    seen: npt.NDArray[Any] | None = None,
    seen_levels: Levels | None = None,
) -> Artifact:
    """Return where the artifact of an event lies; parameters are those of `clean_event`."""
    # What is no number decides nothing, and stays what it is.
    whole, finite = filled(raw)
    window = whole.astype(np.float32) - cleaner.levels.baseline[:, None].astype(np.float32)
    if seen is None or seen_levels is None:
        at_rail = saturated(window, cleaner.levels)
    else:
        at_rail = saturated(filled(seen)[0] - seen_levels.baseline[:, None], seen_levels)
    n_own = raw.shape[1] if event.next_start is None else event.next_start - event.start
    own, edge, near = slice(0, n_own), event.edge - event.start, event.near - event.start
    hull = find_hull(window[:, own], at_rail[:, own], cleaner.levels, edge, near, cleaner.n_window)
    return Artifact(window, finite, at_rail, hull, _onset_of_next(window, at_rail, event, cleaner), n_own)


def _onset_of_next(window: Floats, at_rail: Mask, event: Event, cleaner: Cleaner) -> npt.NDArray[np.int64]:
    """Return where the next event takes over on each channel: the begin of its pulse, or the end of the samples."""
    n_channels, n_samples = window.shape
    if event.next_start is None or event.next_edge is None:
        return np.full(n_channels, n_samples, dtype=np.int64)
    begin = event.next_start - event.start
    near = slice(begin, n_samples)
    edge, n_near = event.next_edge - event.next_start, n_samples - begin
    following = find_hull(window[:, near], at_rail[:, near], cleaner.levels, edge, n_near, cleaner.n_window)
    return following.begin + begin


def _between(begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], n_samples: int) -> Mask:
    """Return which samples lie from `begin` to `end` (excluded) of each channel, shape (channels, samples)."""
    position = np.arange(n_samples)
    inside: Mask = (position >= begin[:, None]) & (position < end[:, None])
    return inside


def _hull_mask(hull: Hull, at_rail: Mask, until: npt.NDArray[np.int64], n_samples: int) -> Mask:
    late = at_rail & _between(hull.begin, until, n_samples)
    return late | _between(hull.begin, np.minimum(hull.end, until), n_samples)


def _bursts(window: Floats, hull: Hull, until: npt.NDArray[np.int64], cleaner: Cleaner) -> Mask:
    """Return the channels that have not come back to their baseline before the next pulse, which belongs to a burst."""
    gap = until - hull.end
    away = np.abs(_level_before(window, until, cleaner)) > cleaner.levels.near
    away |= gap < cleaner.samples(_SHORTEST_TAIL_MS)
    # A pulse that a channel does not show is no part of a burst there.
    bursts: Mask = away & (gap <= cleaner.n_tail) & (hull.end > hull.begin)
    return bursts


def _level_before(window: Floats, position: npt.NDArray[np.int64], cleaner: Cleaner) -> Floats:
    """Return the median of the samples right before a position on each channel."""
    before = position[:, None] - 1 - np.arange(cleaner.samples(_LEVEL_MS))
    samples = np.take_along_axis(window, np.clip(before, 0, window.shape[1] - 1), axis=1)
    levels: Floats = np.median(samples, axis=1)
    return levels


def _follow_tails(window: Floats, hull: Hull, after: Mask, curve: Floats, blanked: Mask, cleaner: Cleaner) -> None:
    """Fill in the curves of all tails, and blank what they do not follow right after the saturation."""
    rows = np.flatnonzero(after.any(axis=1) & ~cleaner.levels.stuck)
    if rows.size == 0:
        return
    index = hull.end[rows, None] + np.arange(cleaner.n_read)
    inside = index < window.shape[1]
    index = np.minimum(index, window.shape[1] - 1)
    known = np.take_along_axis(after[rows] & ~blanked[rows], index, axis=1) & inside
    samples = np.take_along_axis(window[rows], index, axis=1).astype(np.float64)
    noise = cleaner.levels.noise[rows]
    curves, residuals = fit_tails(samples, known, noise, cleaner.fs_Hz, cleaner.poly_order)
    tail = slice(0, cleaner.n_tail)
    curves, residuals, samples, index = curves[:, tail], residuals[:, tail], samples[:, tail], index[:, tail]
    known = known[:, tail]
    pulsed: Mask = np.greater(hull.end, hull.begin)[rows]
    size = np.sqrt((samples**2 * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    limit = cleaner.clamp_factor * np.maximum(size, noise)
    curves = np.clip(curves, -limit[:, None], limit[:, None])
    steps = _steps(curves, _level_before(window[rows], hull.end[rows], cleaner), cleaner)
    jumps: Mask = (steps > cleaner.levels.near[rows]) & ~pulsed
    jumping = rows[jumps]
    if jumping.size:
        onset = find_onset(window[jumping], hull.end[jumping], cleaner.levels.of(jumping))
        blanked[jumping] |= _between(onset, hull.end[jumping], window.shape[1])
    pulsed |= jumps
    settling = _settling(residuals, noise, cleaner) & pulsed[:, None] & known
    left = np.where(pulsed[:, None], 0.0, _left_at_begin(curves, known, noise, cleaner))
    tapered = (curves - left) * _taper(curves, known, noise, cleaner)
    at = np.broadcast_to(rows[:, None], index.shape)[known], index[known]
    curve[at] = tapered[known]
    blanked[at] |= settling[known]


def _steps(curves: Floats, before: Floats, cleaner: Cleaner) -> Floats:
    """Return the height of the step at which each curve begins, where it is a step: a slow wave goes on from `before`.

    A step is where an artifact begins of which no sample shows a pulse.
    """
    n_samples = min(cleaner.samples(_LEVEL_MS), curves.shape[1] - 1)
    # `before` is a median, half as far back as its samples reach.
    slope = (curves[:, n_samples] - curves[:, 0]) / n_samples
    steps: Floats = np.abs(curves[:, 0] - slope * 0.5 * (cleaner.samples(_LEVEL_MS) + 1) - before)
    return steps


def _settling(residuals: Floats, noise: Floats, cleaner: Cleaner) -> Mask:
    """Return the samples right after the saturation that the curve does not follow: up to where it first does."""
    far = np.abs(residuals[:, : cleaner.samples(_SETTLING_MS)]) > _SETTLING_SD * noise[:, None]
    settling = np.zeros(residuals.shape, dtype=bool)
    settling[:, : far.shape[1]] = (np.cumsum(~far, axis=1) <= 1) & far.any(axis=1, keepdims=True)
    # A spike later on is none of it.
    settling[~np.any(far[:, :2], axis=1)] = False
    return settling


def _taper(curves: Floats, known: Mask, noise: Floats, cleaner: Cleaner) -> Floats:
    """Return weights that end at 0 with each tail, so that no step is left where untouched samples begin.

    The farther from the baseline a tail ends, the longer they take: no sample differs from the one before it by
    more than half the noise.
    """
    length = np.maximum(known.shape[1] - known[:, ::-1].argmax(axis=1), 1)
    last = np.take_along_axis(curves, length[:, None] - 1, axis=1)[:, 0]
    n_taper = _gradual(last, length, noise, cleaner.samples(_SHORTEST_TAPER_MS))
    return _rise((length[:, None] - 0.5 - np.arange(known.shape[1])) / n_taper[:, None])


def _left_at_begin(curves: Floats, known: Mask, noise: Floats, cleaner: Cleaner) -> Floats:
    """Return what is not taken away of tails before which nothing is blanked, so that they begin without a step."""
    n_left = _gradual(curves[:, 0], known.sum(axis=1), noise, cleaner.samples(_FADE_IN_MS))
    return curves[:, :1] * (1.0 - _rise((np.arange(known.shape[1]) + 0.5) / n_left[:, None]))


def _gradual(height: Floats, length: npt.NDArray[np.integer], noise: Floats, shortest: int) -> Floats:
    """Return in how many samples a curve may come from 0 to a height."""
    n_samples: Floats = np.clip(np.pi * np.abs(height) / noise, shortest, _LONGEST_TAPER_FRAC * length)
    return np.maximum(n_samples, 1.0)


def _rise(share: Floats) -> Floats:
    """Return weights that rise smoothly from 0 at a share of 0 to 1 at a share of 1."""
    weights: Floats = np.sin(0.5 * np.pi * np.clip(share, 0.0, 1.0)) ** 2
    return weights
