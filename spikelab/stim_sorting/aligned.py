"""Spikes around the events of stimulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, checked_times

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_MIN_EXCESS_SD = 4.0


@dataclass(frozen=True, eq=False)
class StimSorting:
    """A recording with stimulation, sorted.

    Attributes
    ----------
    spikedata : SpikeData
        The whole recording; its metadata has ``stim_times_ms`` and ``blanked_ms``.
    aligned : list of SpikeData
        One for each event whose window lies within the recording, times relative to the event (ms).
    summary : dict
        What became of the artifacts: logged and true times, offsets, what is blanked, channels that are not
        to be trusted.
    """

    spikedata: SpikeData
    aligned: list[SpikeData]
    summary: dict[str, Any]


def align_to_events(
    sd: SpikeData, times_ms: Sequence[float] | Floats, pre_ms: float, post_ms: float
) -> list[SpikeData]:
    """Return the spikes around each event, one SpikeData for each, from ``-pre_ms`` to ``post_ms``.

    Events whose window does not lie within the recording are left out; of several that were joined, by
    ``metadata["rec_chunks_ms"]``, within its own.

    Raises
    ------
    ValueError
        `pre_ms` or `post_ms` is negative or infinite, or both are 0.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> from spikelab.stim_sorting.aligned import align_to_events
    >>> sd = SpikeData([[95.0, 103.0, 204.0]], length=300.0)
    >>> [trial.train[0].tolist() for trial in align_to_events(sd, [100.0, 200.0], 10.0, 20.0)]
    [[-5.0, 3.0], [4.0]]
    """
    check_window(pre_ms, post_ms)
    times = checked_times(times_ms)
    begins, ends = _recorded(sd, times)
    inside = times[(begins <= times - pre_ms) & (times + post_ms <= ends)]
    return [sd.subtime(time - pre_ms, time + post_ms, shift_to=-pre_ms) for time in inside]


def check_window(pre_ms: float, post_ms: float) -> None:
    """Raise ValueError unless a window around events has a length, and neither part of it is negative or infinite."""
    if not (pre_ms >= 0 and post_ms >= 0 and 0 < pre_ms + post_ms < np.inf):
        msg = (
            f"pre_ms and post_ms must be finite and at least 0, and one of them above 0, got {pre_ms!r} and {post_ms!r}"
        )
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Psth:
    """How units fire around the events.

    Attributes
    ----------
    centres_ms : ndarray, shape (n_bins,)
        Middle of each bin, relative to the event (ms).
    rates_Hz : ndarray, shape (n_units, n_bins)
        Mean rate in each bin; NaN where every event is blanked.
    latency_ms : ndarray, shape (n_units,)
        Middle of the first bin after the event in which a unit fires above what it did before; NaN without one.
    """

    centres_ms: Floats
    rates_Hz: Floats
    latency_ms: Floats


def peri_stimulus_histogram(
    sd: SpikeData,
    times_ms: Sequence[float] | Floats,
    *,
    pre_ms: float = 20.0,
    post_ms: float = 50.0,
    bin_ms: float = 1.0,
) -> Psth:
    """Return how each unit fires around the events, over the time in which spikes can be seen.

    That is where the recording lasts, or the one of several that were joined, and is not blanked. Latency is the first
    bin after the event whose count exceeds the mean of the bins before it by four times its Poisson deviation; NaN
    where nothing before the events is seen.

    Parameters
    ----------
    sd : SpikeData
        With ``metadata["blanked_ms"]`` where something is blanked.
    times_ms : sequence of float
        Events (ms).
    pre_ms, post_ms, bin_ms : float
        Window and width of a bin (ms).

    Raises
    ------
    ValueError
        The window has no length, a part of it is negative or infinite, or no bin fits on either side of the event.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> from spikelab.stim_sorting import peri_stimulus_histogram
    >>> sd = SpikeData([[12.5, 42.5, 72.5]], length=74.0)
    >>> peri_stimulus_histogram(sd, [10.0, 40.0, 70.0], pre_ms=0, post_ms=5).rates_Hz.tolist()
    [[0.0, 0.0, 1000.0, 0.0, 0.0]]
    """
    check_window(pre_ms, post_ms)
    n_before, n_after = _numbers_of_bins(pre_ms, post_ms, bin_ms)
    times = checked_times(times_ms)
    edges = np.arange(-n_before, n_after + 1) * bin_ms
    recorded = _recorded(sd, times)
    # Bins of each event, cut to where it is recorded: outside, they have no length and no spikes.
    borders = np.clip(times[:, None] + edges, recorded[0][:, None], recorded[1][:, None])
    seen_ms = np.diff(borders, axis=1).sum(axis=0) - _blanked_ms(sd, borders)
    counts = np.array([_counts_between(train, borders) for train in sd.train]).reshape(sd.N, edges.size - 1)
    enough = seen_ms > 0.05 * times.size * bin_ms
    rates = np.full(counts.shape, np.nan)
    rates[:, enough] = counts[:, enough] / seen_ms[enough] * 1000
    return Psth((edges[:-1] + edges[1:]) / 2, rates, _latencies(rates, seen_ms, enough, n_before, edges))


def _numbers_of_bins(pre_ms: float, post_ms: float, bin_ms: float) -> tuple[int, int]:
    """Return how many bins lie before and after the event; ValueError where none does."""
    numbers = (round(pre_ms / bin_ms), round(post_ms / bin_ms)) if 0 < bin_ms <= pre_ms + post_ms else (0, 0)
    if numbers == (0, 0):
        msg = (
            "bin_ms must be above 0, and a bin must fit before or after the event: into "
            f"pre_ms={pre_ms:g} or post_ms={post_ms:g}, got {bin_ms!r}"
        )
        raise ValueError(msg)
    return numbers


def _recorded(sd: SpikeData, times: Floats) -> tuple[Floats, Floats]:
    """Return begin and end of what was recorded in one piece around each event (ms)."""
    begins, ends = np.full(times.size, sd.start_time), np.full(times.size, sd.end_time)
    joined = np.asarray(sd.metadata.get("rec_chunks_ms", ()), dtype=np.float64).reshape(-1, 2)
    for begin, end in joined:
        within = (times >= begin) & (times < end)
        begins[within], ends[within] = max(begin, sd.start_time), min(end, sd.end_time)
    return begins, ends


def _blanked_ms(sd: SpikeData, borders: Floats) -> Floats:
    """Return how much of each bin is blanked, over all events (ms)."""
    total = np.zeros(borders.shape[1] - 1)
    blanked = np.asarray(sd.metadata.get("blanked_ms", ()), dtype=np.float64).reshape(-1, 2)
    for edges in borders:
        # An event is near few of the blanked periods.
        for begin, end in blanked[(blanked[:, 1] > edges[0]) & (blanked[:, 0] < edges[-1])]:
            total += np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0.0, None)
    return total


def _counts_between(train: Floats, borders: Floats) -> npt.NDArray[np.int64]:
    """Return how many spikes lie in each bin, over all events."""
    counts: npt.NDArray[np.int64] = np.diff(np.searchsorted(train, borders), axis=1).sum(axis=0)
    return counts


def _latencies(rates: Floats, seen_ms: Floats, enough: npt.NDArray[np.bool_], n_before: int, edges: Floats) -> Floats:
    """Return the middle of the first bin after the event that stands out (ms), NaN without one."""
    known = np.flatnonzero(enough[:n_before])
    if known.size == 0:
        return np.full(len(rates), np.nan)
    expected = rates[:, known].mean(axis=1)[:, None] * seen_ms / 1000
    counts = np.nan_to_num(rates) * seen_ms / 1000
    high = counts > expected + _MIN_EXCESS_SD * np.sqrt(np.maximum(expected, 1.0))
    high[:, :n_before] = False
    centres = (edges[:-1] + edges[1:]) / 2
    return np.where(high.any(axis=1), centres[high.argmax(axis=1)], np.nan)
