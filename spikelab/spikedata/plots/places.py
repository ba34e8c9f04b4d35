"""Where units are on the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.spikedata.plots import _canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from spikelab.spikedata.spikedata import SpikeData

_LEAST_ROOM_UM = 30.0
_MAX_NAMES = 60


def plot_unit_locations(
    sd: SpikeData, units: Any = None, *, color_by: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw units where they are, beside the channels, to scale.

    Parameters
    ----------
    sd : SpikeData
        Units with ``position`` or ``x`` and ``y`` (um); the channels are those of
        ``metadata["channel_locations"]``. The area of a unit is its ``amplitude`` where all units have one.
    units : int, slice, mask or sequence of int, optional
        Which units, by index; default: all. Names are written beside up to 60 units.
    color_by : str, optional
        Numeric attribute that the colour shows, such as "snr"; default: one colour.
    ax : Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        When no unit has a position, or units lack the attribute `color_by`.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0]], neuron_attributes=[{"position": (10.0, 30.0)}])
    >>> sd.plot_unit_locations().get_xlabel()
    'x (µm)'
    """
    shown = sd if units is None else sd.subset(units)
    positions_um = shown.unit_locations
    if shown.N and not np.isfinite(positions_um).any():
        msg = (
            "no unit has a place: set the attribute 'position' (x, y in um) with "
            "sd.set_neuron_attribute('position', positions)"
        )
        raise ValueError(msg)
    colors = None if color_by is None else np.asarray(shown.get_neuron_attribute(color_by), dtype=np.float64)
    contacts_um = np.asarray(sd.metadata.get("channel_locations", np.zeros((0, 2))), dtype=np.float64).reshape(-1, 2)
    known_um = np.concatenate([contacts_um, positions_um])
    axes = _canvas.new_axes(ax, *_size(known_um))
    axes.plot(contacts_um[:, 0], contacts_um[:, 1], "s", ms=3, color=_canvas.PALE, label="channels", zorder=0)
    points = axes.scatter(
        positions_um[:, 0], positions_um[:, 1], s=_areas(shown), c=_canvas.BLUE if colors is None else colors,
        cmap=None if colors is None else "cividis", alpha=0.8, edgecolors="white", linewidths=0.6, zorder=2,
    )  # fmt: skip
    if colors is not None:
        _canvas.figure_of(axes).colorbar(points, ax=axes, label=color_by, shrink=0.7)
    if shown.N <= _MAX_NAMES:
        for unit in np.flatnonzero(np.isfinite(positions_um).all(axis=1)).tolist():
            axes.annotate(
                _canvas.unit_name(shown, unit), positions_um[unit], xytext=(3, 3), textcoords="offset points",
                fontsize=7, color=_canvas.DARK,
            )  # fmt: skip
    _leave_room(axes, known_um[np.isfinite(known_um).all(axis=1)])
    axes.set_aspect("equal")
    axes.set_xlabel("x (µm)")
    axes.set_ylabel("y (µm)")
    _canvas.tidy(axes)
    return axes


def _leave_room(axes: Axes, points_um: Any) -> None:
    """Set limits around the points, wide enough to be seen where all of them are in one column or row."""
    if len(points_um):
        low, high = points_um.min(axis=0), points_um.max(axis=0)
        room = np.maximum(0.12 * (high - low), _LEAST_ROOM_UM)
        axes.set_xlim(low[0] - room[0], high[0] + room[0])
        axes.set_ylim(low[1] - room[1], high[1] + room[1])


def _size(points_um: Any) -> tuple[float, float]:
    """Return width and height (inches) that suit how far the points spread."""
    spread = np.ptp(points_um[np.isfinite(points_um).all(axis=1)], axis=0) if len(points_um) else np.ones(2)
    ratio = float(np.clip((spread[0] + 60.0) / (spread[1] + 60.0), 0.35, 2.0))
    return (5.5 * ratio + 0.8, 6.0) if ratio < 1 else (6.3, 5.5 / ratio + 0.6)


def _areas(sd: SpikeData) -> Any:
    amplitudes = np.array([attributes.get("amplitude") or np.nan for attributes in sd.neuron_attributes], dtype=float)
    if not sd.N or not np.isfinite(amplitudes).all():
        return 40.0
    return 15.0 + 105.0 * np.abs(amplitudes) / max(np.abs(amplitudes).max(), 1e-9)
