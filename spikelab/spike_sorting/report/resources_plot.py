"""Memory, processors, GPU and disk while a recording was sorted, with the limits that would have stopped it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.report.plain import finite

Rows = Sequence[dict[str, float | None]]

_GREY = "#8b929a"
_LIMIT = "#D55E00"
_COLORS = ("#0072B2", "#CC79A7")
_DASHES = ("solid", "dot")
"""Two lines of a panel differ in more than their colour."""


@dataclass(frozen=True)
class Panel:
    """Readings of one kind over one another.

    Parameters
    ----------
    title : str
        What is measured, with its unit.
    lines : tuple of (str, str)
        Column of the curve, and how it is called.
    limit : float or None
        What stops a recording.
    top : float or None
        Largest value there is; None for what is measured.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    limit: float | None = None
    top: float | None = None


def resources_figure(rows: Rows, execution: ExecutionConfig) -> tuple[int, dict[str, Any]]:
    """Return how many panels are drawn, and the figure; panels of which nothing was measured are left out."""
    panels = [panel for panel in _panels(execution) if any(_known(rows, column) for column, _ in panel.lines)]
    longest_s = max((row["elapsed_s"] or 0.0 for row in rows), default=0.0)
    per_unit, unit = (60.0, "min") if longest_s > 600 else (1.0, "s")
    x = [finite((row["elapsed_s"] or 0.0) / per_unit, 5) for row in rows]
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": f"time of work ({unit})"},
            "zeroline": False,
            "anchor": _axis("y", len(panels) - 1),
        },
        "showlegend": False,
        "hovermode": "x unified",
        "shapes": [],
        "annotations": [],
        "margin": {"l": 76, "r": 14, "t": 22, "b": 46},
    }
    traces: list[dict[str, Any]] = []
    for place, panel in enumerate(panels):
        traces += _traces(panel, rows, x, place)
        layout |= _place(panel, place, len(panels))
        layout["annotations"] += _names(panel, rows, place)
        if panel.limit is not None:
            layout["shapes"].append(_limit_line(panel.limit, place))
            layout["annotations"].append(_limit_text(panel.limit, place))
    return len(panels), {"data": traces, "layout": layout}


def _panels(execution: ExecutionConfig) -> Iterator[Panel]:
    memory = execution.host_ram_abort_pct if execution.host_ram_watchdog else None
    gpu = execution.gpu_abort_pct if execution.gpu_watchdog else None
    heat = execution.gpu_abort_temp_c if execution.gpu_watchdog else None
    disk = execution.disk_abort_free_gb if execution.disk_watchdog else None
    yield Panel("memory (%)", (("host_ram_pct", "of the machine"),), memory, 100)
    yield Panel("this run (GB)", (("run_ram_gb", "memory"), ("gpu_own_gb", "GPU memory")))
    yield Panel("cores", (("run_cpu_cores", "this run"),))
    yield Panel("GPU (%)", (("gpu_used_pct", "memory"), ("gpu_util_pct", "at work")), gpu, 100)
    yield Panel("GPU (°C)", (("gpu_temp_c", "temperature"),), heat)
    disks = (("disk_free_inter_gb", "intermediate files"), ("disk_free_results_gb", "results"))
    yield Panel("free disk (GB)", disks, disk)


def _known(rows: Rows, column: str) -> list[float]:
    return [value for row in rows if (value := row.get(column)) is not None]


def _shown(panel: Panel, rows: Rows) -> list[tuple[str, str]]:
    """Return the lines that are drawn: one of two that are the same, as of two folders on one disk."""
    known = [(column, name) for column, name in panel.lines if _known(rows, column)]
    if len(known) == 2 and _known(rows, known[0][0]) == _known(rows, known[1][0]):
        return [(known[0][0], "")]
    return known


def _traces(panel: Panel, rows: Rows, x: list[float | None], place: int) -> Iterator[dict[str, Any]]:
    for number, (column, name) in enumerate(_shown(panel, rows)):
        yield {
            "type": "scatter",
            "mode": "lines",
            "name": f"{panel.title} {name}".strip(),
            "x": x,
            "y": [finite(row.get(column), 4) for row in rows],
            "yaxis": _axis("y", place),
            "line": {"color": _COLORS[number], "width": 1.8, "dash": _DASHES[number]},
            "connectgaps": False,
        }


def _axis(letter: str, place: int, long: str = "") -> str:
    return f"{letter}{long}{place + 1 if place else ''}"


def _place(panel: Panel, place: int, n_panels: int) -> dict[str, Any]:
    height = 1 / n_panels
    top = 1 - place * height
    return {
        _axis("y", place, "axis"): {
            "domain": [max(0.0, top - 0.76 * height), top],
            "title": {"text": panel.title},
            "range": [0, panel.top] if panel.top is not None else None,
            "rangemode": "tozero",
            "zeroline": False,
            "nticks": 4,
        }
    }


def _names(panel: Panel, rows: Rows, place: int) -> Iterator[dict[str, Any]]:
    """Name the lines in their own colours, where there are two."""
    shown = _shown(panel, rows)
    if len(shown) < 2:
        return
    marks = ("\N{EM DASH}", "\N{MIDDLE DOT}\N{MIDDLE DOT}\N{MIDDLE DOT}")
    words = (f'<span style="color:{_COLORS[n]}">{marks[n]}</span> {name}' for n, (_, name) in enumerate(shown))
    yield {
        "text": "   ".join(words),
        "xref": "paper",
        "yref": f"{_axis('y', place)} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }


def _limit_line(limit: float, place: int) -> dict[str, Any]:
    line = {"color": _LIMIT, "width": 1.5, "dash": "dash"}
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": _axis("y", place),
        "y0": limit,
        "y1": limit,
        "line": line,
    }


def _limit_text(limit: float, place: int) -> dict[str, Any]:
    return {
        "text": f"stops at {limit:g}",
        "xref": "paper",
        "yref": _axis("y", place),
        "x": 0.005,
        "y": limit,
        "xanchor": "left",
        "yanchor": "top" if limit > 50 else "bottom",
        "showarrow": False,
    }
