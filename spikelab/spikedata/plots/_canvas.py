"""What all pictures share: colours that everybody can tell apart, a grid of axes, titles of units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spikelab.spikedata.spikedata import SpikeData

BLUE, ORANGE = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito, which differ for all kinds of colour vision."""
DARK, GREY, PALE, LIGHT = "#30353b", "#8b929a", "#b4bac1", "#d5d9de"

MAX_UNITS = 36
"""Units in one picture when none are chosen: more would be too small to see."""


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes given, or new ones on a figure of their own (inches)."""
    return ax if ax is not None else new_figure(width, height).add_subplot()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that pyplot does not know of (inches)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def unit_axes(
    ax: Axes | Sequence[Axes] | None, n_units: int, width: float, height: float, *, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return one axes for each unit: those given, or a grid of new ones (inches each), and their figure.

    Raises
    ------
    ValueError
        When other than one axes for each unit are given.
    """
    if ax is not None:
        axes = list(np.ravel(np.array(ax, dtype=object)))
        if len(axes) != n_units or not axes:
            msg = f"ax must be one axes for each of the {n_units} units, got {len(axes)}; leave it out for a new figure"
            raise ValueError(msg)
        return figure_of(axes[0]), axes
    n_columns = max(math.ceil(math.sqrt(n_units * height / width)), 1)
    n_columns = min(n_columns, max(n_units, 1))
    n_rows = max(math.ceil(n_units / n_columns), 1)
    figure = new_figure(max(width * n_columns, 4.0), height * n_rows + 0.4)
    if not n_units:
        nothing(figure.add_subplot(), "no units")
        return figure, []
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=sharex).ravel().tolist()
    for unused in grid[n_units:]:
        unused.set_axis_off()
    return figure, grid[:n_units]


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are on, also those in a part of it."""
    figure: Any = ax.get_figure(root=True)
    return figure  # type: ignore[no-any-return]


def nothing(ax: Axes, why: str) -> None:
    """Say on empty axes why they are empty."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.set_xticks([])
    ax.set_yticks([])


def choose(sd: SpikeData, units: Any) -> tuple[SpikeData, str]:
    """Return the units to draw, and a remark where not all are drawn.

    Parameters
    ----------
    sd : SpikeData
        The units.
    units : int, slice, sequence or None
        As :meth:`SpikeData.subset` takes them; None: all, but not too many.
    """
    if units is not None:
        return sd.subset(units), ""
    if sd.N <= MAX_UNITS:
        return sd, ""
    return sd.subset(slice(MAX_UNITS)), f"the first {MAX_UNITS} of {sd.N} units; choose others with units=..."


def remark_on(figure: Figure, remark: str) -> None:
    """Write a remark above all axes."""
    if remark:
        figure.suptitle(remark, fontsize=10, color=GREY)


def unit_name(sd: SpikeData, unit: int) -> str:
    """Return what a unit is called: its id, else its index."""
    return str(sd.neuron_attributes[unit].get("unit_id", unit))


def title(ax: Axes, text: str) -> None:
    """Write a small title at the left."""
    ax.set_title(text, fontsize=9, loc="left", color=DARK)


def tidy(ax: Axes) -> None:
    """Leave out the frame where there are no ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
