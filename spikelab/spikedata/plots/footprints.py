"""Where on the probe a unit is seen, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata.plots import _canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spikelab.spikedata.spikedata import SpikeData

Floats = npt.NDArray[np.float64]


def plot_unit_footprints(
    sd: SpikeData,
    units: Any = None,
    *,
    min_ptp_uV: float | None = None,
    min_ptp_frac: float = 0.1,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the average waveform of units at the positions of the channels, to scale; each unit in axes of its own.

    Parameters
    ----------
    sd : SpikeData
        Units with the attribute ``avg_waveform`` (channels, samples) or ``template_full`` (samples, channels), in uV,
        and ``metadata["channel_locations"]`` (um), as the pipeline gives them.
    units : int, slice, mask or sequence of int, optional
        Which units, by index; default: all, up to 36.
    min_ptp_uV : float, optional
        Least peak-to-peak amplitude (uV) of a channel that is drawn; default: `min_ptp_frac` of the unit's largest.
    min_ptp_frac : float, default 0.1
        That share. The unit's largest channel is always drawn, highlighted; channels that are not drawn are small
        squares. The title has the largest peak-to-peak amplitude.
    ax : Axes or sequence of Axes, optional
        One for each unit; default: a grid on a new figure.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        When a unit has no waveform, the channels have no positions or others than the waveform, a threshold is
        negative, or there is not one axes for each unit.

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.spikedata import SpikeData
    >>> waveform = np.outer([1.0, 0.5], [0.0, -50.0, 20.0, 0.0])
    >>> where = {"channel_locations": [(0.0, 0.0), (0.0, 20.0)], "fs_Hz": 20_000.0}
    >>> sd = SpikeData([[1.0]], neuron_attributes=[{"avg_waveform": waveform}], metadata=where)
    >>> len(sd.plot_unit_footprints().axes)
    1
    """
    if min_ptp_frac < 0 or (min_ptp_uV or 0.0) < 0:
        msg = f"min_ptp_uV and min_ptp_frac must be zero or more, got {min_ptp_uV} and {min_ptp_frac}"
        raise ValueError(msg)
    shown, remark = _canvas.choose(sd, units)
    locations_um = _locations(shown)
    waveforms = [_waveform(shown, unit, len(locations_um)) for unit in range(shown.N)]
    figure, axes = _canvas.unit_axes(ax, shown.N, 3.0, 3.0)
    for unit, (waveform, axis) in enumerate(zip(waveforms, axes, strict=True)):
        ptp_uV = np.ptp(waveform, axis=1)
        limit_uV = min_ptp_uV if min_ptp_uV is not None else min_ptp_frac * ptp_uV.max(initial=0.0)
        _draw(axis, waveform, locations_um, (ptp_uV >= limit_uV) & (ptp_uV > 0), sd.metadata.get("fs_Hz"))
        _canvas.title(axis, _title(shown, unit, ptp_uV))
    _canvas.remark_on(figure, remark)
    return figure


def _locations(sd: SpikeData) -> Floats:
    stored = sd.metadata.get("channel_locations")
    locations_um = np.asarray([] if stored is None else stored, dtype=np.float64)
    if locations_um.ndim != 2 or locations_um.shape[1] < 2 or not len(locations_um):
        msg = (
            "footprints need metadata['channel_locations'] (um), shape (n_channels, 2), found "
            f"{'none' if stored is None else f'shape {locations_um.shape}'}; give them with sd.replace(metadata=...)"
        )
        raise ValueError(msg)
    return locations_um[:, :2]


def _waveform(sd: SpikeData, unit: int, n_channels: int) -> Floats:
    """Return the average waveform of a unit, shape (channels, samples)."""
    attributes = sd.neuron_attributes[unit]
    stored = attributes.get("avg_waveform")
    if stored is None and attributes.get("template_full") is not None:
        stored = np.asarray(attributes["template_full"]).T
    waveform = np.atleast_2d(np.asarray([] if stored is None else stored, dtype=np.float64))
    if waveform.ndim != 2 or len(waveform) != n_channels or not waveform.shape[1]:
        found = "none" if stored is None else f"shape {waveform.shape}"
        msg = (
            f"unit {_canvas.unit_name(sd, unit)} must have the attribute 'avg_waveform' of shape ({n_channels}, "
            f"samples), one row for each of metadata['channel_locations'], found {found}; set it with "
            "sd.set_neuron_attribute"
        )
        raise ValueError(msg)
    return waveform


