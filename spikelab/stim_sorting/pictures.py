"""What to look at after artifacts were removed: pulses before and after, what is left, saturation, offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spikeinterface.core import BaseRecording

    from spikelab.stim_sorting.summary import StimSummary

_N_CHANNELS, _N_OVERLAID, _N_EVENTS = 4, 6, 60
_BEFORE_MS, _AFTER_MS = 2.0, 25.0


def picture_data(recording: BaseRecording, cleaned: BaseRecording, summary: StimSummary) -> dict[str, Any]:
    """Return what the pictures show, as plain values (uV, ms, um).

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
    before, after = (np.array([_read_uV(one, *window) for window in windows]) for one in (recording, cleaned))
    per_ms = recording.sampling_frequency / 1000
    times_ms = np.arange(before.shape[1] if before.ndim == 3 else 0) / per_ms - _BEFORE_MS
    channels = np.argsort(-summary.saturation_ms, kind="stable")[:_N_CHANNELS]
    overlaid = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), _N_OVERLAID)).astype(np.intp))
    has_places = recording.has_probe()
    return {
        "times_ms": times_ms.round(4).tolist(),
        "channels": [str(channel) for channel in recording.channel_ids[channels]],
        "before_uV": _chosen(before, overlaid, channels),
        "after_uV": _chosen(after, overlaid, channels),
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


def _read_uV(recording: BaseRecording, start: int, end: int) -> npt.NDArray[np.float32]:
    scaled = recording.has_scaleable_traces()
    traces = recording.get_traces(start_frame=start, end_frame=end, return_in_uV=scaled).astype(np.float32)
    before = traces[: max(1, round(0.6 * _BEFORE_MS * recording.sampling_frequency / 1000))]
    around_zero: npt.NDArray[np.float32] = traces - np.median(before, axis=0)
    return around_zero


def _chosen(traces: Floats, events: npt.NDArray[np.intp], channels: npt.NDArray[np.intp]) -> list[Any]:
    """Return traces of some channels and events, (channels, events, samples)."""
    if traces.ndim != 3:
        return []
    picked: list[Any] = traces[events][:, :, channels].transpose(2, 0, 1).round(1).tolist()
    return picked


def _rms_by_latency(traces: Floats) -> list[float]:
    """Return the median over channels of the RMS over events, at each latency."""
    if traces.ndim != 3:
        return []
    values: list[float] = np.median(np.sqrt((traces**2).mean(axis=0)), axis=1).round(2).tolist()
    return values


def plot_stim_artifacts(recording: BaseRecording, cleaned: BaseRecording, summary: StimSummary) -> Figure:
    """Return a figure of what artifact removal did; ``figure.savefig(path)`` writes it.

    It shows pulses before and after on the channels that are blanked longest, what is left by latency, how long each
    channel of the array is blanked in an event, and the offsets of the logged times.

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
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.2))
    for column, channel in enumerate(data["channels"]):
        above = figure.add_subplot(grid[0, column])
        below = figure.add_subplot(grid[1, column], sharex=above)
        _overlay(above, below, data, column)
        above.set_title(f"channel {channel}", fontsize=10)
    _residual(figure.add_subplot(grid[2, :2]), data)
    _saturation_map(figure.add_subplot(grid[2, 2]), data, figure)
    _offsets(figure.add_subplot(grid[2, 3]), data)
    return figure


def _overlay(above: Axes, below: Axes, data: dict[str, Any], column: int) -> None:
    for before, after in zip(data["before_uV"][column], data["after_uV"][column], strict=True):
        above.plot(data["times_ms"], np.asarray(before) / 1000, color="#8b929a", lw=0.7)
        below.plot(data["times_ms"], after, color="#0072B2", lw=0.7)
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


def _saturation_map(axes: Axes, data: dict[str, Any], figure: Figure) -> None:
    axes.set_title("Blanked in an event (ms)")
    if not data["locations_um"]:
        axes.plot(data["saturation_ms"], ".", color="#0072B2")
        axes.set(xlabel="channel")
        return
    x, y = np.asarray(data["locations_um"]).T[:2]
    drawn = axes.scatter(x, y, c=data["saturation_ms"], s=28, marker="s", cmap="viridis", vmin=0)
    axes.set(xlabel="x (µm)", ylabel="y (µm)", aspect="equal")
    axes.margins(0.15)
    figure.colorbar(drawn, ax=axes, shrink=0.8)


def _offsets(axes: Axes, data: dict[str, Any]) -> None:
    axes.plot(np.asarray(data["logged_times_ms"]) / 1000, data["offsets_ms"], ".", color="#D55E00", ms=4)
    axes.set(xlabel="logged time (s)", ylabel="true - logged (ms)", title="Offsets of the logged times")
    axes.spines[["top", "right"]].set_visible(False)
