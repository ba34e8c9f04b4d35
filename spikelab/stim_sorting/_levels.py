"""What each channel is like: its level, its noise, and the rails at which it clips."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, Mask, Reader, filled, mostly_lost, of_numbers, quiet_windows, warn
from spikelab.stim_sorting._tail import longest_runs, make_level

_N_PROBED_EVENTS = 200
_PLATEAU_SAMPLES = 3
_SOFT_PLATEAU_MS = 1.0
_MIN_RAIL_SD = 20.0
_MIN_SOFT_RAIL_SD = 100.0
_SAME_RAIL = 0.005
_NOISE_FLOOR = 2e-4
_BASELINE_SD = 6.0
_LEAST_SATURATION_SD, _LEAST_OF_RAIL, _LEAST_BASELINE_SD = 5.0, 0.5, 1.0
"""Thresholds below these look like those of another unit."""
_OFF_ZERO_SD = 10.0
_LOST = 0.5
"""Of the windows: without numbers in more of them, a channel is left alone."""


@dataclass(frozen=True, eq=False)
class Levels:
    """What each channel is like, in the unit of the samples; all arrays have the shape (n_channels,).

    Attributes
    ----------
    baseline : ndarray
        Median between events.
    noise : ndarray
        Standard deviation around slow waves, robust against spikes.
    jerk : ndarray
        Standard deviation of second differences.
    low, high : ndarray
        Rails, relative to the baseline; infinite where nothing clips.
    near : ndarray
        Distance from the baseline at which a channel counts as back.
    stuck : ndarray, bool
        Saturated, or without numbers, all the time: left alone.
    """

    baseline: Floats
    noise: Floats
    jerk: Floats
    low: Floats
    high: Floats
    near: Floats
    stuck: Mask

    @property
    def off_zero(self) -> Mask:
        """Channels that do not lie around 0, where blanked samples would be a step."""
        off: Mask = (np.abs(self.baseline) > _OFF_ZERO_SD * self.noise) & ~self.stuck
        return off

    def of(self, channels: npt.NDArray[np.intp]) -> Levels:
        """Return those of some channels."""
        return Levels(**{field.name: getattr(self, field.name)[channels] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class Quiet:
    """What each channel is like between the events; all arrays have the shape (n_channels,).

    Attributes
    ----------
    baseline, noise, jerk : ndarray
        As in `Levels`.
    lost : ndarray, bool
        No numbers most of the time.
    """

    baseline: Floats
    noise: Floats
    jerk: Floats
    lost: Mask


def measure_noise(reader: Reader, times_ms: Floats) -> Quiet:
    """Return what each channel is like between the events."""
    medians, noises, jerks, numbers = [], [], [], []
    for raw in quiet_windows(reader, times_ms):
        window, finite = filled(raw.astype(np.float64))
        numbers.append(finite)
        medians.append(np.median(window, axis=1))
        length = min(window.shape[1], max(8, round(0.01 * reader.fs_Hz)))
        cubic = make_level(length, reader.fs_Hz, 3, 0)
        pieces = (window - medians[-1][:, None])[:, : window.shape[1] // length * length].reshape(-1, length)
        left = np.abs(pieces - (pieces @ cubic.projection) @ cubic.basis.T).reshape(reader.n_channels, -1)
        noises.append(np.median(left, axis=1) / 0.6745)
        jerks.append(np.median(np.abs(np.diff(window, n=2, axis=1)), axis=1) / 0.6745)
    # A third of the windows may lie on slow tails of artifacts: the quieter ones tell.
    noise, jerk = (np.nanquantile(of_numbers(one, numbers), 0.4, axis=0) for one in (noises, jerks))
    baseline = np.asarray(np.nanmedian(of_numbers(medians, numbers), axis=0))
    return Quiet(baseline, noise, jerk, np.mean([mostly_lost(finite) for finite in numbers], axis=0) > _LOST)


class Extremes:
    """The largest and smallest samples of each channel, and where they form plateaus, seen window by window."""

    def __init__(self, n_channels: int, noise: Floats, fs_Hz: float) -> None:
        self.noise = noise
        self._soft = max(_PLATEAU_SAMPLES + 1, round(_SOFT_PLATEAU_MS * fs_Hz / 1000))
        self.top = np.full((2, n_channels), -np.inf)
        self.hard = np.full((2, n_channels), -np.inf)
        self.soft = np.full((2, n_channels), -np.inf)

    def add(self, window: Floats) -> None:
        """Take note of samples relative to the baseline, shape (channels, samples)."""
        for side, samples in enumerate((-window, window)):
            top = samples.max(axis=1)
            self.top[side] = np.maximum(self.top[side], top)
            flat = longest_runs(samples >= (top - 1e-6 * np.abs(top))[:, None]) >= _PLATEAU_SAMPLES
            self.hard[side] = np.where(flat, np.maximum(self.hard[side], top), self.hard[side])
            near = samples >= (top - 6 * self.noise)[:, None]
            # A plateau is as narrow as the noise; the rounded top of a wave fills the whole of that range.
            even = np.std(samples, axis=1, where=near) < 1.4 * self.noise
            soft = even & (longest_runs(near) >= self._soft)
            self.soft[side] = np.where(soft, np.maximum(self.soft[side], top), self.soft[side])

    def rails(self) -> tuple[Floats, Floats]:
        """Return the low and the high rail of each channel; infinite where nothing clips."""
        low, high = (self._rail(side) for side in (0, 1))
        return -low, high

    def _rail(self, side: int) -> Floats:
        top, noise = self.top[side], self.noise
        slack = 1e-6 * np.abs(top)
        hard = (self.hard[side] >= top - slack) & (top > _MIN_RAIL_SD * noise)
        soft = (self.soft[side] >= top - 6 * noise) & (top > _MIN_SOFT_RAIL_SD * noise)
        rail = np.where(hard, top - slack, np.where(soft, top - 6 * noise, np.inf))
        if hard.any():
            # Amplifiers of one array clip alike: a channel that only just reaches the rail shows no plateau.
            common = float(np.median(top[hard]))
            reaches = ~np.isfinite(rail) & (np.abs(top - common) < _SAME_RAIL * common)
            rail = np.where(reaches, (1 - _SAME_RAIL) * common, rail)
        return rail


def type_rails(dtype: Any) -> tuple[float, float]:
    """Return the smallest and the largest sample of a type; infinite for floats."""
    if not np.issubdtype(dtype, np.integer):
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def measure_levels(
    reader: Reader,
    times_ms: Floats,
    windows: list[tuple[int, int]],
    *,
    limits: tuple[Floats, Floats] | tuple[float, float],
    saturation_threshold: float | None,
    baseline_threshold: float | None,
) -> Levels:
    """Return what the channels are like.

    Parameters
    ----------
    reader : Reader
        Samples.
    times_ms : ndarray
        Events (ms).
    windows : list of (int, int)
        Samples around each event in which clipping shows.
    limits : (float, float)
        Smallest and largest sample that the recording can hold.
    saturation_threshold, baseline_threshold : float or None
        Distances from the baseline given by the user, in place of what the data say.
    """
    quiet = measure_noise(reader, times_ms)
    baseline, noise, jerk = quiet.baseline, quiet.noise, quiet.jerk
    chosen = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), _N_PROBED_EVENTS)).astype(np.intp))
    flat = noise == 0
    extremes = Extremes(reader.n_channels, noise, reader.fs_Hz)
    for index in chosen:
        start, end = windows[index]
        if end > start:
            extremes.add(filled(reader.read(start, end).astype(np.float64))[0] - baseline[:, None])
    largest = float(extremes.top[:, ~quiet.lost].max(initial=0.0))
    # Without any noise, as in made-up traces, thresholds would be zero and everything above them.
    floor = _NOISE_FLOOR * largest if largest > 0 else 1.0
    noise, jerk = np.maximum(noise, floor), np.maximum(jerk, 2.45 * floor)
    extremes.noise = noise
    low, high = extremes.rails()
    _check_thresholds(saturation_threshold, baseline_threshold, noise, largest, float(np.minimum(high, -low).min()))
    low, high = np.maximum(low, limits[0] - baseline), np.minimum(high, limits[1] - baseline)
    if saturation_threshold is not None:
        low, high = np.full(low.shape, -saturation_threshold), np.full(high.shape, saturation_threshold)
    near = _BASELINE_SD * noise if baseline_threshold is None else np.full(noise.shape, baseline_threshold)
    stuck = quiet.lost | _stuck(baseline, flat, limits)
    return Levels(baseline, noise, jerk, low, high, near, stuck)


def _stuck(baseline: Floats, flat: Mask, limits: tuple[Any, Any]) -> Mask:
    """Return the channels that show one value all the time where others do not, or lie at the end of the type."""
    at_limit: Mask = (baseline <= limits[0]) | (baseline >= limits[1])
    return at_limit | flat if not flat.all() else at_limit


def _check_thresholds(
    saturation: float | None, baseline: float | None, noise: Floats, largest: float, rail: float
) -> None:
    """Warn of thresholds that look like those of another unit; `rail` is where the first channel clips, or infinite."""
    sd = float(np.median(noise))
    unit = "it is in the unit of the traces (raw counts, or uV)"
    if saturation is not None and saturation < _LEAST_SATURATION_SD * sd:
        warn(
            f"saturation_threshold={saturation:g} lies within the noise, whose SD is {sd:g}: {unit}, so most of the "
            "data would count as saturated"
        )
    elif saturation is not None and saturation > largest:
        found = f"they clip at {rail:g}" if np.isfinite(rail) else "nothing clips"
        warn(
            f"saturation_threshold={saturation:g} is never reached: the traces go up to {largest:g}, and {found}; "
            f"{unit}"
        )
    elif saturation is not None and np.isfinite(rail) and saturation < _LEAST_OF_RAIL * rail:
        warn(
            f"saturation_threshold={saturation:g} is far below {rail:g}, where the traces clip: {unit}, so samples "
            "that are not saturated would be blanked"
        )
    if baseline is not None and not _LEAST_BASELINE_SD * sd <= baseline <= largest:
        warn(
            f"baseline_threshold={baseline:g} tells no signal at its baseline from others: the SD of the noise is "
            f"{sd:g}, and the traces go up to {largest:g}; {unit}"
        )