def _title(sd: SpikeData, unit: int, ptp_uV: Floats) -> str:
    name = sd.neuron_attributes[unit].get("channel_id", int(ptp_uV.argmax()))
    return f"unit {_canvas.unit_name(sd, unit)}, ch. {name}, {ptp_uV.max():.0f} µV"


def _draw(ax: Axes, waveform: Floats, locations_um: Floats, is_drawn: Any, fs_Hz: float | None) -> None:
    """Draw the waveforms where their channels are, in um; the tallest fills the distance of two channels."""
    pitch_x_um, pitch_y_um = _pitch(locations_um)
    ptp_uV = np.ptp(waveform, axis=1)
    largest = int(ptp_uV.argmax())
    drawn = np.flatnonzero(is_drawn)
    um_per_uV = 1.3 * pitch_y_um / ptp_uV[largest] if ptp_uV[largest] > 0 else 0.0
    width_um = 0.85 * pitch_x_um
    time_um = np.linspace(-width_um / 2, width_um / 2, waveform.shape[1])
    others = locations_um[~is_drawn]
    ax.plot(others[:, 0], others[:, 1], "s", ms=2, color=_canvas.PALE, zorder=0)
    for channel in drawn.tolist():
        x_um, y_um = locations_um[channel]
        is_largest = channel == largest
        color, width = (_canvas.ORANGE, 1.6) if is_largest else (_canvas.BLUE, 1.0)
        ax.plot(x_um + time_um, y_um + waveform[channel] * um_per_uV, color=color, lw=width, zorder=2 + is_largest)
    near = locations_um[drawn] if drawn.size else locations_um
    margin_um = np.array([pitch_x_um, 1.6 * pitch_y_um])
    low, high = near.min(axis=0) - margin_um, near.max(axis=0) + margin_um
    low[1] -= 0.6 * pitch_y_um
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.set_xlabel("x (µm)", fontsize=8)
    ax.set_ylabel("y (µm)", fontsize=8)
    _canvas.tidy(ax)
    _scale_bars(ax, (um_per_uV, ptp_uV[largest]), width_um / max(waveform.shape[1] - 1, 1), fs_Hz)


def _pitch(locations_um: Floats) -> tuple[float, float]:
    """Return the distances of neighbouring columns and rows; of a single one, that of the other."""
    gaps = []
    for axis in (0, 1):
        steps = np.diff(np.unique(np.round(locations_um[:, axis], 3)))
        gaps.append(float(np.median(steps)) if steps.size else np.nan)
    known = [gap for gap in gaps if np.isfinite(gap)]
    x_um, y_um = (gap if np.isfinite(gap) else (known[0] if known else 20.0) for gap in gaps)
    return x_um, y_um


def _scale_bars(ax: Axes, scale: tuple[float, float], um_per_sample: float, fs_Hz: float | None) -> None:
    """Draw how much a millisecond and some microvolts are, at the lower left."""
    um_per_uV, largest_uV = scale
    if um_per_uV <= 0:
        return
    bar_uV = _round_number(largest_uV / 2)
    x_um, y_um = ax.get_xlim()[0], ax.get_ylim()[0]
    x_um += 0.04 * (ax.get_xlim()[1] - x_um)
    y_um += 0.04 * (ax.get_ylim()[1] - y_um)
    ax.plot([x_um, x_um], [y_um, y_um + bar_uV * um_per_uV], color=_canvas.DARK, lw=1.5)
    label = f"{bar_uV:g} µV"
    if fs_Hz:
        ax.plot([x_um, x_um + um_per_sample * fs_Hz / 1000.0], [y_um, y_um], color=_canvas.DARK, lw=1.5)
        label += ", 1 ms"
    ax.annotate(label, (x_um, y_um), xytext=(3, 3), textcoords="offset points", fontsize=7, color=_canvas.DARK)


def _round_number(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is not above the value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (5, 2, 1) if step * power <= value * (1 + 1e-9)))
