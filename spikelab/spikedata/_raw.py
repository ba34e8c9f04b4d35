"""Raw traces beside the spikes: where a time lies in them, and windows that are read when they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

SOURCE, SOURCE_START = "recording", "recording_start_ms"
"""Metadata that say which recording was sorted, as SpikeInterface describes it, and where in it this part begins."""


class RawTraces(Protocol):
    """What raw data must be able to do: an array, a memmap, an HDF5 dataset, a recording."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, samples)."""

    def __getitem__(self, key: Any, /) -> Any: ...


class TraceWindow:
    """The samples [start, stop) of traces that stay where they are until they are read."""

    def __init__(self, source: RawTraces, start: int, stop: int) -> None:
        self._source = source
        self._start = start
        self.shape = (source.shape[0], stop - start)

    def __getitem__(self, key: tuple[Any, slice]) -> npt.NDArray[Any]:
        """Return traces of some channels and a slice of samples."""
        channels, samples = key
        first, last, step = samples.indices(self.shape[1])
        shifted = slice(first + self._start, max(first, last) + self._start, step)
        return np.asarray(self._source[channels, shifted])


class RecordingTraces:
    """The traces (uV where the gain is known) of a SpikeInterface recording, read when they are sliced."""

    def __init__(self, recording: Any) -> None:
        self._recording = recording
        self.shape = (int(recording.get_num_channels()), int(recording.get_num_samples(segment_index=0)))

    def __getitem__(self, key: tuple[Any, slice]) -> npt.NDArray[Any]:
        """Return traces of some channels and a slice of samples, shape (channels, samples)."""
        channels, samples = key
        first, last, step = samples.indices(self.shape[1])
        traces = self._recording.get_traces(
            segment_index=0,
            start_frame=first,
            end_frame=max(first, last),
            channel_ids=np.atleast_1d(self._recording.channel_ids[channels]),
            return_in_uV=bool(self._recording.has_scaleable_traces()),
        )
        return np.asarray(traces[::step].T)


def open_source(metadata: Mapping[str, Any], length_ms: float) -> tuple[RawTraces, float]:
    """Return the traces (uV) of the recording that was sorted, read when they are sliced, and their rate (kHz).

    Raises
    ------
    ValueError
        The metadata name no recording, or it is no longer there.
    """
    import json

    import spikeinterface

    if SOURCE not in metadata:
        msg = f"metadata[{SOURCE!r}] does not say which recording was sorted"
        raise ValueError(msg)
    try:
        recording = spikeinterface.load(json.loads(metadata[SOURCE]))
    except (OSError, ValueError, KeyError) as error:
        msg = f"the recording that was sorted can no longer be opened ({error})"
        raise ValueError(msg) from error
    rate_kHz = float(recording.sampling_frequency) / 1000.0
    start = round(metadata.get(SOURCE_START, 0.0) * rate_kHz)
    stop = start + round(length_ms * rate_kHz)
    traces = RecordingTraces(recording)
    if stop > traces.shape[1]:
        msg = f"the recording that was sorted had at least {stop} samples, and has {traces.shape[1]} now"
        raise ValueError(msg)
    return TraceWindow(traces, start, stop), rate_kHz


def check_raw(
    raw_data: Any, raw_time: Any, metadata: Mapping[str, Any]
) -> tuple[RawTraces | None, npt.NDArray[np.float64] | float | None]:
    """Return raw data that cannot be written through, and their time axis or rate (kHz).

    Raises
    ------
    ValueError
        When the data are not (channels, samples), or the time axis is missing, of another length or not
        rising.
    """
    if raw_data is None:
        if raw_time is not None:
            msg = "raw_time is given without raw_data; give both or neither"
            raise ValueError(msg)
        return None, None
    traces = _protect(raw_data)
    if len(traces.shape) != 2:
        msg = f"raw_data must have shape (channels, samples), got {traces.shape}"
        raise ValueError(msg)
    return traces, _check_time(raw_time, metadata, traces.shape[1])


def _protect(raw_data: Any) -> RawTraces:
    """Return a read-only view of an array; what reads itself lazily is left alone."""
    if not isinstance(raw_data, np.ndarray) and hasattr(raw_data, "shape"):
        lazy: RawTraces = raw_data
        return lazy
    view: npt.NDArray[Any] = np.asanyarray(raw_data).view()
    view.flags.writeable = False
    return view


