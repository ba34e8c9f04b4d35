"""A recording with stimulation, cleaned in one call, and what was found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._cleaning import Method
from spikelab.stim_sorting._inputs import Floats, RecordingReader, checked_times, named, warn
from spikelab.stim_sorting.recentering import PeakMode, PeakSelect, Recentering
from spikelab.stim_sorting.recentering import recenter as recentered

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

    from spikelab.stim_sorting.preprocessing import RemoveStimArtifactsRecording

_STILL_SATURATED_FRAC = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class StimSummary:
    """What became of the artifacts of a recording.

    Attributes
    ----------
    logged_times_ms : ndarray, shape (n_events,), float64
        Times as given (ms).
    times_ms : ndarray, shape (n_events,), float64
        Where the artifacts are (ms), in the same order.
    offsets_ms : ndarray, shape (n_events,), float64
        ``times_ms - logged_times_ms``.
    blanked_ms : ndarray, shape (n_periods, 2), float64
        Start and end (ms) of each period in which at least half of the channels are blanked.
    blanked_frac : float
        Blanked samples, as a fraction of all.
    blanked_frac_per_channel : ndarray, shape (n_channels,), float64
        The same for each channel.
    saturation_ms : ndarray, shape (n_channels,), float64
        How long each channel is at a rail in one event (ms), on average; what is blanked may be more.
    saturated_channels : list
        Ids of channels that are not to be trusted: saturated for more than a fifth of the recording; or saturated,
        flat or without numbers all the time, and so left alone.
    """

    logged_times_ms: npt.NDArray[np.float64]
    times_ms: npt.NDArray[np.float64]
    offsets_ms: npt.NDArray[np.float64]
    blanked_ms: npt.NDArray[np.float64]
    blanked_frac: float
    blanked_frac_per_channel: npt.NDArray[np.float64]
    saturation_ms: npt.NDArray[np.float64]
    saturated_channels: list[Any]

    def __repr__(self) -> str:
        """Return the essentials; the arrays are long."""
        offset = f"offset {np.median(self.offsets_ms):+.2f} ms, " if self.offsets_ms.size else ""
        return (
            f"StimSummary({self.times_ms.size} events, {offset}{100 * self.blanked_frac:.2f} % blanked, "
            f"{len(self.saturated_channels)} channels not to be trusted)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        return {**plain, "saturated_channels": [str(channel) for channel in self.saturated_channels]}


def preprocess_stim_artifacts(
    recording: BaseRecording,
    stim_times_ms: Sequence[float] | Floats,
    *,
    method: Method = "polynomial",
    recenter: bool = True,
    artifact_window_ms: float = 10.0,
    saturation_threshold: float | None = None,
    baseline_threshold: float | None = None,
    poly_order: int = 3,
    artifact_window_only: bool = True,
    poly_clamp_factor: float = 10.0,
    max_offset_ms: float = 50.0,
    peak_mode: PeakMode = "abs_max",
    n_reference_channels: int = 8,
    prewindow_ms: float = 5.0,
    warn_offset_ms: float = 3.0,
    multi_peak: bool = False,
    multi_peak_select: PeakSelect = "first",
    multi_peak_threshold: float = 0.6,
    multi_peak_min_separation_ms: float = 2.0,
) -> tuple[BaseRecording, StimSummary]:
    """Return `recording` without stimulation artifacts, lazily, and a summary of what was found.

    Only the samples around the events are read; the recording is never held in memory, whatever its length.

    Parameters
    ----------
    recording : spikeinterface.core.BaseRecording
        One segment, not filtered: saturation must show.
    stim_times_ms : sequence of float
        Logged times (ms from the first sample).
    recenter : bool, default True
        Move the times to the artifacts first.
    method, artifact_window_ms, saturation_threshold, baseline_threshold, poly_order, artifact_window_only, \
poly_clamp_factor
        As in `remove_stim_artifacts`, in the unit of the recording's samples.
    max_offset_ms, peak_mode, n_reference_channels, prewindow_ms, warn_offset_ms, multi_peak, multi_peak_select, \
