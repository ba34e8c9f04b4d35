"""What a recording shows of its artifacts, found once: how each event is cleaned follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._cleaning import Cleaner, Method
from spikelab.stim_sorting._events import Event, Windows, ends_at, find_reaches, make_events, pulse_windows
from spikelab.stim_sorting._inputs import Floats, Reader, named, warn
from spikelab.stim_sorting._levels import Levels, measure_levels
from spikelab.stim_sorting._outlasting import outlasting


@dataclass(frozen=True)
class Removal:
    """How artifacts are removed; the fields are the options of `remove_stim_artifacts`."""

    method: Method = "polynomial"
    artifact_window_ms: float = 10.0
    saturation_threshold: float | None = None
    baseline_threshold: float | None = None
    poly_order: int = 3
    artifact_window_only: bool = True
    poly_clamp_factor: float = 10.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            msg = f"method must be one of {', '.join(get_args(Method))}, got {self.method!r}"
            raise ValueError(msg)
        for name in ("artifact_window_ms", "saturation_threshold", "baseline_threshold", "poly_clamp_factor"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                msg = f"{name} must be a finite number above 0, got {value!r}"
                raise ValueError(msg)
        if not 1 <= self.poly_order <= 7:
            msg = f"poly_order must be from 1 to 7, got {self.poly_order!r}"
            raise ValueError(msg)

    def n_window(self, fs_Hz: float) -> int:
        """Return the samples of the artifact window."""
        return max(8, round(self.artifact_window_ms * fs_Hz / 1000))


@dataclass(frozen=True, eq=False)
class Plan:
    """All that the cleaning of any part of a recording needs to know.

    Attributes
    ----------
    times_ms : ndarray, shape (n_events,)
        Events, sorted (ms).
    windows : Windows
        Where their pulses are looked for.
    reaches : ndarray, shape (n_events,), int64
        Where they end.
    events : list of Event
        The same, event by event.
    cleaner : Cleaner
        How they are cleaned.
    rail_levels : Levels or None
        Rails of other traces in which saturation shows.
    """

    times_ms: Floats
    windows: Windows
    reaches: npt.NDArray[np.int64]
    events: list[Event]
    cleaner: Cleaner
    rail_levels: Levels | None = None


def make_plan(
    reader: Reader,
    times_ms: Floats,
    options: Removal,
    *,
    limits: tuple[Any, Any] = (-np.inf, np.inf),
    rails: Reader | None = None,
    rail_limits: tuple[Any, Any] = (-np.inf, np.inf),
) -> Plan:
    """Return the plan for sorted times within the recording; reads the windows around the events, and no more.

    `limits` are the smallest and the largest sample that there can be; saturation is looked for in `rails` if they are
    given, whose ends are `rail_limits`.
    """
    windows = pulse_windows(times_ms, reader.n_samples, reader.fs_Hz)
    follows = ends_at(windows.start, reader.n_samples)
    ends = np.minimum(windows.near + options.n_window(reader.fs_Hz), follows)
    probed = list(zip(windows.start.tolist(), ends.tolist(), strict=True))
    levels = measure_levels(
        reader,
        times_ms,
        probed,
        limits=limits,
        saturation_threshold=options.saturation_threshold if rails is None else None,
        baseline_threshold=options.baseline_threshold,
    )
    rail_levels = None
    if rails is not None:
        rail_levels = measure_levels(
            rails,
            times_ms,
            probed,
            limits=rail_limits,
            saturation_threshold=options.saturation_threshold,
            baseline_threshold=None,
        )
        levels = replace(levels, stuck=levels.stuck | rail_levels.stuck)
    cleaner = make_cleaner(levels, reader.fs_Hz, options)
    reaches = find_reaches(rails or reader, windows, rail_levels or levels, cleaner.n_read)
    _tell_of_window(times_ms, options)
    _tell_of_stuck(levels, reader)
    events = make_events(windows, reaches)
    away, farthest_sd = outlasting(reader, times_ms, events, cleaner, rails, rail_levels)
    _tell_of_outlasting(reader.channel_ids[away], farthest_sd, cleaner)
    return Plan(times_ms, windows, reaches, events, cleaner, rail_levels)


def make_cleaner(levels: Levels, fs_Hz: float, options: Removal) -> Cleaner:
    """Return how events are cleaned."""
    return Cleaner(
        levels=levels,
        fs_Hz=fs_Hz,
        method=options.method,
        n_window=options.n_window(fs_Hz),
        poly_order=options.poly_order,
        window_only=options.artifact_window_only,
        clamp_factor=options.poly_clamp_factor,
    )


def _tell_of_window(times_ms: Floats, options: Removal) -> None:
    gaps_ms = np.diff(times_ms)
    if gaps_ms.size and (short := int(np.count_nonzero(gaps_ms < options.artifact_window_ms))):
        warn(
            f"artifact_window_ms={options.artifact_window_ms:g} is longer than the time between events for {short} of "
            f"{times_ms.size} events (shortest {gaps_ms.min():g} ms): windows end where the next pulse begins"
        )


def _tell_of_stuck(levels: Levels, reader: Reader) -> None:
    if levels.stuck.any():
        stuck = reader.channel_ids[levels.stuck]
        warn(
            f"{stuck.size} channels are saturated, flat or no numbers throughout, and stay as they are: {named(stuck)}"
        )


def _tell_of_outlasting(channel_ids: npt.NDArray[Any], farthest_sd: float, cleaner: Cleaner) -> None:
    if channel_ids.size:
        follow = ", or artifact_window_only=False" if cleaner.window_only and cleaner.method == "polynomial" else ""
        warn(
            f"artifacts outlast the {cleaner.n_tail / cleaner.fs_Hz * 1000:g} ms in which they are removed on "
            f"{channel_ids.size} channels ({named(channel_ids)}), up to {farthest_sd:.3g} SD of the noise then. "
            f"What comes later stays: make artifact_window_ms longer{follow}"
        )