def _check_time(raw_time: Any, metadata: Mapping[str, Any], n_samples: int) -> npt.NDArray[np.float64] | float:
    if raw_time is None and "fs_Hz" in metadata:
        raw_time = metadata["fs_Hz"] / 1000.0
    if raw_time is None:
        msg = "raw_data needs raw_time: the time (ms) of every sample, or the sampling rate (kHz)"
        raise ValueError(msg)
    axis = np.array(raw_time, dtype=np.float64)
    if axis.ndim == 0:
        return _check_rate(float(axis))
    if axis.shape != (n_samples,) or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
        msg = f"raw_time must be one rising time (ms) for each of {n_samples} samples, got shape {axis.shape}"
        raise ValueError(msg)
    axis.flags.writeable = False
    return axis


def _check_rate(samples_per_ms: float) -> float:
    if not (math.isfinite(samples_per_ms) and samples_per_ms > 0):
        msg = f"raw_time as a sampling rate must be positive (kHz), got {samples_per_ms}"
        raise ValueError(msg)
    return samples_per_ms


def sampling_rate_Hz(raw_time: npt.NDArray[np.float64] | float) -> float:
    """Return the sampling rate of a time axis (ms) or of a rate in kHz."""
    if isinstance(raw_time, float):
        return raw_time * 1000.0
    if raw_time.size < 2:
        msg = f"a sampling rate needs two samples or more in raw_time, found {raw_time.size}"
        raise ValueError(msg)
    return float((raw_time.size - 1) / (raw_time[-1] - raw_time[0]) * 1000.0)


def nearest_samples(
    times: npt.NDArray[np.float64], raw_time: npt.NDArray[np.float64] | float, start_time: float
) -> Ints:
    """Return the sample nearest to each time; outside the data it is below 0 or beyond the last sample."""
    if isinstance(raw_time, float):
        return np.rint((times - start_time) * raw_time).astype(np.int64)
    if raw_time.size == 0:
        return np.full(times.shape, -1, dtype=np.int64)
    step_ms = (raw_time[-1] - raw_time[0]) / max(raw_time.size - 1, 1)
    right = np.searchsorted(raw_time, times)
    left = np.clip(right - 1, 0, raw_time.size - 1)
    right = np.clip(right, 0, raw_time.size - 1)
    nearest = np.where(times - raw_time[left] <= raw_time[right] - times, left, right)
    nearest = np.where(times < raw_time[0] - step_ms / 2, -1, nearest)
    return np.where(times > raw_time[-1] + step_ms / 2, raw_time.size, nearest).astype(np.int64)


def cut_raw(
    raw_data: RawTraces,
    raw_time: npt.NDArray[np.float64] | float,
    *,
    start_time: float,
    window: tuple[float, float],
    shift: float,
) -> tuple[RawTraces, npt.NDArray[np.float64] | float]:
    """Return the samples inside the window [start, end), and their time axis moved by `shift` ms.

    A rate stays a rate where the window starts on a sample; else the exact times take its place.
    """
    n_samples = raw_data.shape[1]
    if not isinstance(raw_time, float):
        first, last = (int(i) for i in np.searchsorted(raw_time, window))
        return _slice(raw_data, first, last), raw_time[first:last] + shift
    first, last = (min(max(_first_sample_at(t - start_time, raw_time), 0), n_samples) for t in window)
    offset = start_time + first / raw_time - window[0]
    if abs(offset) * raw_time < 1e-6:
        return _slice(raw_data, first, last), raw_time
    return _slice(raw_data, first, last), start_time + np.arange(first, last) / raw_time + shift


def _first_sample_at(elapsed_ms: float, samples_per_ms: float) -> int:
    position = elapsed_ms * samples_per_ms
    return math.ceil(position - 1e-6)


def _slice(raw_data: RawTraces, first: int, last: int) -> RawTraces:
    last = max(first, last)
    if isinstance(raw_data, np.ndarray):
        return raw_data[:, first:last]
    return TraceWindow(raw_data, first, last)


def read_snippets(raw_data: RawTraces, samples: Ints, n_before: int, n_after: int, channels: Any) -> npt.NDArray[Any]:
    """Return the traces around each sample, shape (spikes, n_before + n_after, channels), whole ones only."""
    whole = samples[(samples >= n_before) & (samples + n_after <= raw_data.shape[1])]
    chosen = slice(None) if channels is None else channels
    snippets = [np.asarray(raw_data[chosen, i - n_before : i + n_after]).T for i in whole.tolist()]
    if snippets:
        return np.stack(snippets)
    n_channels = np.arange(raw_data.shape[0])[chosen].size
    return np.zeros((0, n_before + n_after, n_channels))
