"""The mean waveforms of the largest units as small multiples on one scale."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.plain import finite, to_number
from spikelab.spike_sorting.report.unit_details import template_of
from spikelab.spike_sorting.report.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_UNITS = 12
_N_COLUMNS, _N_NEIGHBOURS = 4, 4
_GREY = "#8b929a"


def template_figure(units: Sequence[Unit], fs_Hz: float, color: str) -> tuple[int, int, dict[str, Any]]:
    """Return how many units are drawn, in how many rows, and the figure."""
    largest = _largest(units)
    n_rows = math.ceil(len(largest) / _N_COLUMNS)
    layout: dict[str, Any] = {"showlegend": False, "annotations": [], "hovermode": "closest"}
    traces: list[dict[str, Any]] = []
    for place, (unit, template) in enumerate(largest):
        traces += _traces(unit, template, place, fs_Hz, color)
        layout |= _axes(place, len(largest), n_rows, _y_range(largest), has_time=fs_Hz > 0)
        layout["annotations"].append(_title(unit, place))
    return len(largest), n_rows, {"data": traces, "layout": layout}


def _largest(units: Sequence[Unit]) -> list[tuple[Unit, NDArray[np.float64]]]:
    """Return the largest units with their templates; those of the others stay in their file."""
    found: list[tuple[Unit, NDArray[np.float64]]] = []
    for unit in sorted(units, key=lambda unit: -abs(finite(unit.value("amplitude_uV")) or 0.0)):
        template = template_of(unit)
        if template is not None:
            found.append((unit, template))
        if len(found) == MAX_UNITS:
            break
    return sorted(found, key=lambda pair: -float(abs(pair[1]).max()))


def _y_range(largest: Sequence[tuple[Unit, NDArray[np.float64]]]) -> list[float]:
    low = min(float(template.min()) for _, template in largest)
    high = max(float(template.max()) for _, template in largest)
    margin = 0.05 * (high - low) or 1.0
    return [low - margin, high + margin]


def _traces(unit: Unit, template: NDArray[np.float64], place: int, fs_Hz: float, color: str) -> list[dict[str, Any]]:
    """Return the lines of one unit: its neighbours first, so that the largest channel lies on top."""
    import numpy as np

    by_reach = np.argsort(-np.ptp(template, axis=0))[: _N_NEIGHBOURS + 1].tolist()
    peak = int(abs(template[:, by_reach[0]]).argmax())
    # Where the peak lies relative to the spike's time is an attribute; without it, the peak is at zero.
    shift = to_number(unit.attributes.get("peak_sample"))
    samples = np.arange(len(template)) - peak + (0 if math.isnan(shift) else shift)
    x = [finite(value, 4) for value in (samples / fs_Hz * 1000 if fs_Hz > 0 else samples)]
    lines = [(channel, _GREY, 1, 0.6) for channel in by_reach[:0:-1]] + [(by_reach[0], color, 2, 1)]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": [finite(value, 4) for value in template[:, channel]],
            "xaxis": _axis("x", place),
            "yaxis": _axis("y", place),
            "line": {"color": line_color, "width": width},
            "opacity": opacity,
            "hovertemplate": "%{x} ms<br>%{y} µV<extra></extra>" if fs_Hz > 0 else "%{y} µV<extra></extra>",
        }
        for channel, line_color, width, opacity in lines
    ]


def _axis(letter: str, place: int, long: str = "") -> str:
    return f"{letter}{long}{place + 1 if place else ''}"


def _axes(place: int, n_units: int, n_rows: int, y_range: list[float], *, has_time: bool) -> dict[str, Any]:
    """Return both axes of one cell; only the outermost carry labels."""
    row, column = divmod(place, _N_COLUMNS)
    is_lowest, is_first = place + _N_COLUMNS >= n_units, column == 0
    width, height = 1 / _N_COLUMNS, 1 / n_rows
    top = 1 - row * height
    x_title = ("time (ms)" if has_time else "sample") if is_lowest else ""
    return {
        _axis("x", place, "axis"): {
            "domain": [column * width + 0.012, (column + 1) * width - 0.012],
            "anchor": _axis("y", place),
            "showticklabels": is_lowest,
            "title": {"text": x_title, "standoff": 4},
            "zeroline": False,
        },
        _axis("y", place, "axis"): {
            "domain": [top - 0.86 * height + 0.02, top - 0.1 * height],
            "anchor": _axis("x", place),
            "showticklabels": is_first,
            "title": {"text": "µV" if is_first else ""},
            "range": y_range,
            "zeroline": False,
            "nticks": 4,
        },
    }


def _title(unit: Unit, place: int) -> dict[str, Any]:
    channel = f" on {unit.channel}" if unit.channel else ""
    return {
        "text": html.escape(f"unit {unit.unit_id}{channel}, {unit.value('amplitude_uV'):.0f} µV"),
        "xref": f"{_axis('x', place)} domain",
        "yref": f"{_axis('y', place)} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }
