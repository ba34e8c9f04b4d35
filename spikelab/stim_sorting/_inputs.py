"""What calls give: traces or recordings to read, and times; what is wrong with them is found here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Samples = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


_SAME_EVENT_MS = 0.1
_MOSTLY = 0.5
_MOST_NAMED = 10


class StimulationWarning(UserWarning):
    """Something about stimulation times or traces that deserves a look; what was done is in the message."""


def warn(message: str) -> None:
    """Warn the caller of the public function."""
    warnings.warn(message, StimulationWarning, stacklevel=4)


def named(channel_ids: npt.NDArray[Any]) -> str:
    """Return the first names of channels, for a message."""
    return ", ".join(map(str, channel_ids[:_MOST_NAMED])) + (", ..." if channel_ids.size > _MOST_NAMED else "")


class Reader(Protocol):
    """Samples that can be read piece by piece."""

    n_channels: int
    n_samples: int
    fs_Hz: float
    channel_ids: npt.NDArray[Any]

    def read(self, start: int, end: int, channels: npt.NDArray[np.intp] | None = None) -> Samples:
        """Return samples `start` to `end` (excluded), shape (channels, samples)."""


class ArrayReader:
    """Traces in memory, shape (channels, samples)."""

    def __init__(self, traces: Samples, fs_Hz: float) -> None:
        self._traces = checked_traces(traces)
        self.fs_Hz = checked_rate(fs_Hz)
        self.n_channels, self.n_samples = self._traces.shape
        self.channel_ids = np.arange(self.n_channels)

    def read(self, start: int, end: int, channels: npt.NDArray[np.intp] | None = None) -> Samples:
        """Return samples `start` to `end` (excluded), shape (channels, samples)."""
        window = self._traces[:, start:end]
        return window if channels is None else window[channels]


class RecordingReader:
    """A SpikeInterface recording of one segment."""

    def __init__(self, recording: Any) -> None:
        if recording.get_num_segments() != 1:
            msg = (
                f"the recording has {recording.get_num_segments()} segments; expected one: concatenate them, "
                "or select one with select_segments"
            )
            raise ValueError(msg)
        self._recording = recording
        self.fs_Hz = checked_rate(recording.sampling_frequency)
        self.n_channels, self.n_samples = recording.get_num_channels(), recording.get_num_samples()
        self.channel_ids = np.asarray(recording.channel_ids)

    def read(self, start: int, end: int, channels: npt.NDArray[np.intp] | None = None) -> Samples:
        """Return samples `start` to `end` (excluded), shape (channels, samples)."""
        wanted = None if channels is None else self._recording.channel_ids[channels]
        traces: Samples = self._recording.get_traces(start_frame=start, end_frame=end, channel_ids=wanted)
        return traces.T


def checked_rate(fs_Hz: float) -> float:
    """Return the sampling rate.

    Raises
    ------
    ValueError
        It is no finite number above 0.
    """
    rate = float(fs_Hz)
    if not (np.isfinite(rate) and rate > 0):
        msg = f"fs_Hz must be a finite number above 0, got {fs_Hz!r}"
        raise ValueError(msg)
    return rate


def checked_traces(traces: Any) -> Samples:
    """Return traces, shape (channels, samples).

    Raises
    ------
    TypeError
        They are no numbers.
    ValueError
        They are not two-dimensional, or their shape is that of (samples, channels).
    """
    traces = np.asarray(traces)
    if traces.dtype.kind not in "iuf":
        msg = f"traces must be integers or floats, got {traces.dtype}"
        raise TypeError(msg)
    if traces.ndim != 2:
        msg = f"traces must have the shape (channels, samples), got {traces.shape}"
        raise ValueError(msg)
    if traces.shape[0] > traces.shape[1]:
        msg = (
            f"traces must have the shape (channels, samples), got {traces.shape}, with more channels than samples: "
            "SpikeInterface's get_traces() gives (samples, channels), so transpose it with .T"
        )
        raise ValueError(msg)
    checked: Samples = traces
    return checked


def checked_times(times_ms: Any) -> npt.NDArray[np.float64]:
    """Return times as a flat array, in the order given.

    Raises
    ------
    ValueError
        A time is NaN or infinite, or they are not a flat list.
    """
    times = np.asarray(times_ms, dtype=np.float64)
    if times.ndim != 1 and times.size:
        msg = f"stim_times_ms must be a flat list of times, got the shape {times.shape}"
        raise ValueError(msg)
    if not np.isfinite(times).all():
        wrong = np.flatnonzero(~np.isfinite(times))
        msg = f"stim_times_ms must be finite numbers (ms); {wrong.size} are not, the first at index {wrong[0]}"
        raise ValueError(msg)
    return times.ravel()


def usable_events(times_ms: Any, n_samples: int, fs_Hz: float) -> npt.NDArray[np.float64]:
    """Return the times of events within the recording, sorted and each once, and warn of what that has changed."""
    times = checked_times(times_ms)
    if times.size == 0:
        warn("there are no stimulation times: the traces stay as they are")
        return times
    inside = (times >= 0) & (times * fs_Hz / 1000 < n_samples)
    if not inside.all():
        outside = times[~inside]
        warn(
            f"{outside.size} of {times.size} stimulation times are outside of the recording, which lasts "
            f"{n_samples / fs_Hz * 1000:g} ms, and are left out (the first: {outside[0]:g} ms); "
            "times are in ms from its start"
        )
    times = times[inside]
    if (np.diff(times) < 0).any():
        warn("the stimulation times are not in order; they were sorted")
    ordered = np.sort(times)
    return ordered[distinct_events(ordered, fs_Hz)]


def distinct_events(ordered_ms: npt.NDArray[np.float64], fs_Hz: float) -> npt.NDArray[np.bool_]:
    """Return which of sorted times are events of their own, a few samples after the one before; warn of others."""
    distinct: npt.NDArray[np.bool_] = np.diff(ordered_ms, prepend=-np.inf) >= max(_SAME_EVENT_MS, 4 / fs_Hz * 1000)
    if not distinct.all():
        warn(f"{np.count_nonzero(~distinct)} stimulation times are there twice; each counts once")
    return distinct


def quiet_windows(
    reader: Reader, times_ms: Floats, *, n_windows: int = 20, window_ms: float = 50.0
) -> Iterator[Samples]:
    """Yield windows spread over the recording, those that lie longest after an event, shape (channels, samples)."""
    length = min(reader.n_samples, max(2, round(window_ms * reader.fs_Hz / 1000)))
    starts = np.unique(np.linspace(0, reader.n_samples - length, 5 * n_windows).astype(np.int64))
    # The time since the last event that the window itself sees, or since the one before it.
    events = np.asarray(times_ms) * reader.fs_Hz / 1000
    latest = np.searchsorted(events, starts + length) - 1
    since = starts - events[np.maximum(latest, 0)] if events.size else np.zeros(starts.size)
    since = np.where(latest >= 0, since, reader.n_samples)
    for start in np.sort(starts[np.argsort(-since, kind="stable")][:n_windows]):
        yield reader.read(int(start), int(start) + length)


def quiet_medians(reader: Reader, times_ms: Floats) -> Floats:
    """Return each channel's median between the events; 0 where it has no numbers."""
    # One window may hold an artifact, and slow waves move the level of each: the median over windows tells.
    windows = [filled(window) for window in quiet_windows(reader, times_ms)]
    medians = of_numbers([np.median(window, axis=1) for window, _ in windows], [finite for _, finite in windows])
    return np.asarray(np.nanmedian(medians, axis=0))


# ----------------------------------------------------------------------------------------- what is no number


def filled(window: Samples) -> tuple[Samples, Mask]:
    """Return a window with straight lines across what is NaN or infinite, and which samples are numbers."""
    finite: Mask = np.isfinite(window)
    if finite.all():
        return window, finite
    whole, position = np.array(window), np.arange(window.shape[1])
    for channel in np.flatnonzero(~finite.all(axis=1)):
        known = finite[channel]
        whole[channel] = np.interp(position, position[known], window[channel, known]) if known.any() else 0.0
    return whole, finite


def mostly_lost(finite: Mask) -> Mask:
    """Return the channels of a window that are mostly no numbers."""
    lost: Mask = finite.mean(axis=1) < _MOSTLY
    return lost


def of_numbers(figures: Sequence[Floats], finite: Sequence[Mask], nothing: float = 0.0) -> Floats:
    """Return a figure of each window and channel: NaN where a channel is mostly lost, `nothing` if it is everywhere."""
    lost = np.array([mostly_lost(one) for one in finite])
    known: Floats = np.where(lost, np.nan, figures)
    known[:, lost.all(axis=0)] = nothing
    return known
