"""How each metric is distributed over the units kept and removed, with the thresholds of curation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.metrics import METRICS, Metric
from spikelab.spike_sorting.report.plain import finite
from spikelab.spike_sorting.report.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Groups = Sequence[tuple[str, str, Sequence[Unit]]]
"""Name, colour and units of each group."""

_MAX_BINS = 30
_LINE = "#8b929a"


def histogram_figures(
    groups: Groups, thresholds: Mapping[str, tuple[float, ...]]
) -> Iterator[tuple[Metric, dict[str, Any], int]]:
    """Yield each metric that has values, its histogram, and how many units have none."""
    import numpy as np

    for metric in METRICS:
        # Rounded, because numpy refuses to divide a range of a few rounding errors into bins.
        columns = [np.array([finite(unit.value(metric.name)) for unit in units], dtype=float) for *_, units in groups]
        known = [_on_axis(metric, column) for column in columns]
        if any(values.size for values in known):
            limits = _on_axis(metric, np.array(thresholds.get(metric.name, ()), dtype=float))
            n_unknown = sum(column.size for column in columns) - sum(values.size for values in known)
            yield metric, _figure(metric, groups, known, limits), n_unknown


def _on_axis(metric: Metric, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values that can be drawn; decades are drawn on their logarithm, with ticks of our own."""
    import numpy as np

    known = values[np.isfinite(values)]
    return np.log10(known[known > 0]) if metric.is_log else known


def _figure(
    metric: Metric, groups: Groups, known: Sequence[NDArray[np.float64]], limits: NDArray[np.float64]
) -> dict[str, Any]:
    import numpy as np

    n_units = sum(values.size for values in known)
    n_bins = min(max(8, round(2 * n_units**0.5)), _MAX_BINS)
    drawn = np.concatenate([*known, limits])
    # Around nothing but zeros numpy would put negative values, of which these metrics have none.
    edges = np.histogram_bin_edges(drawn, bins=n_bins, range=None if drawn.any() or metric.is_log else (0, 1))
    counts = [np.histogram(values, edges)[0] for values in known]
    traces = [
        _bars(metric, name, color, heights, edges) for (name, color, _), heights in zip(groups, counts, strict=True)
    ]
    highest = int(sum(counts).max())  # type: ignore[union-attr]  # there is at least one group
    layout = {
        "barmode": "stack",
        "bargap": 0.04,
        "showlegend": False,
        "xaxis": {"zeroline": False, "showgrid": False, **(_log_ticks(edges) if metric.is_log else _ticks(edges))},
        "yaxis": {"title": {"text": "units"}, **({"dtick": 1} if highest <= 4 else {"nticks": 4})},
        "shapes": [_line(value) for value in limits.tolist()],
        "annotations": list(_limit_texts(metric, limits)),
        "margin": {"l": 44, "r": 12, "t": 24, "b": 30},
    }
    return {"data": traces, "layout": layout}


def _bars(metric: Metric, name: str, color: str, counts: Any, edges: NDArray[np.float64]) -> dict[str, Any]:
    ends = 10**edges if metric.is_log else edges
    ranges = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(ends)]
    return {
        "type": "bar",
        "name": name,
        "x": [finite(x) for x in (edges[:-1] + edges[1:]) / 2],
        "y": counts.tolist(),
        "text": [f"{text} {metric.unit}".rstrip() for text in ranges],
        "textposition": "none",
        "hovertemplate": f"%{{text}}<br>%{{y}} units<extra>{name}</extra>",
        "marker": {"color": color, "line": {"width": 0}},
    }


def _ticks(edges: NDArray[np.float64]) -> dict[str, Any]:
    """Return round ticks: plotly would put them at the bars when there are few."""
    import numpy as np

    wanted = float(edges[-1] - edges[0]) / 4
    power = 10.0 ** np.floor(np.log10(wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)
    return {"tick0": 0, "dtick": finite(step), "tickangle": 0}


def _log_ticks(edges: NDArray[np.float64]) -> dict[str, Any]:
    import numpy as np

    low, high = float(edges[0]), float(edges[-1])
    steps = (1, 10) if high - low > 2 else (1, 2, 5)
    candidates = [step * 10.0**decade for decade in range(int(np.floor(low)), int(np.ceil(high)) + 1) for step in steps]
    ticks = sorted({tick for tick in candidates if low <= np.log10(tick) <= high})
    return {"tickvals": [finite(np.log10(tick)) for tick in ticks], "ticktext": [f"{tick:,g}" for tick in ticks]}


def _line(value: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": finite(value),
        "x1": finite(value),
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": _LINE, "width": 1.5, "dash": "dash"},
    }


def _limit_texts(metric: Metric, limits: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """Yield the thresholds as labels; of two near ones, each stands on its own side."""
    sign = "≥" if metric.is_minimum else "≤"
    sides = ["center"] if limits.size == 1 else ["right", *["left"] * (limits.size - 1)]
    for value, side in zip(limits.tolist(), sides, strict=False):
        shown = 10**value if metric.is_log else value
        yield {
            "x": finite(value),
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": side,
            "text": f"{sign} {shown:.3g}",
            "showarrow": False,
        }
