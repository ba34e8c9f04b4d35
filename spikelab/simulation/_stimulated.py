"""The lazy recording behind `add_stim_artifacts`. Imports SpikeInterface: import it where it is used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from spikeinterface.core import BaseRecording, BaseRecordingSegment

from spikelab.simulation.artifacts import ArtifactSpec

Floats = npt.NDArray[np.floating]
_NEGLIGIBLE_uV = 0.01


class StimulatedRecording(BaseRecording):  # type: ignore[misc]  # SpikeInterface is untyped
    """A recording with artifacts added, computed when it is read, and clipped at the rails.

    Parameters
    ----------
    recording : BaseRecording
        The clean one.
    times_ms : list of float
        True time of each event (ms), ascending.
    scale : list of float
        Amplitude of each event, as a factor.
    amplitudes_uV : list of float
        Size of the pulse on each channel (uV).
    spec : dict
        Fields of an `ArtifactSpec`.
    tail_factors : list of float
        How much slower the tail is on each channel, and its frequency lower.
    """

    def __init__(
        self,
        recording: BaseRecording,
        times_ms: list[float],
        scale: list[float],
        amplitudes_uV: list[float],
        spec: dict[str, Any],
        tail_factors: list[float],
    ) -> None:
        super().__init__(recording.sampling_frequency, recording.channel_ids, recording.dtype)
        recording.copy_metadata(self)
        events = np.asarray(times_ms), np.asarray(scale)
        artifact = _Artifact(ArtifactSpec(**spec), *events, np.asarray(amplitudes_uV), np.asarray(tail_factors))
        self.add_recording_segment(_StimulatedSegment(recording, artifact))
        self._kwargs = {
            "recording": recording,
            "times_ms": times_ms,
            "scale": scale,
            "amplitudes_uV": amplitudes_uV,
            "spec": spec,
            "tail_factors": tail_factors,
        }


def _scaling(recording: BaseRecording) -> tuple[Floats, Floats]:
    """Return gain and offset of each channel; without any, samples count as uV."""
    n_channels = recording.get_num_channels()
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    return (
        np.ones(n_channels) if gains is None else np.asarray(gains, dtype=np.float64),
        np.zeros(n_channels) if offsets is None else np.asarray(offsets, dtype=np.float64),
    )


class _Artifact:
    """The artifacts' voltage at any sample, before it is clipped."""

    def __init__(
        self, spec: ArtifactSpec, times_ms: Floats, scale: Floats, amplitudes_uV: Floats, tail_factors: Floats
    ) -> None:
        # Channels alike share one tail.
        self.tail_factors, self.tail_of_channel = np.unique(tail_factors, return_inverse=True)
        self.spec, self.times_ms, self.scale, self.amplitudes_uV = spec, times_ms, scale, amplitudes_uV
        self.overloaded = amplitudes_uV >= spec.rail_uV if spec.recovery_ms else np.zeros(amplitudes_uV.size, bool)
        self.before_ms = spec.phase_ms + 1.0
        largest_uV = max(float(amplitudes_uV.max()), spec.rail_uV) * 2
        self.after_ms = (
            spec.phase_ms
            + spec.recovery_ms
            + (spec.n_pulses - 1) * spec.pulse_interval_ms
            + spec.tail_tau_ms * float(self.tail_factors.max()) * math.log(largest_uV / _NEGLIGIBLE_uV)
        )

    def voltage_uV(self, start: int, end: int, fs_Hz: float) -> Floats:
        """Return the artifacts between two samples, shape (samples, channels), uV."""
        voltage = np.zeros((end - start, self.amplitudes_uV.size))
        low_ms, high_ms = start / fs_Hz * 1000 - self.after_ms, end / fs_Hz * 1000 + self.before_ms
        first, last = np.searchsorted(self.times_ms, (low_ms, high_ms))
        for event in range(first, last):
            time_ms = self.times_ms[event]
            begin = max(start, math.floor((time_ms - self.before_ms) * fs_Hz / 1000))
            stop = min(end, math.ceil((time_ms + self.after_ms) * fs_Hz / 1000))
            if begin < stop:
                after_ms = np.arange(begin, stop) / fs_Hz * 1000 - time_ms
                voltage[begin - start : stop - start] += self.scale[event] * self._event_uV(after_ms, 1000 / fs_Hz)
        return voltage

    def _event_uV(self, after_ms: Floats, step_ms: float) -> Floats:
        spec = self.spec
        pulses, recovering = np.zeros(after_ms.size), np.zeros(after_ms.size)
        tails = np.zeros((after_ms.size, self.tail_factors.size))
        for number in range(spec.n_pulses):
            since_ms = after_ms - number * spec.pulse_interval_ms
            pulses += _pulse(since_ms, spec, step_ms)
            tails += _tail(since_ms, spec, self.tail_factors)
            recovering += _recovery_uV(since_ms, spec)
        voltage: Floats = (pulses[:, None] + tails[:, self.tail_of_channel]) * self.amplitudes_uV
        if self.overloaded.any():
            voltage[:, self.overloaded] = np.outer(pulses, self.amplitudes_uV[self.overloaded]) + recovering[:, None]
        return voltage