multi_peak_threshold, multi_peak_min_separation_ms
        As in `recenter_stim_times`.

    Returns
    -------
    cleaned : RemoveStimArtifactsRecording
        Serialisable, works in chunks and in several processes. Without events: `recording` itself.
    summary : StimSummary
        Times, offsets, what is blanked, and channels that are not to be trusted.

    Raises
    ------
    ValueError
        The recording has several segments, a time is NaN, or a value is out of range.

    Warns
    -----
    StimulationWarning
        As `recenter_stim_times` and `remove_stim_artifacts`; channels are saturated for more than a fifth of the
        recording.

    Examples
    --------
    >>> from spikelab.simulation import add_stim_artifacts, simulate_recording
    >>> from spikelab.stim_sorting import preprocess_stim_artifacts
    >>> clean = simulate_recording("tetrode", duration_s=1.0, n_units=0).recording
    >>> stimulated = add_stim_artifacts(clean, [200.0, 700.0], offset_ms=-1.5)
    >>> cleaned, summary = preprocess_stim_artifacts(
    ...     stimulated.recording, stimulated.logged_times_ms, peak_mode="down_edge"
    ... )
    >>> summary.times_ms.round(1).tolist()
    [200.0, 700.0]
    >>> bool(abs(cleaned.get_traces(return_in_uV=True)).max() < 60)
    True
    """
    from spikelab.stim_sorting.preprocessing import RemoveStimArtifactsRecording

    reader = RecordingReader(recording)
    logged_ms = checked_times(stim_times_ms)
    alignment = Recentering(
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
    if logged_ms.size == 0:
        warn("there are no stimulation times: the recording stays as it is")
        return recording, _empty_summary(reader.n_channels)
    times_ms = recentered(reader, logged_ms, alignment) if recenter else logged_ms
    cleaned = RemoveStimArtifactsRecording(
        recording,
        times_ms,
        method=method,
        artifact_window_ms=artifact_window_ms,
        saturation_threshold=saturation_threshold,
        baseline_threshold=baseline_threshold,
        poly_order=poly_order,
        artifact_window_only=artifact_window_only,
        poly_clamp_factor=poly_clamp_factor,
    )
    return cleaned, summarise(cleaned, logged_ms, times_ms)


def _empty_summary(n_channels: int) -> StimSummary:
    none, zeros = np.empty(0), np.zeros(n_channels)
    return StimSummary(none, none, none, np.empty((0, 2)), 0.0, zeros, zeros, [])


def summarise(
    cleaned: RemoveStimArtifactsRecording, logged_ms: npt.NDArray[np.float64], times_ms: npt.NDArray[np.float64]
) -> StimSummary:
    """Return the summary of a cleaned recording, event by event."""
    n_samples, fs_Hz = cleaned.get_num_samples(), cleaned.sampling_frequency
    counts, saturated = np.zeros((2, cleaned.get_num_channels()), dtype=np.int64)
    periods: list[tuple[int, int]] = []
    for correction in cleaned.segments[0].corrections():
        start, mask = correction.start, correction.blanked
        counts += mask.sum(axis=1)
        saturated += correction.n_saturated
        # Channels that are stuck never have anything blanked: they do not vote.
        share = mask[~cleaned.levels.stuck].mean(axis=0) if not cleaned.levels.stuck.all() else np.zeros(mask.shape[1])
        periods += _stretches(share >= 0.5, start)
    frac = counts / n_samples
    overloaded = ~cleaned.levels.stuck & (saturated / n_samples > _STILL_SATURATED_FRAC)
    if overloaded.any():
        warn(
            f"{np.count_nonzero(overloaded)} channels are saturated for more than a fifth of the recording, and not to "
            f"be trusted: {named(cleaned.channel_ids[overloaded])}"
        )
    return StimSummary(
        logged_times_ms=logged_ms,
        times_ms=times_ms,
        offsets_ms=times_ms - logged_ms,
        blanked_ms=_merged(periods) / fs_Hz * 1000,
        blanked_frac=float(frac.mean()),
        blanked_frac_per_channel=frac,
        saturation_ms=saturated / max(1, cleaned.times_ms.size) / fs_Hz * 1000,
        saturated_channels=cleaned.channel_ids[cleaned.levels.stuck | overloaded].tolist(),
    )


def _stretches(mask: npt.NDArray[np.bool_], start: int) -> list[tuple[int, int]]:
    """Return begin and end (excluded) of the stretches of true samples."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)) + start
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _merged(periods: list[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """Return sorted periods, those that touch or overlap as one, shape (n_periods, 2)."""
    merged: list[list[float]] = []
    for begin, end in sorted(periods):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return np.asarray(merged, dtype=np.float64).reshape(-1, 2)
