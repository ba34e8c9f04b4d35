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
        What became of the artifacts: logged and true times, offsets, what is blanked, channels that stayed saturated.
    """

    spikedata: SpikeData
    aligned: list[SpikeData]
    summary: dict[str, Any]


def align_to_events(
    sd: SpikeData, times_ms: Sequence[float] | Floats, pre_ms: float, post_ms: float
) -> list[SpikeData]:
    """Return the spikes around each event, one SpikeData for each, from ``-pre_ms`` to ``post_ms``.

    Events whose window does not lie within the recording are left out.

    Raises
    ------
    ValueError
        `pre_ms` or `post_ms` is negative, or both are 0.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> from spikelab.stim_sorting.aligned import align_to_events
    >>> sd = SpikeData([[95.0, 103.0, 204.0]], length=300.0)
    >>> [trial.train[0].tolist() for trial in align_to_events(sd, [100.0, 200.0], 10.0, 20.0)]
    [[-5.0, 3.0], [4.0]]
    """
    check_window(pre_ms, post_ms)
    inside = [
        time for time in checked_times(times_ms) if sd.start_time <= time - pre_ms and time + post_ms <= sd.end_time
    ]
    return [sd.subtime(time - pre_ms, time + post_ms, shift_to=-pre_ms) for time in inside]


def check_window(pre_ms: float, post_ms: float) -> None:
    """Raise ValueError unless a window around events has a length, and neither part of it is negative or infinite."""
    if not (pre_ms >= 0 and post_ms >= 0 and 0 < pre_ms + post_ms < np.inf):
        msg = f"pre_ms and post_ms must be at least 0, and one of them above, got {pre_ms!r} and {post_ms!r}"
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

    Latency is the first bin after the event whose count exceeds the mean of the bins before it by four times its
    Poisson deviation.

    Parameters
    ----------
    sd : SpikeData
        With ``metadata["blanked_ms"]`` where something is blanked.
    times_ms : sequence of float
        Events (ms).
    pre_ms, post_ms, bin_ms : float
        Window and width of a bin (ms).
    """
    times = checked_times(times_ms)
    n_before, n_after = round(pre_ms / bin_ms), round(post_ms / bin_ms)
    edges = np.arange(-n_before, n_after + 1) * bin_ms
    seen_ms = np.full(edges.size - 1, times.size * bin_ms)
    blanked = np.asarray(sd.metadata.get("blanked_ms", ()), dtype=np.float64).reshape(-1, 2)
    for time in times:
        # An event is near few of the blanked periods.
        near = blanked[(blanked[:, 1] > time + edges[0]) & (blanked[:, 0] < time + edges[-1])] - time
        for begin, end in near:
            seen_ms -= np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0.0, None)
    counts = np.array([_counts_around(train, times, edges) for train in sd.train]).reshape(sd.N, edges.size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(seen_ms > 0.05 * times.size * bin_ms, counts / seen_ms * 1000, np.nan)
    return Psth((edges[:-1] + edges[1:]) / 2, rates, _latencies(rates, seen_ms, n_before, edges))


def _counts_around(train: Floats, times: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    """Return how many spikes lie in each bin, over all events."""
    borders = np.searchsorted(train, times[:, None] + edges)
    counts: npt.NDArray[np.int64] = np.diff(borders, axis=1).sum(axis=0)
    return counts


def _latencies(rates: Floats, seen_ms: Floats, n_before: int, edges: Floats) -> Floats:
    """Return the middle of the first bin after the event that stands out (ms), NaN without one."""
    before = np.nan_to_num(np.nanmean(rates[:, :n_before], axis=1)) if n_before and rates.size else np.zeros(len(rates))
    expected = before[:, None] * seen_ms / 1000
    counts = np.nan_to_num(rates) * seen_ms / 1000
    high = counts > expected + _MIN_EXCESS_SD * np.sqrt(np.maximum(expected, 1.0))
    high[:, :n_before] = False
    centres = (edges[:-1] + edges[1:]) / 2
    return np.where(high.any(axis=1), centres[high.argmax(axis=1)], np.nan)
