"""What to look at after artifacts were removed: pulses before and after, what is left, saturation, offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from spikeinterface.core import BaseRecording

    from spikelab.stim_sorting.summary import StimSummary

_N_CHANNELS, _N_OVERLAID, _N_EVENTS = 4, 6, 60
_BEFORE_MS, _AFTER_MS = 2.0, 25.0
_LEAST_OFFSET_MS = 0.1


def picture_data(recording: BaseRecording, cleaned: BaseRecording, summary: StimSummary) -> dict[str, Any]:
    """Return what the pictures show, as plain values (uV, ms, um); voltages of channels that are numbers throughout.

    Parameters
    ----------
    recording : BaseRecording
        With artifacts.
    cleaned : BaseRecording
        Without them, from `preprocess_stim_artifacts`.
    summary : StimSummary
        What that call returned.
    """
    windows = _windows(recording, summary.times_ms)
    good = _with_numbers(recording, windows)
    before, after = (_read_uV(one, windows, good) for one in (recording, cleaned))
    per_ms = recording.sampling_frequency / 1000
    times_ms = np.arange(before.shape[1] if before.ndim == 3 else 0) / per_ms - _BEFORE_MS
    # Where nothing clips, or as much everywhere, those that are blanked longest.
    shown = np.lexsort((-summary.blanked_frac_per_channel[good], -summary.saturation_ms[good]))[:_N_CHANNELS]
    overlaid = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), _N_OVERLAID)).astype(np.intp))
    has_places = recording.has_probe()
    return {
        "times_ms": times_ms.round(4).tolist(),
        "channels": [str(channel) for channel in recording.channel_ids[good[shown]]],
        "before_uV": _chosen(before, overlaid, shown),
        "after_uV": _chosen(after, overlaid, shown),
        "residual_before_uV": _rms_by_latency(before),
        "residual_after_uV": _rms_by_latency(after),
        "locations_um": recording.get_channel_locations().round(2).tolist() if has_places else [],
        "saturation_ms": summary.saturation_ms.round(4).tolist(),
        "logged_times_ms": summary.logged_times_ms.tolist(),
        "offsets_ms": summary.offsets_ms.round(5).tolist(),
    }


def _windows(recording: BaseRecording, times_ms: Floats) -> list[tuple[int, int]]:
    """Return the windows around a sample of the events, those that lie within the recording."""
    per_ms = recording.sampling_frequency / 1000
    starts = np.rint((np.sort(times_ms) - _BEFORE_MS) * per_ms).astype(np.int64)
    length = round((_BEFORE_MS + _AFTER_MS) * per_ms)
    starts = starts[(starts >= 0) & (starts + length <= recording.get_num_samples())]
    chosen = np.unique(np.linspace(0, starts.size - 1, min(starts.size, _N_EVENTS)).astype(np.intp))
    return [(int(start), int(start) + length) for start in starts[chosen]]


def _with_numbers(recording: BaseRecording, windows: list[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """Return the channels that are numbers in all windows: others have no RMS that JSON could hold."""
    finite = np.ones(recording.get_num_channels(), dtype=bool)
    for start, end in windows:
        finite &= np.isfinite(recording.get_traces(start_frame=start, end_frame=end)).all(axis=0)
    return np.flatnonzero(finite)


def _read_uV(
    recording: BaseRecording, windows: list[tuple[int, int]], channels: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """Return the windows, (events, samples, channels), around what lies before the events; flat if there is nothing."""
    if channels.size == 0:
        return np.empty(0, dtype=np.float32)
    scaled, wanted = recording.has_scaleable_traces(), recording.channel_ids[channels]
    read = [
        recording.get_traces(start_frame=start, end_frame=end, channel_ids=wanted, return_in_uV=scaled)
        for start, end in windows
    ]
    traces = np.array(read, dtype=np.float32)
    if traces.ndim == 3:
        before = traces[:, : max(1, round(0.6 * _BEFORE_MS * recording.sampling_frequency / 1000))]
        # One level for all events: the level of each by itself would move the blanked samples with its noise.
        traces -= np.median(before, axis=(0, 1))
    return traces


def _chosen(traces: Floats, events: npt.NDArray[np.intp], channels: npt.NDArray[np.intp]) -> list[Any]:
    """Return traces of some channels and events, (channels, events, samples)."""
    if traces.ndim != 3:
        return [[] for _ in channels]
    picked: list[Any] = traces[events][:, :, channels].transpose(2, 0, 1).round(1).tolist()
    return picked


def _rms_by_latency(traces: Floats) -> list[float]:
    """Return the median over channels of the RMS over events, at each latency."""
    if traces.ndim != 3:
        return []
    values: list[float] = np.median(np.sqrt((traces**2).mean(axis=0)), axis=1).round(2).tolist()
    return values


def offset_limits(offsets_ms: list[float]) -> tuple[float, float]:
    """Return the ends of the axis of offsets (ms): around all of them, and never within a sample or two."""
    low, high = (min(offsets_ms), max(offsets_ms)) if offsets_ms else (0.0, 0.0)
    margin = max(0.1 * (high - low), _LEAST_OFFSET_MS)
    return low - margin, high + margin


def plot_stim_artifacts(recording: BaseRecording, cleaned: BaseRecording, summary: StimSummary) -> Figure:
    """Return a figure of what artifact removal did; ``figure.savefig(path)`` writes it.

    It shows pulses before and after on the channels that are saturated longest, what is left by latency, how long each
    channel of the array is saturated in an event, and the offsets of the logged times.

    Parameters
    ----------
    recording : BaseRecording
        With artifacts.
    cleaned : BaseRecording
        Without them, from `preprocess_stim_artifacts`.
    summary : StimSummary
        What that call returned.

    Examples
    --------
    >>> from spikelab.simulation import add_stim_artifacts, simulate_recording
    >>> from spikelab.stim_sorting import plot_stim_artifacts, preprocess_stim_artifacts
    >>> clean = simulate_recording("tetrode", duration_s=1.0).recording
    >>> stimulated = add_stim_artifacts(clean, [200.0, 700.0])
    >>> cleaned, summary = preprocess_stim_artifacts(
    ...     stimulated.recording, stimulated.logged_times_ms, peak_mode="down_edge"
    ... )
    >>> figure = plot_stim_artifacts(stimulated.recording, cleaned, summary)
    >>> len(figure.axes) >= 6
    True
    """
    from matplotlib.figure import Figure

    data = picture_data(recording, cleaned, summary)
    figure = Figure(figsize=(12, 9), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(2, 1.2))
    upper, lower = halves
    # Events overlap within a channel; one scale for all channels lets them be compared.
    grid = upper.subplots(2, max(1, len(data["channels"])), sharex=True, sharey="row", squeeze=False)
    for column, channel in enumerate(data["channels"]):
        _overlay(grid[0, column], grid[1, column], data, column)
        grid[0, column].set_title(f"channel {channel}", fontsize=10)
    upper.align_ylabels(grid[:, 0])
    residual, places, offsets = lower.subplots(1, 3, width_ratios=(1.6, 1.2, 1.2))
    _residual(residual, data)
    _saturation_map(places, data, lower)
    _offsets(offsets, data)
    return figure


def _overlay(above: Axes, below: Axes, data: dict[str, Any], column: int) -> None:
    for before, after in zip(data["before_uV"][column], data["after_uV"][column], strict=True):
        above.plot(data["times_ms"], np.asarray(before) / 1000, color="#8b929a", lw=0.8)
        below.plot(data["times_ms"], after, color="#0072B2", lw=0.6, alpha=0.6)
    for axes, label in ((above, "before (mV)"), (below, "after (µV)")):
        axes.spines[["top", "right"]].set_visible(False)
        if column == 0:
            axes.set_ylabel(label)
    above.tick_params(labelbottom=False)
    below.set_xlabel("after the event (ms)")


def _residual(axes: Axes, data: dict[str, Any]) -> None:
    axes.semilogy(data["times_ms"], np.maximum(data["residual_before_uV"], 0.1), color="#8b929a", label="before")
    axes.semilogy(data["times_ms"], np.maximum(data["residual_after_uV"], 0.1), color="#0072B2", label="after")
    axes.set(xlabel="after the event (ms)", ylabel="RMS over events (µV)", title="What is left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _saturation_map(axes: Axes, data: dict[str, Any], figure: SubFigure) -> None:
    axes.set_title("Saturated in an event (ms)")
    if not data["locations_um"]:
        axes.plot(data["saturation_ms"], ".", color="#0072B2")
        axes.set(xlabel="channel")
        return
    x, y = np.asarray(data["locations_um"]).T[:2]
    longest_ms = max(data["saturation_ms"]) or 1.0
    drawn = axes.scatter(x, y, c=data["saturation_ms"], s=28, marker="s", cmap="viridis", vmin=0, vmax=longest_ms)
    axes.set(xlabel="x (µm)", ylabel="y (µm)", aspect="equal")
    axes.margins(0.15)
    # As high as the array, whatever its shape.
    figure.colorbar(drawn, cax=axes.inset_axes((1.04, 0.0, 0.04, 1.0)))


def _offsets(axes: Axes, data: dict[str, Any]) -> None:
    axes.plot(np.asarray(data["logged_times_ms"]) / 1000, data["offsets_ms"], ".", color="#D55E00", ms=4)
    axes.set(xlabel="logged time (s)", ylabel="true - logged (ms)", title="Offsets of logged times")
    axes.set_ylim(offset_limits(data["offsets_ms"]))
    axes.ticklabel_format(useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)
