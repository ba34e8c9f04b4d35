"""How well troughs are found: by a network or by a threshold, at each rate of false ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikelab.spike_sorting.backends.rt_sort.labels import Events, Labelled

Floats = npt.NDArray[np.float64]

_APART_MS, _MATCH_MS = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class Curve:
    """What is found at each threshold, from the highest threshold down.

    Attributes
    ----------
    threshold : ndarray, shape (n,)
        In the unit of the score.
    found_frac : ndarray, shape (n,)
        Share of the clear troughs that are found.
    false_Hz : ndarray, shape (n,)
        Detections a second and channel that are near no trough, clear or faint.
    """

    threshold: Floats
    found_frac: Floats
    false_Hz: Floats

    def found_at(self, false_Hz: float) -> float:
        """Return the largest share found at no more than so many false detections."""
        allowed = self.found_frac[self.false_Hz <= false_Hz]
        return float(allowed.max(initial=0.0))


def roc(recordings: Sequence[Labelled], scores: Sequence[npt.NDArray[np.float32]]) -> Curve:
    """Return what is found by scores that are high at troughs.

    Parameters
    ----------
    recordings : sequence of Labelled
        Traces and their troughs.
    scores : sequence of ndarray, shape (n_channels, n_samples), float32
        Of each of them: the probability of the network, say, or the negative traces.
    """
    heights, false, channel_s = [np.zeros(0)], [np.zeros(0)], 0.0
    for recording, score in zip(recordings, scores, strict=True):
        n_channels, n_samples = score.shape
        channel_s += n_channels * n_samples / recording.fs_Hz
        for channel, trace in enumerate(score):
            of_troughs, elsewhere = _heights(recording, channel, trace)
            heights.append(of_troughs)
            false.append(elsewhere)
    return _curve(np.concatenate(heights), np.concatenate(false), channel_s)


def _heights(recording: Labelled, channel: int, trace: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return the score's peak at each clear trough (-inf without one), and its peaks that are near no trough."""
    apart, match = (round(ms * recording.fs_Hz / 1000) for ms in (_APART_MS, _MATCH_MS))
    peaks = _peaks(trace, apart)
    clear = np.unique(_on(recording.clear, channel))
    first, last = np.searchsorted(peaks, clear - match), np.searchsorted(peaks, clear + match, side="right")
    near = [trace[peaks[a:b]].max(initial=-np.inf) for a, b in zip(first, last, strict=True)]
    known = np.sort(np.concatenate([clear, _on(recording.faint, channel)]))
    return np.array(near, dtype=np.float64), trace[_far(peaks, known, match)].astype(np.float64)


def _curve(heights: Floats, false: Floats, channel_s: float) -> Curve:
    threshold = np.unique(heights[np.isfinite(heights)])[::-1]
    found = len(heights) - np.searchsorted(np.sort(heights), threshold)
    wrong = len(false) - np.searchsorted(np.sort(false), threshold)
    return Curve(threshold, found / max(1, len(heights)), wrong / channel_s)


def _peaks(trace: npt.NDArray[np.float32], apart: int) -> npt.NDArray[np.int64]:
    """Return local maxima above 0, of those closer than `apart` samples the highest."""
    from scipy.signal import find_peaks

    peaks: npt.NDArray[np.int64] = find_peaks(trace, height=0.0, distance=apart)[0]
    return peaks


def _on(events: Events, channel: int) -> npt.NDArray[np.int64]:
    samples: npt.NDArray[np.int64] = events.samples[events.channels == channel]
    return samples


def _far(peaks: npt.NDArray[np.int64], samples: npt.NDArray[np.int64], reach: int) -> npt.NDArray[np.int64]:
    """Return the peaks that no sample is near."""
    before, until = np.searchsorted(samples, peaks - reach), np.searchsorted(samples, peaks + reach, side="right")
    far: npt.NDArray[np.int64] = peaks[before == until]
    return far
