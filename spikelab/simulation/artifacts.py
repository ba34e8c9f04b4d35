"""Stimulation artifacts, added to a recording whose clean samples stay known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

Pulse = Literal["biphasic", "monophasic"]
FirstPhase = Literal["anodic", "cathodic"]
Tail = Literal["exponential", "oscillating", "none"]
RecoveryRail = Literal["positive", "negative"]


@dataclass(frozen=True)
class ArtifactSpec:
    """What the artifacts look like; the fields are the arguments of `add_stim_artifacts`."""

    amplitude_uV: float
    pulse: Pulse
    first_phase: FirstPhase
    phase_ms: float
    n_pulses: int
    pulse_interval_ms: float
    tail: Tail
    tail_fraction: float
    tail_tau_ms: float
    tail_frequency_Hz: float
    recovery_ms: float
    recovery_rail: RecoveryRail
    rail_uV: float

    def __post_init__(self) -> None:
        for name, allowed in (("pulse", Pulse), ("first_phase", FirstPhase), ("tail", Tail)):
            _check_one_of(name, getattr(self, name), get_args(allowed))
        _check_one_of("recovery_rail", self.recovery_rail, get_args(RecoveryRail))
        for name in ("amplitude_uV", "phase_ms", "pulse_interval_ms", "tail_tau_ms", "tail_frequency_Hz", "rail_uV"):
            _check_number(name, getattr(self, name), above=True)
        for name in ("tail_fraction", "recovery_ms"):
            _check_number(name, getattr(self, name), above=False)
        if self.n_pulses < 1:
            msg = f"n_pulses must be at least 1, got {self.n_pulses}"
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class StimTruth:
    """A recording with artifacts, and the truth about it.

    Attributes
    ----------
    recording : spikeinterface.core.BaseRecording
        With artifacts, clipped at the rails; lazy, of the type, gains and offsets of `clean`.
    clean : spikeinterface.core.BaseRecording
        The recording that was given: the same samples without artifacts.
    times_ms : ndarray, shape (n_events,), float64
        True times (ms): the crossing between the phases of a first biphasic pulse, the onset of a monophasic one.
    logged_times_ms : ndarray, shape (n_events,), float64
        What the hardware noted: `times_ms` with offset, clock drift and jitter.
    amplitude_uV : ndarray, shape (n_channels,), float64
        Size of the pulse on each channel before it is clipped (uV).
    rail_uV : float
        Voltage at which the amplifier clips, of either sign (uV).
    """

    recording: BaseRecording
    clean: BaseRecording
    times_ms: npt.NDArray[np.float64]
    logged_times_ms: npt.NDArray[np.float64]
    amplitude_uV: npt.NDArray[np.float64]
    rail_uV: float

    def saturated(self, start_frame: int, end_frame: int) -> npt.NDArray[np.bool_]:
        """Return which samples were clipped, shape (samples, channels), bool."""
        saturated: npt.NDArray[np.bool_] = self.recording.segments[0].saturated(start_frame, end_frame)
        return saturated


def add_stim_artifacts(
    recording: BaseRecording,
    times_ms: Sequence[float] | npt.NDArray[np.floating],
    *,
    amplitude_uV: float = 20_000.0,
    electrode: int = 0,
    falloff_um: float = 60.0,
    pulse: Pulse = "biphasic",
    first_phase: FirstPhase = "anodic",
    phase_ms: float = 0.2,
    n_pulses: int = 1,
    pulse_interval_ms: float = 5.0,
    tail: Tail = "exponential",
    tail_fraction: float = 0.3,
    tail_tau_ms: float = 2.0,
    tail_frequency_Hz: float = 300.0,
    tail_spread: float = 0.0,
    recovery_ms: float = 0.0,
    recovery_rail: RecoveryRail = "positive",
    rail_uV: float = 5_000.0,
    variation: float = 0.03,
    offset_ms: float = 0.0,
    jitter_ms: float = 0.0,
    clock_drift_ppm: float = 0.0,
    seed: int = 0,
) -> StimTruth:
    """Return `recording` with stimulation artifacts added to it, and the truth about them.

    Parameters
    ----------
    recording : spikeinterface.core.BaseRecording
        One segment with a probe; without gains its samples count as uV.
    times_ms : sequence of float
        True time of each event (ms).
    amplitude_uV : float, default: 20000.0
        Size of the pulse at the stimulating electrode, before clipping (uV).
    electrode : int, default: 0
        Index of the channel that stimulates.
    falloff_um : float, default: 60.0
        Distance at which the amplitude has halved (um); it falls as ``1 / (1 + distance / falloff_um)``.
    pulse : {"biphasic", "monophasic"}, default: "biphasic"
        Two phases of opposite sign, or one.
    first_phase : {"anodic", "cathodic"}, default: "anodic"
        Sign of the first phase; anodic is positive.
    phase_ms : float, default: 0.2
        Length of a phase (ms).
    n_pulses : int, default: 1
        Pulses in each event: 2 for paired pulses, more for bursts and trains.
    pulse_interval_ms : float, default: 5.0
        From one pulse of an event to the next (ms).
    tail : {"exponential", "oscillating", "none"}, default: "exponential"
        What follows each pulse. It has the sign of the last phase.
    tail_fraction : float, default: 0.3
        Amplitude of the tail where it begins, as a fraction of the pulse's.
    tail_tau_ms : float, default: 2.0
        Time constant of the tail (ms).
    tail_frequency_Hz : float, default: 300.0
        Frequency of an oscillating tail (Hz).
    tail_spread : float, default: 0.0
        Standard deviation of the tails' speed from channel to channel, of its logarithm; 0 leaves all alike.
    recovery_ms : float, default: 0.0
        On channels whose pulse reaches the rail: how long the amplifier stays at a rail after each pulse (ms), before
        it comes back exponentially with `tail_tau_ms`. 0 leaves it at plain clipping.
    recovery_rail : {"positive", "negative"}, default: "positive"
        The rail at which it stays.
    rail_uV : float, default: 5000.0
        Voltage at which the amplifier clips, of either sign (uV).
    variation : float, default: 0.03
        Standard deviation of the amplitude from event to event, as a fraction.
    offset_ms, jitter_ms, clock_drift_ppm : float, default: 0.0
        Logged times are ``true * (1 + clock_drift_ppm / 1e6) + offset_ms``, and normal noise of `jitter_ms`.
    seed : int, default: 0
        Decides amplitudes, jitter and spread.

    Returns
    -------
    StimTruth
        The recording and the truth about it.

    Raises
    ------
    ValueError
        A value is out of its range, or the recording has several segments or no probe.

    Examples
    --------
    >>> from spikelab.simulation import add_stim_artifacts, simulate_recording
    >>> clean = simulate_recording("tetrode", duration_s=1.0).recording
    >>> truth = add_stim_artifacts(clean, [200.0, 700.0], offset_ms=1.5)
    >>> truth.logged_times_ms.tolist()
    [201.5, 701.5]
    >>> bool(truth.saturated(3990, 4010).any())
    True
    """
    from spikelab.simulation._stimulated import StimulatedRecording

    if recording.get_num_segments() != 1 or not recording.has_probe():
        msg = "expected a recording of one segment with a probe; select a segment, or set_probe"
        raise ValueError(msg)
    spec = ArtifactSpec(
        amplitude_uV=float(amplitude_uV),
        pulse=pulse,
        first_phase=first_phase,
        phase_ms=float(phase_ms),
        n_pulses=int(n_pulses),
        pulse_interval_ms=float(pulse_interval_ms),
        tail=tail,
        tail_fraction=float(tail_fraction),
        tail_tau_ms=float(tail_tau_ms),
        tail_frequency_Hz=float(tail_frequency_Hz),
        recovery_ms=float(recovery_ms),
        recovery_rail=recovery_rail,
        rail_uV=float(rail_uV),
    )
    _check_number("falloff_um", falloff_um, above=True)
    for name, value in (("variation", variation), ("jitter_ms", jitter_ms), ("tail_spread", tail_spread)):
        _check_number(name, value, above=False)
    true_ms = np.sort(np.asarray(times_ms, dtype=np.float64).ravel())
    if not np.isfinite(true_ms).all():
        msg = f"times_ms must be numbers, got {true_ms}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    scale = 1 + variation * rng.standard_normal(true_ms.size)
    noise_ms = jitter_ms * rng.standard_normal(true_ms.size)
    tail_factors = np.exp(tail_spread * rng.standard_normal(recording.get_num_channels()))
    locations_um = recording.get_channel_locations()
    distance_um = np.linalg.norm(locations_um - locations_um[electrode], axis=1)
    amplitudes_uV = spec.amplitude_uV / (1 + distance_um / falloff_um)
    stimulated = StimulatedRecording(
        recording=recording,
        times_ms=true_ms.tolist(),
        scale=scale.tolist(),
        amplitudes_uV=amplitudes_uV.tolist(),
        spec=asdict(spec),
        tail_factors=tail_factors.tolist(),
    )
    logged_ms = true_ms * (1 + clock_drift_ppm / 1e6) + offset_ms + noise_ms
    return StimTruth(stimulated, recording, true_ms, logged_ms, amplitudes_uV, spec.rail_uV)


def _check_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        msg = f"{name} must be one of {', '.join(allowed)}, got {value!r}"
        raise ValueError(msg)


def _check_number(name: str, value: Any, *, above: bool) -> None:
    """Raise ValueError unless `value` is a finite number above 0, or of at least 0."""
    if not (np.isfinite(value) and (value > 0 if above else value >= 0)):
        msg = f"{name} must be a finite number {'above 0' if above else 'of at least 0'}, got {value!r}"
        raise ValueError(msg)
