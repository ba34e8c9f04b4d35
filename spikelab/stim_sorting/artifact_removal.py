"""Stimulation artifacts out of traces, spikes kept."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._cleaning import Correction, Method, clean_event
from spikelab.stim_sorting._inputs import ArrayReader, Floats, Reader, usable_events, warn
from spikelab.stim_sorting._levels import Levels, type_rails
from spikelab.stim_sorting._plan import Plan, Removal, make_plan


def remove_stim_artifacts(
    traces: npt.NDArray[Any],
    stim_times_ms: Sequence[float] | Floats,
    fs_Hz: float,
    method: Method = "polynomial",
    artifact_window_ms: float = 10.0,
    saturation_threshold: float | None = None,
    baseline_threshold: float | None = None,
    poly_order: int = 3,
    artifact_window_only: bool = True,
    copy: bool = True,
    *,
    recording: Any = None,
    raw_traces: npt.NDArray[Any] | None = None,
    poly_clamp_factor: float = 10.0,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return traces without stimulation artifacts, and which samples are blanked.

    What no curve can follow is blanked: the pulse, and every saturated sample up to the last one of the artifact.
    With "polynomial", a curve is fitted to what comes after, spikes left out, and subtracted, so that spikes that ride
    on the decay keep their shape. The curve is one polynomial of `poly_order`, or pieces of that order joined smoothly
    where the tail bends more than one polynomial can; it ends smoothly at the end of the window. Where the next pulse
    comes before the signal is back at its baseline, the time between them is blanked. Samples that are NaN or infinite
    decide nothing, and stay so where they are not blanked.

    Parameters
    ----------
    traces : ndarray, shape (n_channels, n_samples), integer or float
        Voltages in any unit, around 0: blanked samples become 0.
    stim_times_ms : sequence of float
        Times of the artifacts (ms from the first sample), see `recenter_stim_times`.
    fs_Hz : float
        Sampling rate (Hz).
    method : {"polynomial", "blank"}, default "polynomial"
        Follow the tail and keep its spikes, or blank the whole window on every channel.
    artifact_window_ms : float, default 10.0
        Length of the tail after the last saturated sample (ms).
    saturation_threshold : float or None, default None
        Distance from the baseline at which a sample is saturated, in the unit of the traces, or of `raw_traces` where
        they are given. None finds the rails: plateaus at the largest or smallest voltage, and the ends of the integer
        type.
    baseline_threshold : float or None, default None
        Distance from the baseline within which the signal is back at it, in the unit of the traces. None takes 6 SD
        of the noise.
    poly_order : int, default 3
        Order of the polynomial.
    artifact_window_only : bool, default True
        Follow tails within the window only. False follows them until the next pulse, for at most ten windows.
    copy : bool, default True
        Leave `traces` as they are; False cleans them in place.
    recording : spikeinterface.core.BaseRecording or None, default None
        Where the traces come from: the ends of its integer type count as rails, in uV where the traces are floats.
        With `raw_traces`, the rails are theirs.
    raw_traces : ndarray, shape of `traces`, or None, default None
        The same samples where saturation shows, if the traces were filtered. They may have another unit: integers are
        raw counts, and floats uV where a recording is given.
    poly_clamp_factor : float, default 10.0
        The curve never exceeds this many times the RMS of its tail: a fit that runs away is cut off there.

    Returns
    -------
    cleaned : ndarray, shape (n_channels, n_samples), dtype of `traces`
        `traces` themselves with ``copy=False``.
    blanked_mask : ndarray, shape (n_channels, n_samples), bool
        Samples that are blanked. Its memory is taken only where there are some.

    Raises
    ------
    TypeError
        The traces are no numbers.
    ValueError
        A time is NaN, a value is out of range, or the traces are no (channels, samples).

    Warns
    -----
    StimulationWarning
        There is no event, or times were left out; channels are saturated or no numbers all the time and stay as they
        are; the window is longer than the time between events, or artifacts last longer than the window; a threshold
        looks like one of another unit.

    References
    ----------
    .. [1] D. A. Wagenaar and S. M. Potter, "Real-time multi-channel stimulus artifact suppression by local curve
       fitting", J. Neurosci. Methods 120, 113-120 (2002).

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.stim_sorting import remove_stim_artifacts
    >>> traces = np.random.default_rng(0).normal(0, 8, (4, 20000))
    >>> decay = 20000 * np.exp(-np.arange(400) / 40)
    >>> traces[:, 10000:10400] += np.minimum(decay, 5000)
    >>> cleaned, blanked = remove_stim_artifacts(traces, [500.0], fs_Hz=20000)
    >>> bool(abs(cleaned).max() < 60), int(blanked[0].sum())
    (True, 58)
    """
    options = Removal(
        method=method,
        artifact_window_ms=artifact_window_ms,
        saturation_threshold=saturation_threshold,
        baseline_threshold=baseline_threshold,
        poly_order=poly_order,
        artifact_window_only=artifact_window_only,
        poly_clamp_factor=poly_clamp_factor,
    )
    reader = ArrayReader(traces, fs_Hz)
    rails = None if raw_traces is None else ArrayReader(raw_traces, fs_Hz)
    if rails is not None and (rails.n_channels, rails.n_samples) != (reader.n_channels, reader.n_samples):
        found = (rails.n_channels, rails.n_samples)
        msg = f"raw_traces must have the shape of traces, {(reader.n_channels, reader.n_samples)}, got {found}"
        raise ValueError(msg)
    times_ms = usable_events(stim_times_ms, reader.n_samples, reader.fs_Hz)
    cleaned: npt.NDArray[Any] = np.array(traces) if copy else traces
    blanked = _empty_mask(reader.n_channels, reader.n_samples)
    if times_ms.size == 0:
        return cleaned, blanked
    if raw_traces is None:
        plan = make_plan(reader, times_ms, options, limits=_limits(traces, recording))
    else:
        # What is filtered no longer knows the ends of the type.
        limits = type_rails(traces.dtype)
        plan = make_plan(
            reader, times_ms, options, limits=limits, rails=rails, rail_limits=_limits(raw_traces, recording)
        )
    _tell_of_offsets(plan.cleaner.levels)
    for correction in _corrections(reader, plan, rails):
        here = slice(correction.start, correction.start + correction.curve.shape[1])
        apply(correction.curve, correction.blanked, cleaned[:, here])
        # Sample by sample: whole windows would take the memory of all of the mask.
        channels, samples = np.nonzero(correction.blanked)
        blanked[channels, correction.start + samples] = True
    return cleaned, blanked


