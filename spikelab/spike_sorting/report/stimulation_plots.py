"""Stimulation on the page: how units answer, and what became of the artifacts."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.plain import finite

if TYPE_CHECKING:
    from spikelab.spike_sorting.report.units import Unit

Figure = dict[str, Any]
_BEFORE, _AFTER = "#8b929a", "#0072B2"
_BASE: dict[str, Any] = {"hovermode": "closest", "margin": {"l": 68, "r": 14, "t": 24, "b": 46}}


def psth_figure(units: Sequence[Unit], metadata: Mapping[str, Any]) -> tuple[int, Figure]:
    """Return how many units are shown, and how each fires around the events."""
    import numpy as np

    from spikelab.spikedata import SpikeData
    from spikelab.stim_sorting.aligned import peri_stimulus_histogram

    shown = [unit for unit in units if unit.train_ms is not None]
    times_ms = metadata.get("stim_times_ms", ())
    if not shown or not len(times_ms):
        return 0, {}
    length_ms = 1000.0 * metadata["n_samples"] / metadata["fs_Hz"]
    seen = {name: metadata.get(name, ()) for name in ("blanked_ms", "rec_chunks_ms")}
    sd = SpikeData([unit.train_ms for unit in shown], length=length_ms, metadata=seen)
    psth = peri_stimulus_histogram(sd, np.asarray(times_ms))
    order = np.argsort(np.nan_to_num(psth.latency_ms, nan=np.inf), kind="stable")
    names = [f"unit {html.escape(shown[row].unit_id)}" for row in order]
    rates = [[finite(rate, 4) for rate in psth.rates_Hz[row]] for row in order]
    latencies = {
        name: float(psth.latency_ms[row]) for name, row in zip(names, order, strict=True) if psth.latency_ms[row] > 0
    }
    axes = {
        "xaxis": {"title": {"text": "after the event (ms)"}, "zeroline": False},
        "yaxis": {"autorange": "reversed", "type": "category", "automargin": True},
    }
    drawn = [_heat(psth.centres_ms.tolist(), names, rates), _latencies(latencies)]
    return len(shown), {"data": drawn, "layout": {**_BASE, **axes}}


def _heat(centres_ms: list[float], names: list[str], rates_Hz: list[list[float | None]]) -> Figure:
    return {
        "type": "heatmap",
        "x": centres_ms,
        "y": names,
        "z": rates_Hz,
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "Hz", "side": "right"}, "thickness": 10, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>%{x} ms: %{z} Hz<extra></extra>",
        "hoverongaps": False,
    }


def _latencies(latencies_ms: Mapping[str, float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(latencies_ms.values()),
        "y": list(latencies_ms),
        "marker": {"symbol": "line-ns-open", "size": 12, "color": "#D55E00", "line": {"width": 2}},
        "hovertemplate": "%{y}<br>latency %{x} ms<extra></extra>",
        "showlegend": False,
    }


def artifact_figures(pictures: Mapping[str, Any]) -> Iterator[tuple[str, str, int, Figure]]:
    """Yield title, caption, height and figure of what became of the artifacts."""
    yield (
        "Artifacts before and after",
        "A few events on the channels that are saturated longest; above before, below after the removal.",
        420,
        _overlay(pictures),
    )
    yield (
        "What is left, by latency",
        "RMS over events, the median of all channels; blanked samples count as 0.",
        320,
        _residual(pictures),
    )
    if pictures["locations_um"]:
        yield "Saturated in an event", "Time at a rail, average over events, by channel.", 460, _map(pictures)
    yield (
        "Offsets of the logged times",
        "Where each artifact was found, minus its logged time.",
        300,
        _offsets(pictures),
    )


def _overlay(pictures: Mapping[str, Any]) -> Figure:
    n_channels = max(1, len(pictures["channels"]))
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {**_BASE, "showlegend": False, "annotations": []}
    for column in range(len(pictures["channels"])):
        left, right = (column + 0.02) / n_channels, (column + 0.86) / n_channels
        for row, (name, color, scale) in enumerate((("before_uV", _BEFORE, 1e-3), ("after_uV", _AFTER, 1.0))):
            number = 2 * column + row + 1
            suffix = "" if number == 1 else str(number)
            for trace in pictures[name][column]:
                line = {"color": color, "width": 0.8}
                values = [finite(value * scale, 4) for value in trace]
                data.append(
                    {"type": "scatter", "mode": "lines", "x": pictures["times_ms"], "y": values, "line": line,
                     "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "hoverinfo": "skip"}
                )  # fmt: skip
            low, high = ((0.56, 1.0), (0.0, 0.44))[row]
            title = {"text": ("before (mV)", "after (µV)")[row]} if column == 0 else None
            layout[f"yaxis{suffix}"] = {"domain": [low, high], "anchor": f"x{suffix}", "title": title, "nticks": 4}
            if column:
                layout[f"yaxis{suffix}"]["matches"] = ("y", "y2")[row]
            layout[f"xaxis{suffix}"] = {
                "domain": [left, right],
                "anchor": f"y{suffix}",
                "zeroline": False,
                "title": {"text": "ms"} if row else None,
            }
        layout["annotations"].append(
            {"text": f"channel {html.escape(str(pictures['channels'][column]))}", "x": (left + right) / 2, "y": 1.0,
             "xref": "paper", "yref": "paper", "yanchor": "bottom", "showarrow": False}
        )  # fmt: skip
    return {"data": data, "layout": layout}


def _residual(pictures: Mapping[str, Any]) -> Figure:
    lines = (("before", "residual_before_uV", _BEFORE), ("after", "residual_after_uV", _AFTER))
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": pictures["times_ms"],
            "y": [max(value, 0.1) for value in pictures[key]],
            "line": {"color": color, "width": 1.5},
        }
        for name, key, color in lines
    ]
    axes = {
        "xaxis": {"title": {"text": "after the event (ms)"}, "zeroline": False},
        "yaxis": {"title": {"text": "RMS (µV)"}, "type": "log", "dtick": 1},
    }
    return {"data": data, "layout": {**_BASE, **axes}}


def _map(pictures: Mapping[str, Any]) -> Figure:
    x, y = zip(*((place[0], place[1]) for place in pictures["locations_um"]), strict=True)
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "hovertemplate": "%{marker.color:.2f} ms<extra></extra>",
        "marker": {
            "symbol": "square",
            "size": 11,
            "color": pictures["saturation_ms"],
            "colorscale": "Viridis",
            "cmin": 0,
            "cmax": max(pictures["saturation_ms"]) or 1.0,
            "showscale": True,
            "colorbar": {"title": {"text": "ms", "side": "right"}, "thickness": 10, "outlinewidth": 0},
        },
    }
    axes = {
        "xaxis": {"title": {"text": "x (µm)"}, "constrain": "domain", "zeroline": False, "nticks": 5},
        "yaxis": {"title": {"text": "y (µm)"}, "scaleanchor": "x", "constrain": "domain", "zeroline": False},
    }
    return {"data": [marks], "layout": {**_BASE, **axes}}


def _offsets(pictures: Mapping[str, Any]) -> Figure:
    from spikelab.stim_sorting.pictures import offset_limits

    marks = {
        "type": "scattergl",
        "mode": "markers",
        "x": [time / 1000 for time in pictures["logged_times_ms"]],
        "y": pictures["offsets_ms"],
        "marker": {"color": "#D55E00", "size": 5, "opacity": 1.0},
    }
    axes = {
        "xaxis": {"title": {"text": "logged time (s)"}, "zeroline": False},
        "yaxis": {"title": {"text": "true - logged (ms)"}, "range": offset_limits(pictures["offsets_ms"])},
    }
    return {"data": [marks], "layout": {**_BASE, **axes}}
