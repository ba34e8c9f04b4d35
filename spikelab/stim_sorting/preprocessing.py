"""Stimulation artifacts out of SpikeInterface recordings, sample by sample as they are read. Imports SpikeInterface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from spikeinterface.core import BaseRecording
from spikeinterface.preprocessing.basepreprocessor import BasePreprocessor, BasePreprocessorSegment

from spikelab.stim_sorting._cleaning import Cleaner, Correction, clean_event
from spikelab.stim_sorting._events import Event, make_events, pulse_windows
from spikelab.stim_sorting._inputs import Floats, RecordingReader, usable_events
from spikelab.stim_sorting._levels import Levels, type_rails
from spikelab.stim_sorting._plan import Plan, Removal, make_cleaner, make_plan
from spikelab.stim_sorting.artifact_removal import apply


class RemoveStimArtifactsRecording(BasePreprocessor):  # type: ignore[misc]  # SpikeInterface is untyped
    """A recording without stimulation artifacts, cleaned as it is read: the same samples whatever is read.

    Each event is cleaned from its own samples, and what must be known of the recording as a whole (levels, noise,
    rails, the length of each event) is found once, when it is made; copies in other processes are told. Samples keep
    their type, except that channels on an offset, such as raw counts around 512, are moved to lie around 0.

    Parameters
    ----------
    recording : BaseRecording
        One segment.
    stim_times_ms : sequence of float
        Times of the artifacts (ms from the first sample), see `recenter_stim_times`.
    plan : dict or None, default None
        What has been found of the recording; None finds it.
    **options : object
        Those of `remove_stim_artifacts`: method, artifact_window_ms, saturation_threshold, baseline_threshold,
        poly_order, artifact_window_only, poly_clamp_factor.
    """

    def __init__(
        self, recording: BaseRecording, stim_times_ms: Any, plan: dict[str, Any] | None = None, **options: Any
    ) -> None:
        removal = Removal(**options)
        if plan is None:
            reader = RecordingReader(recording)
            times_ms = usable_events(stim_times_ms, reader.n_samples, reader.fs_Hz)
            stim_times_ms = times_ms.tolist()
            plan = _as_dict(make_plan(reader, times_ms, removal, limits=type_rails(recording.dtype)))
        levels, reaches = _levels(plan), np.asarray(plan["reaches"], dtype=np.int64)
        windows = pulse_windows(np.asarray(stim_times_ms), recording.get_num_samples(), recording.sampling_frequency)
        shift = np.where(plan["shifted"], np.rint(levels.baseline), 0.0)
        dtype = _signed(recording.dtype) if shift.any() else recording.dtype
        super().__init__(recording, dtype=dtype)
        if shift.any() and recording.get_channel_offsets() is not None:
            self.set_channel_offsets(_offsets(recording, shift))
        self.levels, self.times_ms = levels, np.asarray(stim_times_ms, dtype=np.float64)
        cleaner = make_cleaner(levels, recording.sampling_frequency, removal)
        self.add_recording_segment(
            _CleanedSegment(recording.segments[0], make_events(windows, reaches), cleaner, shift, np.dtype(dtype))
        )
        self._kwargs = {
            "recording": recording,
            "stim_times_ms": self.times_ms.tolist(),
            "plan": plan,
            **asdict(removal),
        }

    def blanked(self, start_frame: int, end_frame: int) -> npt.NDArray[np.bool_]:
        """Return which samples are blanked, shape (samples, channels), bool."""
        mask: npt.NDArray[np.bool_] = self.segments[0].blanked(start_frame, end_frame)
        return mask


def _as_dict(plan: Plan) -> dict[str, Any]:
    """Return what a plan has found as plain values."""
    levels = plan.cleaner.levels
    found = {field.name: getattr(levels, field.name).tolist() for field in fields(Levels)}
    # No number stands for infinity in JSON.
    found["low"] = [None if np.isinf(value) else value for value in found["low"]]
    found["high"] = [None if np.isinf(value) else value for value in found["high"]]
    return {**found, "reaches": plan.reaches.tolist(), "shifted": bool(levels.off_zero.any())}


def _levels(plan: dict[str, Any]) -> Levels:
    low = np.array([-np.inf if value is None else value for value in plan["low"]])
    high = np.array([np.inf if value is None else value for value in plan["high"]])
    others = {name: np.asarray(plan[name], dtype=np.float64) for name in ("baseline", "noise", "jerk", "near")}
    return Levels(low=low, high=high, stuck=np.asarray(plan["stuck"], dtype=bool), **others)


def _signed(dtype: Any) -> Any:
    """Return a type that holds differences of samples: the same, or the signed one of the same size."""
    name = np.dtype(dtype).name
    return np.dtype(name.removeprefix("u")) if name.startswith("uint") else np.dtype(dtype)


def _offsets(recording: BaseRecording, shift: Floats) -> Floats:
    """Return the voltage of the sample value 0 after samples were moved by `shift`."""
    # The level itself, rather than the true voltage: what lies around 0 in samples shall lie around 0 uV.
    return np.where(shift != 0, 0.0, recording.get_channel_offsets())


class _CleanedSegment(BasePreprocessorSegment):  # type: ignore[misc]  # SpikeInterface is untyped
    def __init__(self, parent: Any, events: list[Event], cleaner: Cleaner, shift: Floats, dtype: npt.DTypeLike) -> None:
        super().__init__(parent)
        self._events, self._cleaner, self._shift, self._dtype = events, cleaner, shift, np.dtype(dtype)
        self._starts = np.array([event.start for event in events], dtype=np.int64)
        self._stops = np.array([event.stop for event in events], dtype=np.int64)

    def _concerned(self, start: int, end: int) -> list[Event]:
        first = int(np.searchsorted(self._stops, start, side="right"))
        return self._events[first : int(np.searchsorted(self._starts, end, side="left"))]

    def get_traces(
        self, start_frame: int | None = None, end_frame: int | None = None, channel_indices: Any = None
    ) -> npt.NDArray[Any]:
        start = 0 if start_frame is None else start_frame
        end = self.get_num_samples() if end_frame is None else end_frame
        events = self._concerned(start, end)
        if not events:
            wanted = slice(None) if channel_indices is None else channel_indices
            return self._moved(self.parent_recording_segment.get_traces(start, end, wanted), self._shift[wanted])
        # A curve is fitted to all channels at once, whichever are wanted: so each has the same samples every time.
        # One read for all events of the chunk: compressed files are slow to read in many small pieces.
        low, high = min(start, events[0].start), max(end, events[-1].stop)
        raw = self.parent_recording_segment.get_traces(low, high, slice(None))
        traces = self._moved(raw[start - low : end - low], self._shift)
        for event in events:
            correction = clean_event(raw[event.start - low : event.stop - low].T, event, self._cleaner)
            here, there = correction.part(start, end)
            if here.start < here.stop:
                apply(correction.curve[:, there], correction.blanked[:, there], traces[here].T)
        return traces if channel_indices is None else traces[:, channel_indices]

    def _moved(self, raw: npt.NDArray[Any], shift: Floats) -> npt.NDArray[Any]:
        """Return a copy of samples, around 0 where they lie on an offset."""
        if not self._shift.any():
            return np.array(raw, dtype=self._dtype)
        if not np.issubdtype(self._dtype, np.integer):
            return np.asarray(raw - shift, dtype=self._dtype)
        limits = np.iinfo(self._dtype)
        return np.clip(raw.astype(np.int64) - shift.astype(np.int64), limits.min, limits.max).astype(self._dtype)

    def blanked(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Return which samples are blanked."""
        mask = np.zeros((end - start, self._shift.size), dtype=bool)
        for correction in map(self._correction, self._concerned(start, end)):
            here, there = correction.part(start, end)
            if here.start < here.stop:
                mask[here] |= correction.blanked[:, there].T
        return mask

    def corrections(self) -> Iterator[Correction]:
        """Yield what is done to the samples of each event."""
        yield from map(self._correction, self._events)

    def _correction(self, event: Event) -> Correction:
        raw = self.parent_recording_segment.get_traces(event.start, event.stop, slice(None))
        return clean_event(raw.T, event, self._cleaner)
