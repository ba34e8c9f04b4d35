"""Stimulation artifacts: what is left of them and of the spikes on their tails, how long it takes, and how much memory.

``python benchmarks/stimulation.py truth`` compares with SpikeInterface's `remove_artifacts` on simulated artifacts of
several kinds; ``speed`` with a loop over channels and events; ``streaming`` cleans 1,024 channels x 10 minutes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _machine import machine

FS_HZ = 20_000.0
KINDS: dict[str, dict[str, Any]] = {
    "biphasic, exponential tail": {"tail_tau_ms": 2.0},
    "cathodic first, fast tail": {"first_phase": "cathodic", "tail_tau_ms": 0.6, "tail_fraction": 0.5},
    "monophasic, slow tail": {"pulse": "monophasic", "tail_tau_ms": 6.0, "tail_fraction": 0.2},
    "stuck at the positive rail 3 ms": {"recovery_ms": 3.0, "tail_tau_ms": 1.5},
    "stuck at the negative rail 8 ms": {"recovery_ms": 8.0, "recovery_rail": "negative", "tail_tau_ms": 3.0},
    "ringing at 300 Hz": {"tail": "oscillating", "tail_tau_ms": 2.5, "tail_fraction": 0.15},
    "paired pulses, 4 ms": {"n_pulses": 2, "pulse_interval_ms": 4.0, "tail_tau_ms": 3.0},
    "burst of 5 at 200 Hz": {"n_pulses": 5, "pulse_interval_ms": 5.0, "tail_tau_ms": 4.0},
    "small, nothing clips": {"amplitude_uV": 1_500.0, "tail_tau_ms": 2.0},
}
N_EVENTS, INTERVAL_MS = 80, 150.0
AFTER_MS = (0.5, 10.0)
MODES = ("zeros", "linear", "cubic", "median")


# ------------------------------------------------------------------------------------------------- truth


def truth() -> None:
    print(f"{machine()}\n")
    print(
        "| artifact | method | recall | precision | amplitude within 10 % | latency within 0.1 ms | residual RMS "
        "| saturated left |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    clean = simulate()
    for kind, options in KINDS.items():
        for method, figures in compare(clean, options).items():
            print(f"| {kind} | {method} | " + " | ".join(figures) + " |", flush=True)


def simulate() -> Any:
    from spikelab.simulation import simulate_recording

    duration_s = (N_EVENTS + 1) * INTERVAL_MS / 1000
    return simulate_recording("mea", n_channels=36, duration_s=duration_s, n_units=14, rate_Hz=(8, 16), seed=3)


def compare(clean: Any, options: dict[str, Any]) -> dict[str, list[str]]:
    """Return the row of each method."""
    from spikelab.simulation import add_stim_artifacts
    from spikelab.stim_sorting import remove_stim_artifacts

    times_ms = INTERVAL_MS * (1 + np.arange(N_EVENTS)) + np.random.default_rng(0).uniform(-5, 5, N_EVENTS)
    added = add_stim_artifacts(clean.recording, times_ms, electrode=14, **options)
    judge = Judge(clean, added)
    scale = clean.recording.get_channel_gains()[0]
    traces_uV = added.recording.get_traces().T * np.float32(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = {
            method: judge.row(remove_stim_artifacts(traces_uV, added.times_ms, FS_HZ, method)[0])
            for method in ("polynomial", "blank")
        }
    for mode in MODES:
        rows[f"SpikeInterface, {mode}"] = judge.row(their_cleaned(traces_uV, added, options, mode))
    return rows


def their_cleaned(traces_uV: Any, added: Any, options: dict[str, Any], mode: str) -> Any:
    """Return what SpikeInterface makes of it, told how long the longest saturation lasts."""
    import spikeinterface.core as si
    from spikeinterface.preprocessing import remove_artifacts

    recording = si.NumpyRecording([traces_uV.T], FS_HZ)
    triggers = np.rint(added.times_ms * FS_HZ / 1000).astype(np.int64)
    train_ms = (options.get("n_pulses", 1) - 1) * options.get("pulse_interval_ms", 0)
    after_ms = train_ms + (10.0 if mode == "median" else longest_saturation_ms(added, triggers))
    labels = {"list_labels": [["stim"] * triggers.size]} if mode == "median" else {}
    cleaned = remove_artifacts(recording, [triggers.tolist()], ms_before=0.5, ms_after=after_ms, mode=mode, **labels)
    return cleaned.get_traces().T


def longest_saturation_ms(added: Any, triggers: Any) -> float:
    n = round(60 * FS_HZ / 1000)
    last = [np.flatnonzero(added.saturated(t, t + n).any(axis=1)) for t in triggers[:20].tolist()]
    return max((where[-1] + 2) / FS_HZ * 1000 if where.size else 0.5 for where in last)


class Judge:
    """What is known about one recording with artifacts."""

    def __init__(self, clean: Any, added: Any) -> None:
        gain = np.float32(clean.recording.get_channel_gains()[0])
        self.clean_uV = clean.recording.get_traces().T * gain
        self.saturated = added.saturated(0, added.recording.get_num_samples()).T
        self.zone = tails(self.saturated, added.times_ms)
        self.clean_filtered = band_pass(self.clean_uV)
        self.noise = np.median(np.abs(self.clean_filtered), axis=1) / 0.6745
        self.troughs = crossings(self.clean_filtered, self.noise, self.zone)
        self.spiking = near_spikes(clean)
        self.noise_rms = np.sqrt((self.clean_uV[self.zone & ~self.spiking] ** 2).mean())

    def row(self, cleaned_uV: Any) -> list[str]:
        filtered = band_pass(cleaned_uV)
        found = crossings(filtered, self.noise, self.zone)
        n_samples = self.zone.shape[1]
        true, seen = (c * (2 * n_samples) + s for c, s in (self.troughs, found))
        recall, precision = matched(true, seen), matched(seen, true)
        channels, samples = self.troughs
        # Spikes that stand out: a threshold of five times the noise cannot be measured within 10 %.
        large = self.clean_filtered[channels, samples] < -8 * self.noise[channels]
        channels, samples = channels[large], samples[large]
        window = samples[:, None] + np.arange(-6, 7)
        before, after = (traces[channels[:, None], window] for traces in (self.clean_filtered, filtered))
        amplitude = np.abs(after.min(axis=1) / before.min(axis=1) - 1) <= 0.1
        latency = np.abs(after.argmin(axis=1) - before.argmin(axis=1)) <= 0.1 * FS_HZ / 1000
        quiet = self.zone & ~self.spiking
        rms = np.sqrt((cleaned_uV[quiet] ** 2).mean()) / self.noise_rms
        left = np.count_nonzero(self.saturated & (np.abs(cleaned_uV) > 1_000))
        percent = [f"{100 * share:.1f} %" for share in (recall, precision, amplitude.mean(), latency.mean())]
        return [*percent, f"{rms:.2f}", str(left)]


def tails(saturated: Any, times_ms: Any) -> Any:
    """Return the samples from 0.5 to 10 ms after the last saturated sample (or the pulse) of each event."""
    zone = np.zeros(saturated.shape, dtype=bool)
    before, reach = round(1.0 * FS_HZ / 1000), round(70 * FS_HZ / 1000)
    low, high = (round(ms * FS_HZ / 1000) for ms in AFTER_MS)
    for time_ms in times_ms:
        start = round(time_ms * FS_HZ / 1000) - before
        window = saturated[:, start : start + reach]
        last = np.where(window.any(axis=1), window.shape[1] - 1 - window[:, ::-1].argmax(axis=1), before + 6)
        for channel, end in enumerate(start + last):
            zone[channel, end + low : end + high] = True
    return zone


def band_pass(traces_uV: Any) -> Any:
    from scipy.signal import butter, sosfiltfilt

    sos = butter(3, (300, 6000), "bandpass", fs=FS_HZ, output="sos")
    return sosfiltfilt(sos, traces_uV, axis=1)


def crossings(filtered: Any, noise: Any, zone: Any) -> tuple[Any, Any]:
    """Return channel and sample of each trough below five times the noise, in the zone, 1 ms apart."""
    from scipy.signal import find_peaks

    channels, samples = [], []
    for channel, trace in enumerate(filtered):
        peaks = find_peaks(-trace, height=5 * noise[channel], distance=round(FS_HZ / 1000))[0]
        peaks = peaks[zone[channel, peaks]]
        channels.append(np.full(peaks.size, channel))
        samples.append(peaks)
    return np.concatenate(channels), np.concatenate(samples)


def near_spikes(clean: Any) -> Any:
    """Return the samples at which a true spike adds to a channel."""
    mask = np.zeros((clean.recording.get_num_channels(), clean.recording.get_num_samples()), dtype=bool)
    for unit, template in zip(clean.sorting.unit_ids, clean.templates_uV, strict=True):
        channels = np.flatnonzero(np.abs(template).max(axis=0) > 3)
        for sample in clean.sorting.get_unit_spike_train(unit):
            mask[channels, max(0, sample - 20) : sample + 60] = True
    return mask


def matched(wanted: Any, there: Any) -> float:
    """Return the share of `wanted` that has one of `there` within 0.3 ms."""
    if wanted.size == 0:
        return 1.0
    there = np.sort(np.r_[there, -(10**12), 10**15])
    after = np.searchsorted(there, wanted)
    nearest = np.minimum(np.abs(there[after] - wanted), np.abs(there[after - 1] - wanted))
    return float((nearest <= 0.3 * FS_HZ / 1000).mean())


if __name__ == "__main__":
    PARTS: dict[str, Callable[[], None]] = {"truth": truth}
    PARTS[sys.argv[1]]()
