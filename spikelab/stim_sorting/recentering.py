"""Times of stimulation, moved from where the hardware logged them to the artifact itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import (
    ArrayReader,
    Floats,
    Reader,
    checked_times,
    distinct_events,
    filled,
    of_numbers,
    quiet_medians,
    warn,
)

PeakMode = Literal["abs_max", "pos_peak", "neg_peak", "down_edge", "up_edge"]
PeakSelect = Literal["first", "last"]

_N_PROBED_EVENTS = 30
_MIN_SNR = 8.0
_LONGEST_PHASE_GAP_MS = 2.0
_SAME_ARTIFACT_MS = 0.5
_NO_NUMBERS = -1.0


@dataclass(frozen=True)
class Recentering:
    """How events are aligned; the fields are the options of `recenter_stim_times`."""

    max_offset_ms: float = 50.0
    peak_mode: PeakMode = "abs_max"
    n_reference_channels: int = 8
    prewindow_ms: float = 5.0
    warn_offset_ms: float = 3.0
    multi_peak: bool = False
    multi_peak_select: PeakSelect = "first"
    multi_peak_threshold: float = 0.6
    multi_peak_min_separation_ms: float = 2.0

    def __post_init__(self) -> None:
        for name, allowed in (("peak_mode", PeakMode), ("multi_peak_select", PeakSelect)):
            if getattr(self, name) not in get_args(allowed):
                msg = f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        for name in ("max_offset_ms", "prewindow_ms", "warn_offset_ms", "multi_peak_min_separation_ms"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                msg = f"{name} must be a finite number of at least 0 (ms), got {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.n_reference_channels < 1:
            msg = f"n_reference_channels must be at least 1, got {self.n_reference_channels}"
            raise ValueError(msg)
        if not 0 < self.multi_peak_threshold <= 1:
            msg = f"multi_peak_threshold must be above 0 and at most 1, got {self.multi_peak_threshold}"
            raise ValueError(msg)


def recenter_stim_times(
    traces: npt.NDArray[Any],
    stim_times_ms: Sequence[float] | Floats,
    fs_Hz: float,
    max_offset_ms: float = 50.0,
    *,
    peak_mode: PeakMode = "abs_max",
    n_reference_channels: int = 8,
    prewindow_ms: float = 5.0,
    warn_offset_ms: float = 3.0,
    multi_peak: bool = False,
    multi_peak_select: PeakSelect = "first",
    multi_peak_threshold: float = 0.6,
    multi_peak_min_separation_ms: float = 2.0,
) -> npt.NDArray[np.float64]:
    """Return the times at which the artifacts truly are, in the order of `stim_times_ms`.

    Each artifact is looked for from `prewindow_ms` before its logged time to `max_offset_ms` after it, in the mean of
    the channels on which artifacts are largest.

    Parameters
    ----------
    traces : ndarray, shape (n_channels, n_samples), integer or float
        Raw voltages, in any unit.
    stim_times_ms : sequence of float
        Logged times (ms from the first sample).
    fs_Hz : float
        Sampling rate (Hz).
    max_offset_ms : float, default 50.0
        How late an artifact may be (ms).
    peak_mode : {"abs_max", "pos_peak", "neg_peak", "down_edge", "up_edge"}, default "abs_max"
        What an event is aligned to: the largest absolute, the most positive or the most negative voltage (at the first
        sample of a plateau), or the crossing from the positive to the negative phase ("down_edge") or back
        ("up_edge"), interpolated between samples.
    n_reference_channels : int, default 8
        Channels that decide.
    prewindow_ms : float, default 5.0
        How early an artifact may be (ms).
    warn_offset_ms : float, default 3.0
        Warn when the median of the absolute shifts is above this (ms).
    multi_peak : bool, default False
        Look for several pulses, and align to the first or the last of them rather than the strongest.
    multi_peak_select : {"first", "last"}, default "first"
        Which of them.
    multi_peak_threshold : float, default 0.6
        Amplitude of a pulse that counts, as a fraction of the strongest in the window.
    multi_peak_min_separation_ms : float, default 2.0
        Shortest time between two pulses (ms); what is closer is one pulse.

    Returns
    -------
    ndarray, shape (n_events,), float64
        Times (ms). An event whose window lies outside of the recording, or holds no artifact, keeps its time. Times
        that are one event, closer together than 0.1 ms or 4 samples, whichever is longer, have one time here.

    Raises
    ------
    ValueError
        A time is NaN, a value is out of range, or traces are no (channels, samples).

    Warns
    -----
    StimulationWarning
        An event kept its time or is there twice; two events have found the same artifact; the shift is large.

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.stim_sorting import recenter_stim_times
    >>> traces = np.zeros((4, 2000))
    >>> traces[:, 1000:1004], traces[:, 1004:1008] = 900.0, -900.0
    >>> recenter_stim_times(traces, [49.0], fs_Hz=20000, peak_mode="down_edge").tolist()
    [50.175]
    """
    options = Recentering(
        max_offset_ms=max_offset_ms,
        peak_mode=peak_mode,
        n_reference_channels=n_reference_channels,
        prewindow_ms=prewindow_ms,
        warn_offset_ms=warn_offset_ms,
        multi_peak=multi_peak,
        multi_peak_select=multi_peak_select,
        multi_peak_threshold=multi_peak_threshold,
        multi_peak_min_separation_ms=multi_peak_min_separation_ms,
    )
    return recenter(ArrayReader(traces, fs_Hz), stim_times_ms, options)


def recenter(reader: Reader, stim_times_ms: Any, options: Recentering) -> npt.NDArray[np.float64]:
    """Return corrected times, in the order given, reading nothing but the windows around the events."""
    logged = checked_times(stim_times_ms)
    if logged.size == 0:
        return logged
    order = np.argsort(logged, kind="stable")
    ordered = logged[order]
    # An event that is logged twice is looked for once: it is no neighbour of itself.
    distinct = distinct_events(ordered, reader.fs_Hz)
    found = _Search(reader, ordered[distinct], options).corrected()
    corrected = np.empty_like(logged)
    corrected[order] = found[np.cumsum(distinct) - 1]
    return corrected


class _Search:
    """The search for the artifacts of one recording; times are sorted."""

    def __init__(self, reader: Reader, logged_ms: Floats, options: Recentering) -> None:
        self.reader, self.logged_ms, self.options = reader, logged_ms, options
        self.per_ms = reader.fs_Hz / 1000
        self.levels = quiet_medians(reader, logged_ms)
        self.channels = self._reference_channels()
        self.find = _finder(options, self.per_ms)

    def corrected(self) -> Floats:
        early = np.full(self.logged_ms.size, self.options.prewindow_ms)
        late = np.full(self.logged_ms.size, self.options.max_offset_ms)
        found_ms = np.array([self._locate(*event) for event in zip(self.logged_ms, early, late, strict=True)])
        lost = np.isnan(found_ms)
        found_ms = self._apart(np.where(lost, self.logged_ms, found_ms), lost)
        self._tell(found_ms, lost)
        return found_ms

    def _window(self, from_ms: float, to_ms: float) -> tuple[int, int]:
        start = int(np.ceil(from_ms * self.per_ms - 1e-6))
        end = int(np.floor(to_ms * self.per_ms + 1e-6)) + 1
        return max(0, start), min(self.reader.n_samples, end)

    def _reference_channels(self) -> npt.NDArray[np.intp]:
        """Return the channels on which the artifacts are largest, in a sample of the events."""
        n_events = self.logged_ms.size
        probed = np.unique(np.linspace(0, n_events - 1, min(n_events, _N_PROBED_EVENTS)).astype(np.intp))
        sizes, numbers = [], []
        for time_ms in self.logged_ms[probed]:
            start, end = self._window(time_ms - self.options.prewindow_ms, time_ms + self.options.max_offset_ms)
            if end - start > 1:
                window, finite = filled(self.reader.read(start, end).astype(np.float32))
                sizes.append(np.abs(window - self.levels[:, None]).max(axis=1))
                numbers.append(finite)
        size = np.zeros(self.reader.n_channels)
        if sizes:
            size = np.nanmedian(of_numbers(sizes, numbers, nothing=_NO_NUMBERS), axis=0)
        largest = np.argsort(-size, kind="stable")[: self.options.n_reference_channels]
        return np.sort(largest[size[largest] > _NO_NUMBERS])

    def _locate(self, time_ms: float, early_ms: float, late_ms: float) -> float:
        """Return the time of the artifact near a logged time (ms), or NaN where there is none."""
        start, end = self._window(time_ms - early_ms, time_ms + late_ms)
        if end - start < 3 or self.channels.size == 0:
            return float("nan")
        read, _ = filled(self.reader.read(start, end, self.channels).astype(np.float64))
        window = read - self.levels[self.channels, None]
        reference = np.abs(window).mean(axis=0) if self.options.peak_mode == "abs_max" else window.mean(axis=0)
        noise = np.median(np.abs(np.diff(reference))) / (0.6745 * np.sqrt(2))
        index = self.find(reference, _MIN_SNR * noise)
        return float("nan") if index is None else (start + index) / self.per_ms

    def _apart(self, found_ms: Floats, lost: npt.NDArray[np.bool_]) -> Floats:
        """Look again, each on its own side of the neighbours, where two events have found one artifact."""
        clash = _clashes(found_ms) & ~lost
        if not clash.any():
            return found_ms
        settled = ~clash & ~lost
        usual_ms = float(np.median((found_ms - self.logged_ms)[settled])) if settled.any() else 0.0
        gaps = np.diff(self.logged_ms, prepend=-np.inf, append=np.inf)
        early = np.minimum(gaps[:-1] / 2, self.options.prewindow_ms + usual_ms)
        late = np.minimum(gaps[1:] / 2, self.options.max_offset_ms - usual_ms)
        apart_ms = found_ms.copy()
        for event in np.flatnonzero(clash):
            again = self._locate(self.logged_ms[event] + usual_ms, early[event], late[event])
            apart_ms[event] = self.logged_ms[event] if np.isnan(again) else again
        warn(
            f"{np.count_nonzero(clash)} events found the artifact of a neighbour, and were looked for again between "
            "their neighbours; make max_offset_ms and prewindow_ms shorter than the time between events"
        )
        if (still := _clashes(apart_ms) & ~lost).any():
            warn(
                f"{np.count_nonzero(still)} events still share an artifact with another event "
                f"(the first at {self.logged_ms[still][0]:g} ms): check the logged times"
            )
        return apart_ms

    def _tell(self, found_ms: Floats, lost: npt.NDArray[np.bool_]) -> None:
        if lost.any():
            warn(
                f"{np.count_nonzero(lost)} of {lost.size} events keep their logged time: no artifact from "
                f"{self.options.prewindow_ms:g} ms before to {self.options.max_offset_ms:g} ms after it "
                f"(the first at {self.logged_ms[lost][0]:g} ms)"
            )
        shift_ms = found_ms - self.logged_ms
        if not lost.all() and (typical := float(np.median(np.abs(shift_ms[~lost])))) > self.options.warn_offset_ms:
            warn(
                f"the artifacts are {np.median(shift_ms[~lost]):+.2f} ms from the logged times (median of absolute "
                f"shifts {typical:.2f} ms, above warn_offset_ms={self.options.warn_offset_ms:g}): "
                "check clock and peak_mode"
            )


def _clashes(times_ms: Floats) -> npt.NDArray[np.bool_]:
    """Return which events lie on the artifact of another one, or before an earlier one."""
    too_close = np.diff(times_ms) < _SAME_ARTIFACT_MS
    clashes: npt.NDArray[np.bool_] = np.append(too_close, False) | np.append(False, too_close)
    return clashes


Finder = Callable[[Floats, float], "float | None"]


def _finder(options: Recentering, per_ms: float) -> Finder:
    """Return the function that finds the artifact in a reference trace, as an index, or None."""
    candidates = _edges if options.peak_mode.endswith("edge") else _peaks
    sign = -1.0 if options.peak_mode in {"neg_peak", "up_edge"} else 1.0
    longest_gap = _LONGEST_PHASE_GAP_MS * per_ms

    def find(reference: Floats, least: float) -> float | None:
        where, sizes = candidates(sign * reference, least, options.multi_peak_threshold, longest_gap)
        if where.size == 0:
            return None
        if not options.multi_peak:
            return float(where[np.argmax(sizes)])
        kept = _separate(where, sizes, options)
        return float(kept.min() if options.multi_peak_select == "first" else kept.max())

    def _separate(where: Floats, sizes: Floats, options: Recentering) -> Floats:
        """Return the pulses that count: large enough, and the larger one of those that are too close."""
        least_apart = options.multi_peak_min_separation_ms * per_ms
        kept: list[float] = []
        for pulse in np.argsort(-sizes, kind="stable"):
            far = all(abs(where[pulse] - other) >= least_apart - 1e-6 for other in kept)
            if far and sizes[pulse] >= options.multi_peak_threshold * sizes.max():
                kept.append(float(where[pulse]))
        return np.array(kept)

    return find


def _peaks(trace: Floats, least: float, share: float, _gap: float) -> tuple[Floats, Floats]:
    """Return the first sample of the maximum of each stretch above a share of the largest, and its height."""
    top = trace.max()
    if top <= max(least, 0.0):
        return np.empty(0), np.empty(0)
    high = np.flatnonzero(trace >= share * top)
    stretches = np.split(high, np.flatnonzero(np.diff(high) > 1) + 1)
    where = np.array([stretch[np.argmax(trace[stretch])] for stretch in stretches])
    return where.astype(np.float64), trace[where]


def _edges(trace: Floats, least: float, _share: float, longest_gap: float) -> tuple[Floats, Floats]:
    """Return where a positive phase gives way to a negative one, interpolated, and the size of the smaller phase.

    What lies near zero belongs to neither phase, so that noise between or after phases makes no crossing.
    """
    # At least a tenth of the window's largest swing: what is smaller is the noise on a large artifact.
    border = max(least, 0.1 * float(np.abs(trace).max()))
    phase = np.flatnonzero(np.abs(trace) > border) if border > 0 else np.empty(0, dtype=np.intp)
    if phase.size == 0:
        return np.empty(0), np.empty(0)
    positive = trace[phase] > 0
    breaks = np.flatnonzero((np.diff(positive) != 0) | (np.diff(phase) > longest_gap)) + 1
    runs = np.split(phase, breaks)
    where, sizes = [], []
    for before, after in pairwise(runs):
        if trace[before[0]] > 0 > trace[after[0]] and after[0] - before[-1] <= longest_gap:
            where.append(_crossing(trace, int(before[-1]), int(after[0])))
            sizes.append(min(trace[before].max(), -trace[after].min()))
    return np.array(where), np.array(sizes)


def _crossing(trace: Floats, above: int, below: int) -> float:
    """Return where the trace crosses zero between two samples, one above and one below it."""
    index = above + int(np.argmax(trace[above + 1 : below + 1] <= 0))
    return index + float(trace[index] / (trace[index] - trace[index + 1]))
