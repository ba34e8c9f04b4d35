"""Where the pulse and the saturation after it lie: what no curve can follow, and is blanked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, Mask
from spikelab.stim_sorting._levels import Levels

SEARCH_BEFORE_MS, SEARCH_AFTER_MS = 2.0, 2.0
"""Around the logged edge, where the pulse is looked for: the first phase of a pulse lies before its edge."""
_STEEP_SD = 40.0
"""Second differences above this, in SDs of the noise's own, belong to a pulse: spikes stay well below."""
_STEEP_IN_PULSE_SD = 6.0
_STRONG_SD, _STRONG_FRAC = 60.0, 0.3
"""Channels that show the pulse best: far above the noise, and not much smaller than on the best one."""
_ONSET_SD = 3.0
_SMALL_PULSE_FRAC = 0.25
"""How far the edges of a pulse that no channel shows well may be from the logged one, of the time that is searched."""
_JUMP_FRAC = 0.3
"""A step by this fraction of the window's largest voltage is an edge of a pulse, and no decay."""


@dataclass(frozen=True, eq=False)
class Hull:
    """The samples of an event that no curve can follow, from `begin` to `end` on each channel.

    Attributes
    ----------
    begin, end : ndarray, shape (n_channels,), int64
        In samples of the window; equal where a channel shows no pulse.
    """

    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


def saturated(window: Floats, levels: Levels) -> Mask:
    """Return the samples of a window, relative to the baseline, that lie at a rail."""
    mask: Mask = (window >= levels.high[:, None]) | (window <= levels.low[:, None])
    return mask


def find_hull(window: Floats, at_rail: Mask, levels: Levels, edge: int, n_near: int, longest_gap: int) -> Hull:
    """Return where the pulse and its saturation lie on each channel.

    Parameters
    ----------
    window : ndarray, shape (n_channels, n_samples)
        Samples relative to the baseline, from where the pulse may begin.
    at_rail : ndarray, shape (n_channels, n_samples), bool
        Saturated samples.
    levels : Levels
        What the channels are like.
    edge : int
        Sample of the logged edge.
    n_near : int
        Samples in which the pulse itself lies.
    longest_gap : int
        Samples between two saturated stretches of one artifact; what comes later is another.
    """
    bend = np.abs(np.diff(window, n=2, axis=1, prepend=window[:, :1], append=window[:, -1:]))
    bend /= levels.jerk[:, None]
    steep = bend > _STEEP_SD
    common = _common_pulse(window[:, :n_near], levels)
    first, last = (edge, edge) if common is None else common
    hard = at_rail | steep
    beside = 2 if common is not None else max(2, round(_SMALL_PULSE_FRAC * (n_near - edge)))
    around = slice(max(0, first - beside), last + beside + 1)
    hard[:, around] |= bend[:, around] > _STEEP_IN_PULSE_SD
    # A pulse that is seen at all lasts as long as on the channels that see it best.
    seen = hard[:, around].any(axis=1)
    hard[seen, first : last + 1] = True
    begin, end = _first_cluster(hard, longest_gap, first)
    if common is None:
        # No channel shows where a small pulse begins, by its edges alone.
        begin = np.where(end > begin, find_onset(window, begin, levels), begin)
    return Hull(begin, np.where(end > begin, np.minimum(end + 1, window.shape[1]), end))


def find_onset(window: Floats, position: npt.NDArray[np.int64], levels: Levels) -> npt.NDArray[np.int64]:
    """Return the first of the samples right before a position on each channel that are away from where it lay before.

    `window` begins well before the pulse, with samples that tell where the channel lay.
    """
    before = _levels_of_first(window, np.maximum(1, position // 2))
    away = np.abs(window - before[:, None]) > _ONSET_SD * levels.noise[:, None]
    # One sample of noise does not end it.
    away[:, 1:-1] |= away[:, :-2] & away[:, 2:]
    away |= np.arange(window.shape[1]) >= position[:, None]
    n_samples = window.shape[1]
    last_back: npt.NDArray[np.int64] = n_samples - (~away[:, ::-1]).argmax(axis=1)
    return np.where(away.all(axis=1), 0, last_back).astype(np.int64)


def _levels_of_first(window: Floats, n_first: npt.NDArray[np.int64]) -> Floats:
    """Return the median of each channel's own number of first samples."""
    levels = np.empty(len(window), dtype=window.dtype)
    for number in np.unique(n_first):
        levels[n_first == number] = np.median(window[n_first == number, :number], axis=1)
    return levels


def _common_pulse(window: Floats, levels: Levels) -> tuple[int, int] | None:
    """Return the first and the last sample of the pulse, the same on all channels, as the strongest ones show it."""
    largest = np.abs(window).max(axis=1, initial=0.0)
    largest[levels.stuck] = 0.0
    strong = (largest > _STRONG_SD * levels.noise) & (largest >= _STRONG_FRAC * largest.max())
    step = np.abs(np.diff(window[strong], axis=1, prepend=window[strong, :1]))
    samples = np.flatnonzero((step > _JUMP_FRAC * largest[strong, None]).any(axis=0))
    if samples.size == 0:
        return None
    return int(max(0, samples[0] - 1)), int(samples[-1])


def _first_cluster(hard: Mask, longest_gap: int, edge: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return begin and end of the first hard stretch of each channel, gaps of up to `longest_gap` bridged."""
    n_samples = hard.shape[1]
    found = hard.any(axis=1)
    begin = np.where(found, hard.argmax(axis=1), edge).astype(np.int64)
    end = np.where(found, n_samples - hard[:, ::-1].argmax(axis=1), edge).astype(np.int64)
    for channel in np.flatnonzero(end - begin > longest_gap):
        where = np.flatnonzero(hard[channel])
        wide = np.flatnonzero(np.diff(where) > longest_gap)
        if wide.size:
            end[channel] = where[wide[0]] + 1
    return begin, end
