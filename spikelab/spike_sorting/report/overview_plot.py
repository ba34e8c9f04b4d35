"""Single spikes by time and depth, and the drift that the sorter has corrected, over one axis of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.plain import finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spike_sorting.backends.overview import Overview

_MAX_POINTS = 1000
"""Points of one trace of drift: there are no more pixels."""
_LEAST_RANGE_UM = 10.0
"""Drift of less than this is drawn flat: it matters to no unit."""
_COLORS = ((139, 146, 154), (0, 138, 200), (165, 75, 190), (240, 110, 0))
"""Colours from the smallest to the largest, all of which stand out from white and from black."""


def overview_figure(overview: Overview, to_time: float, time_unit: str) -> dict[str, Any]:
    """Return the figure; time is multiplied by `to_time` to be in `time_unit`."""
    traces = [_spikes(overview, to_time)]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": f"time ({time_unit})"}, "zeroline": False},
        "yaxis": {"title": {"text": "y of the spike (µm)"}, "zeroline": False},
        "hovermode": "closest",
        "showlegend": False,
        "margin": {"l": 68, "r": 14, "t": 12, "b": 46},
    }
    if overview.drift_um.size:
        traces += _drift(overview, to_time)
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis"]["domain"] = [0.36, 1.0]
        layout["yaxis2"] = {
            "title": {"text": "drift (µm)"},
            "domain": [0.0, 0.28],
            "zeroline": False,
            "range": _drift_range(overview.drift_um),
        }
    return {"data": traces, "layout": layout}


def _spikes(overview: Overview, to_time: float) -> dict[str, Any]:
    import numpy as np

    # What is drawn last lies on top: large spikes are the fewest.
    order = np.argsort(overview.amplitude, kind="stable")
    amplitudes = overview.amplitude[order]
    low, high = np.nanpercentile(amplitudes, (2, 98)) if np.isfinite(amplitudes).any() else (0.0, 1.0)
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": "spikes",
        "x": [finite(time * to_time) for time in overview.time_s[order]],
        "y": [finite(depth, 5) for depth in overview.depth_um[order]],
        "hovertemplate": "y = %{y} µm<br>amplitude %{marker.color:.3g}<extra></extra>",
        "marker": {
            "size": 3,
            "color": [finite(amplitude, 4) for amplitude in amplitudes],
            "colorscale": [[place, _rgb(place)] for place in (0.0, 1 / 3, 2 / 3, 1.0)],
            "cmin": finite(low),
            "cmax": finite(high),
            "showscale": True,
            "colorbar": {
                "title": {"text": "amplitude", "side": "right"},
                "thickness": 10,
                "outlinewidth": 0,
                "nticks": 5,
                **({"len": 0.66, "y": 0.68} if overview.drift_um.size else {}),
            },
        },
    }


def _drift(overview: Overview, to_time: float) -> Iterator[dict[str, Any]]:
    step = -(-len(overview.drift_time_s) // _MAX_POINTS)
    times = [finite(time * to_time) for time in overview.drift_time_s[::step]]
    n_depths = len(overview.drift_depth_um)
    for block, depth_um in enumerate(overview.drift_depth_um.tolist()):
        yield {
            "type": "scatter",
            "mode": "lines",
            "name": f"{depth_um:.0f} µm",
            "x": times,
            "y": [finite(drift, 4) for drift in overview.drift_um[::step, block]],
            "yaxis": "y2",
            "hovertemplate": f"%{{y}} µm<extra>at y = {depth_um:.0f} µm</extra>",
            "line": {"width": 1.5, "color": _rgb(block / (n_depths - 1) if n_depths > 1 else 1 / 3)},
        }


def _drift_range(drift_um: NDArray[np.float32]) -> list[float | None]:
    import numpy as np

    known = drift_um[np.isfinite(drift_um)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    margin = max(0.08 * (high - low), (_LEAST_RANGE_UM - (high - low)) / 2)
    return [finite(low - margin), finite(high + margin)]


def _rgb(place: float) -> str:
    """Return the colour at `place` (0-1) on the way from the first colour to the last."""
    index = min(int(place * (len(_COLORS) - 1)), len(_COLORS) - 2)
    share = place * (len(_COLORS) - 1) - index
    mixed = (round(a + share * (b - a)) for a, b in zip(_COLORS[index], _COLORS[index + 1], strict=True))
    return f"rgb({', '.join(map(str, mixed))})"
