"""Tails that go on behind the window in which they are followed: which channels have them."""

from __future__ import annotations

import numpy as np

from spikelab.stim_sorting._cleaning import MARGIN_MS, Cleaner, find_artifact
from spikelab.stim_sorting._events import Event
from spikelab.stim_sorting._inputs import Floats, Mask, Reader, filled, of_numbers, quiet_windows
from spikelab.stim_sorting._levels import Levels

_N_EVENTS = 40
_LEAST_SD, _OF_USUAL = 3.0, 3.0
"""Slow waves are away from the baseline as well, wherever one looks: a tail is farther away than they are."""


def outlasting(
    reader: Reader, times_ms: Floats, events: list[Event], cleaner: Cleaner, rails: Reader | None, seen: Levels | None
) -> tuple[Mask, float]:
    """Return the channels that are not back at their baseline behind the window, and how far the farthest is, in SD.

    Judged by the median over a sample of the events, so that spikes, and tails of a few events, do not count.
    """
    if not events:
        return np.zeros(reader.n_channels, dtype=bool), 0.0
    chosen = np.unique(np.linspace(0, len(events) - 1, min(len(events), _N_EVENTS)).astype(np.intp))
    distances = np.array([_behind(reader, events[index], cleaner, rails, seen) for index in chosen])
    levels = cleaner.levels
    distances[:, np.isnan(distances).all(axis=0)] = 0.0
    distance = np.nanmedian(distances, axis=0)
    usual = _usual(reader, times_ms, levels.baseline)
    least = np.maximum.reduce([levels.near, _LEAST_SD * levels.noise, _OF_USUAL * usual])
    away: Mask = (distance > least) & ~levels.stuck
    return away, float((distance / levels.noise)[away].max(initial=0.0))


def _behind(reader: Reader, event: Event, cleaner: Cleaner, rails: Reader | None, seen: Levels | None) -> Floats:
    """Return the median distance from the baseline right behind the window; NaN where the next event comes first."""
    raw = reader.read(event.start, event.stop)
    artifact = find_artifact(raw, event, cleaner, None if rails is None else rails.read(event.start, event.stop), seen)
    first = artifact.hull.end + cleaner.n_tail
    n_samples = cleaner.samples(MARGIN_MS)
    index = np.minimum(first[:, None] + np.arange(n_samples), artifact.window.shape[1] - 1)
    distance: Floats = np.median(np.abs(np.take_along_axis(artifact.window, index, axis=1)), axis=1).astype(np.float64)
    distance[first + n_samples > artifact.until] = np.nan
    return distance


def _usual(reader: Reader, times_ms: Floats, baseline: Floats) -> Floats:
    """Return the median distance from the baseline between the events."""
    windows = [filled(window) for window in quiet_windows(reader, times_ms)]
    distances = [np.median(np.abs(window - baseline[:, None]), axis=1) for window, _ in windows]
    usual: Floats = np.nanmedian(of_numbers(distances, [finite for _, finite in windows]), axis=0)
    return usual