def _pulse(since_ms: Floats, spec: ArtifactSpec, step_ms: float) -> Floats:
    """Return a pulse of size 1; edges last one sample, so that where they lie between samples can be told."""

    def rise(at_ms: float) -> Floats:
        risen: Floats = np.clip((since_ms - at_ms) / step_ms + 0.5, 0.0, 1.0)
        return risen

    if spec.pulse == "biphasic":
        shape: Floats = rise(-spec.phase_ms) - 2 * rise(0.0) + rise(spec.phase_ms)
    else:
        shape = rise(0.0) - rise(spec.phase_ms)
    return shape if spec.first_phase == "anodic" else -shape


def _sign_of_tail(spec: ArtifactSpec) -> float:
    ends_positive = (spec.first_phase == "anodic") == (spec.pulse == "monophasic")
    return 1.0 if ends_positive else -1.0


def _tail(since_ms: Floats, spec: ArtifactSpec, factors: Floats) -> Floats:
    """Return what follows a pulse of size 1, shape (samples, factors): time passes slower by each factor."""
    after_ms = np.maximum(since_ms - spec.phase_ms, 0.0)[:, None] / factors
    if spec.tail == "none":
        return np.zeros_like(after_ms)
    decay = _sign_of_tail(spec) * spec.tail_fraction * np.exp(-after_ms / spec.tail_tau_ms)
    if spec.tail == "oscillating":
        decay *= np.cos(2 * np.pi * spec.tail_frequency_Hz * after_ms / 1000)
    return np.where((since_ms >= spec.phase_ms)[:, None], decay, 0.0)


def _recovery_uV(since_ms: Floats, spec: ArtifactSpec) -> Floats:
    """Return the output of an amplifier that stays at a rail after a pulse, and comes back from there (uV)."""
    after_ms = since_ms - spec.phase_ms
    # A little above the rail, so that noise does not lift it off.
    stuck = np.where((after_ms >= 0) & (after_ms < spec.recovery_ms), 1.2 * spec.rail_uV, 0.0)
    back = np.exp(-np.maximum(after_ms - spec.recovery_ms, 0.0) / spec.tail_tau_ms)
    voltage = stuck + np.where(after_ms >= spec.recovery_ms, spec.rail_uV * back, 0.0)
    return voltage if spec.recovery_rail == "positive" else -voltage


class _StimulatedSegment(BaseRecordingSegment):  # type: ignore[misc]  # SpikeInterface is untyped
    def __init__(self, parent: BaseRecording, artifact: _Artifact) -> None:
        self._parent, self._artifact = parent.segments[0], artifact
        super().__init__(**self._parent.get_times_kwargs())
        self._fs_Hz, self._dtype = parent.sampling_frequency, np.dtype(parent.dtype)
        self._gains, self._offsets = _scaling(parent)

    def get_num_samples(self) -> int:
        return int(self._parent.get_num_samples())

    def get_traces(
        self, start_frame: int | None = None, end_frame: int | None = None, channel_indices: Any = None
    ) -> npt.NDArray[Any]:
        start = 0 if start_frame is None else start_frame
        end = self.get_num_samples() if end_frame is None else end_frame
        clean = self._parent.get_traces(start, end, slice(None))
        artifact_uV = self._artifact.voltage_uV(start, end, self._fs_Hz)
        touched = artifact_uV.any(axis=1)
        traces: npt.NDArray[Any] = clean.copy()
        traces[touched] = self._clipped(clean[touched], artifact_uV[touched])
        return traces if channel_indices is None else traces[:, channel_indices]

    def saturated(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Return which samples are clipped."""
        clean = self._parent.get_traces(start, end, slice(None))
        artifact_uV = self._artifact.voltage_uV(start, end, self._fs_Hz)
        return np.abs(self._voltage_uV(clean, artifact_uV)) >= self._artifact.spec.rail_uV

    def _voltage_uV(self, clean: npt.NDArray[Any], artifact_uV: Floats) -> Floats:
        voltage: Floats = clean * self._gains + self._offsets + artifact_uV
        return voltage

    def _clipped(self, clean: npt.NDArray[Any], artifact_uV: Floats) -> npt.NDArray[Any]:
        rail_uV = self._artifact.spec.rail_uV
        samples = (np.clip(self._voltage_uV(clean, artifact_uV), -rail_uV, rail_uV) - self._offsets) / self._gains
        if not np.issubdtype(self._dtype, np.integer):
            return samples.astype(self._dtype)
        limits = np.iinfo(self._dtype)
        return np.clip(np.rint(samples), limits.min, limits.max).astype(self._dtype)