def apply(curve: Floats, blanked: npt.NDArray[np.bool_], samples: npt.NDArray[Any]) -> None:
    """Take the curve away from `samples`, in place, and set the blanked ones to zero."""
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        left = np.rint(samples - curve.astype(np.float64))
        samples[...] = np.clip(left, limits.min, limits.max).astype(samples.dtype)
    else:
        samples -= curve
    samples[blanked] = 0


def _corrections(reader: Reader, plan: Plan, rails: Reader | None) -> Iterator[Correction]:
    """Yield the corrections in order; samples are read before an earlier correction can have changed them."""
    raw = [np.array(reader.read(event.start, event.stop)) for event in plan.events[:1]]
    for index, event in enumerate(plan.events):
        if index + 1 < len(plan.events):
            following = plan.events[index + 1]
            raw.append(np.array(reader.read(following.start, following.stop)))
        seen = None if rails is None else rails.read(event.start, event.stop)
        yield clean_event(raw.pop(0), event, plan.cleaner, seen, plan.rail_levels)


def _limits(traces: npt.NDArray[Any], recording: Any) -> tuple[Any, Any]:
    """Return the smallest and largest sample there can be, in the unit of the traces."""
    if np.issubdtype(traces.dtype, np.integer):
        return type_rails(traces.dtype)
    if recording is None or not np.issubdtype(recording.dtype, np.integer):
        return -np.inf, np.inf
    low, high = type_rails(recording.dtype)
    if not recording.has_scaleable_traces():
        return low, high
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    ends = np.sort([low * gains + offsets, high * gains + offsets], axis=0)
    return ends[0], ends[1]


def _empty_mask(n_channels: int, n_samples: int) -> npt.NDArray[np.bool_]:
    """Return a mask of False that takes memory only where it is written to."""
    # In time order, as blanked samples are: a page holds few ms of all channels, not many ms of one.
    memory = mmap.mmap(-1, max(1, n_channels * n_samples))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    mask = np.frombuffer(memory, dtype=np.bool_, count=n_channels * n_samples)
    return mask.reshape(n_samples, n_channels).T


def _tell_of_offsets(levels: Levels) -> None:
    off = levels.off_zero
    if off.any():
        warn(
            f"{np.count_nonzero(off)} channels do not lie around 0 (their median goes up to "
            f"{np.abs(levels.baseline[off]).max():g}): blanked samples become 0, which is a step. "
            "Subtract the median first, or use preprocess_stim_artifacts"
        )
