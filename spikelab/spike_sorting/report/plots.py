"""The plots of the page, as plain descriptions that plotly.js draws.

Colours of text, axes and grid are left to the page, which takes them from the reader's light or dark scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting.report.facts import Facts
from spikelab.spike_sorting.report.histograms import histogram_figures
from spikelab.spike_sorting.report.overview_plot import overview_figure
from spikelab.spike_sorting.report.plain import finite, to_number
from spikelab.spike_sorting.report.resources_plot import resources_figure
from spikelab.spike_sorting.report.stimulation_plots import artifact_figures, psth_figure
from spikelab.spike_sorting.report.template_plot import template_figure
from spikelab.spike_sorting.report.unit_details import contacts_of
from spikelab.spike_sorting.report.units import Unit
from spikelab.spike_sorting.report.wording import drift_sentence

Figure = dict[str, Any]

MAX_SPIKES = 20_000
"""Spikes that are drawn: more make the page slow, not clearer."""

_CONTACT_UM = 10.0
_FLAT = 0.5
"""A probe that is lower than this share of its width has no place beside anything."""
_FEWEST_READINGS = 3


@dataclass(frozen=True)
class Plot:
    """A plot with its place on the page.

    Parameters
    ----------
    place : str
        Section of the page.
    title, caption : str
        Above and below it.
    height_px : int
        Its height.
    figure : dict
        ``data`` and ``layout`` of plotly.
    """

    place: str
    title: str
    caption: str
    height_px: int
    figure: Figure


def make_plots(facts: Facts) -> list[Plot]:
    """Return the plots that can be drawn of what is known; none when the settings say so."""
    if not facts.config.figures.create_figures:
        return []
    if not facts.units:
        return list(_resources(facts))
    makers: tuple[Callable[[Facts], Iterator[Plot]], ...] = (
        _probe_map,
        _histograms,
        _overview,
        _spikes,
        _templates,
        _stimulation,
        _resources,
    )
    return [plot for make in makers for plot in make(facts)]


def groups(facts: Facts) -> list[tuple[str, str, Sequence[Unit]]]:
    """Return (name, colour, units) of the units kept and removed, without empty groups."""
    figures = facts.config.figures
    both = [
        (figures.label_kept, figures.color_kept, facts.kept),
        (figures.label_removed, figures.color_removed, facts.removed),
    ]
    return [group for group in both if group[2]]


# ------------------------------------------------------------------------------------------------- probe map


def _probe_map(facts: Facts) -> Iterator[Plot]:
    contacts = [place for place in contacts_of(facts) if all(map(math.isfinite, place))]
    traces = [_contact_trace(contacts)] if contacts else []
    traces += [trace for group in groups(facts) if (trace := _position_trace(*group))["x"]]
    if not traces:
        return
    layout = {
        "xaxis": {
            "title": {"text": "x (µm)"},
            "constrain": "domain",
            "zeroline": False,
            "nticks": 5,
            "tickangle": 0,
        },
        "yaxis": {"title": {"text": "y (µm)"}, "scaleanchor": "x", "constrain": "domain", "zeroline": False},
        "legend": _LEGEND,
        "hovermode": "closest",
    }
    caption = "Squares are contacts, to scale. Larger marks are larger amplitudes. A click on a unit chooses it below."
    x, y = ([value for trace in traces for value in trace[axis] if value is not None] for axis in ("x", "y"))
    aspect = (max(y) - min(y)) / max(max(x) - min(x), 1.0)
    # The probe is drawn to scale: a flat one over the whole page, any other beside the histograms.
    is_flat = aspect < _FLAT
    place, height_px = ("flat map", 130 + 1000 * aspect) if is_flat else ("map", min(130 + 400 * aspect, 660))
    yield Plot(place, "Where the units are", caption, max(280, round(height_px)), {"data": traces, "layout": layout})


def _contact_trace(contacts: Sequence[tuple[float, float]]) -> dict[str, Any]:
    half = _contact_side_um(contacts) / 2
    x = [value for cx, _ in contacts for value in (cx - half, cx + half, cx + half, cx - half, cx - half, None)]
    y = [value for _, cy in contacts for value in (cy - half, cy - half, cy + half, cy + half, cy - half, None)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "fill": "toself",
        "fillcolor": "rgba(139, 146, 154, 0.35)",
        "line": {"width": 0},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _contact_side_um(contacts: Sequence[tuple[float, float]]) -> float:
    """Return the side of the squares: a usual size, but never one that makes neighbours touch."""
    import numpy as np
    from scipy.spatial import KDTree

    if len(contacts) < 2:
        return _CONTACT_UM
    distances, _ = KDTree(np.array(contacts)).query(np.array(contacts), k=2)
    apart = distances[:, 1][distances[:, 1] > 0]
    return min(_CONTACT_UM, 0.5 * float(apart.min())) if apart.size else _CONTACT_UM


def _position_trace(name: str, color: str, units: Sequence[Unit]) -> dict[str, Any]:
    is_kept = all(unit.kept for unit in units)
    placed = [unit for unit in units if all(map(math.isfinite, unit.position_um))]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [finite(unit.position_um[0]) for unit in placed],
        "y": [finite(unit.position_um[1]) for unit in placed],
        "text": [_described(unit) for unit in placed],
        "customdata": [unit.unit_id for unit in placed],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": color,
            "size": [_mark_size(unit, len(placed)) for unit in placed],
            "symbol": "circle" if is_kept else "x-thin-open",
            "line": {"width": 1 if is_kept else 2, "color": "white" if is_kept else color},
            "opacity": 0.9,
        },
    }


def _mark_size(unit: Unit, n_units: int) -> float:
    amplitude_uV = finite(unit.value("amplitude_uV")) or 0.0
    return round(min(8 + abs(amplitude_uV) / 15, 22) * (0.6 if n_units > 60 else 1.0), 1)


def _described(unit: Unit) -> str:
    lines = [
        f"unit {unit.unit_id} ({unit.verdict})",
        f"channel {unit.channel}",
        f"{unit.value('amplitude_uV'):.0f} µV, SNR {unit.value('snr'):.1f}",
        f"{unit.value('firing_rate_Hz'):.2f} Hz",
    ]
    return "<br>".join(html.escape(line) for line in lines)


# ------------------------------------------------------------------------------------------------ histograms


def _histograms(facts: Facts) -> Iterator[Plot]:
    for metric, figure, n_unknown in histogram_figures(groups(facts), facts.thresholds):
        caption = f"{n_unknown} without a value" if n_unknown else ""
        yield Plot("metrics", metric.title, caption, 215, figure)


# ------------------------------------------------------------------------------------------- spikes over time


def _overview(facts: Facts) -> Iterator[Plot]:
    overview = facts.overview
    if overview is None or not overview.time_s.size:
        return
    to_time, time_unit = _time_axis(facts)
    has_drift = bool(overview.drift_um.size)
    title = "Depth of single spikes, and drift" if has_drift else "Depth of single spikes"
    n_drawn, n_spikes = overview.time_s.size, int(overview.n_spikes)
    drawn = "Every spike" if n_drawn == n_spikes else f"{n_drawn:,} of {n_spikes:,} spikes, drawn at random,"
    caption = f"{drawn} of the sort before curation; amplitude in the sorter's own units. {drift_sentence(facts)}"
    if overview.drift_depth_um.size > 1:
        caption += " The traces run from grey, at the lowest y, to orange, at the highest."
    figure = overview_figure(overview, 1000 * to_time, time_unit)
    yield Plot("spikes", title, caption, 620 if has_drift else 420, figure)


def _time_axis(facts: Facts) -> tuple[float, str]:
    """Return what one millisecond is in the unit of time that suits the recording, and its name."""
    return (1 / 60_000, "min") if facts.duration_s > 600 else (1 / 1000, "s")


def _spikes(facts: Facts) -> Iterator[Plot]:
    n_spikes = sum(unit.train_ms.size for unit in facts.units if unit.train_ms is not None)
    if not n_spikes:
        return
    to_time, time_unit = _time_axis(facts)
    share = min(1.0, MAX_SPIKES / n_spikes)
    traces = [
        trace for name, color, units in groups(facts) for trace in _spike_traces(name, color, units, to_time, share)
    ]
    if not any(value is not None for trace in traces for value in trace["y"]):
        return
    layout = {
        "xaxis": {"title": {"text": f"time ({time_unit})"}, "anchor": "y2", "zeroline": False},
        "yaxis": {"title": {"text": "amplitude (µV)"}, "domain": [0.54, 1.0], "zeroline": False},
        "yaxis2": {"title": {"text": "y of the unit (µm)"}, "domain": [0.0, 0.46], "zeroline": False},
        "legend": _LEGEND,
        "hovermode": "closest",
    }
    drawn = "Every spike is drawn." if share == 1 else f"{MAX_SPIKES:,} of {n_spikes:,} spikes, drawn at random."
    caption = f"{drawn} Drag to zoom, double-click to reset."
    yield Plot("spikes", "Amplitude and depth over time", caption, 620, {"data": traces, "layout": layout})


def _spike_traces(
    name: str, color: str, units: Sequence[Unit], to_time: float, share: float
) -> Iterator[dict[str, Any]]:
    x, amplitudes, depths, ids = _sampled(units, to_time, share)
    common = {"type": "scattergl", "mode": "markers", "x": x, "text": ids, "name": name, "legendgroup": name}
    yield {
        **common,
        "y": amplitudes,
        "hovertemplate": f"unit %{{text}}<br>%{{y}} µV<extra>{name}</extra>",
        "marker": {"color": color, "size": 3.5},
    }
    yield {
        **common,
        "y": depths,
        "yaxis": "y2",
        "showlegend": False,
        "hovertemplate": f"unit %{{text}}<br>y = %{{y}} µm<extra>{name}</extra>",
        "marker": {"color": color, "size": 7, "symbol": "line-ns-open"},
    }


def _sampled(units: Sequence[Unit], to_time: float, share: float) -> tuple[list[Any], ...]:
    """Return time, amplitude, depth and unit of the same share of each unit's spikes."""
    import numpy as np

    rng = np.random.default_rng(0)
    x: list[Any] = []
    amplitudes: list[Any] = []
    depths: list[Any] = []
    ids: list[Any] = []
    for unit in units:
        train_ms = np.empty(0) if unit.train_ms is None else unit.train_ms
        chosen = np.flatnonzero(rng.random(train_ms.size) < share) if share < 1 else np.arange(train_ms.size)
        x += [finite(time) for time in train_ms[chosen] * to_time]
        amplitudes += _amplitudes(unit, train_ms.size, chosen)
        depths += [finite(unit.position_um[1], 5)] * chosen.size
        ids += [html.escape(unit.unit_id)] * chosen.size
    return x, amplitudes, depths, ids


def _amplitudes(unit: Unit, n_spikes: int, chosen: Any) -> list[float | None]:
    import numpy as np

    amplitudes = np.asarray(unit.attributes.get("spike_amplitudes"))
    if amplitudes.shape != (n_spikes,) or amplitudes.dtype.kind not in "fiu":
        return [None] * chosen.size
    return [finite(abs(value), 4) for value in amplitudes[chosen].tolist()]


# ------------------------------------------------------------------------------------------------- resources


def _resources(facts: Facts) -> Iterator[Plot]:
    if len(facts.curve) < _FEWEST_READINGS:
        return
    n_panels, figure = resources_figure(facts.curve, facts.config.execution)
    if n_panels:
        caption = (
            "The worst reading of each interval, over the time in which workers ran. A recording is stopped at the "
            "dashed lines; on a small disk that limit is a smaller one."
        )
        yield Plot("resources", "Memory, processors and disk", caption, 70 + 120 * n_panels, figure)


# ----------------------------------------------------------------------------------------------- stimulation


def _stimulation(facts: Facts) -> Iterator[Plot]:
    pictures = facts.stimulation.get("pictures")
    if not pictures:
        return
    shown, figure = psth_figure(facts.kept, facts.metadata)
    if shown:
        caption = (
            "Mean rate of each unit around the events, over the time in which spikes can be seen; gaps are blanked. "
            "Marks are latencies: the first bin after the event that stands out."
        )
        yield Plot("stimulation", "Answers to stimulation", caption, 120 + 22 * max(shown, 4), figure)
    for title, caption, height_px, drawn in artifact_figures(pictures):
        yield Plot("stimulation", title, caption, height_px, drawn)


# ------------------------------------------------------------------------------------------------- templates


def _templates(facts: Facts) -> Iterator[Plot]:
    fs_Hz = to_number(facts.recording.get("fs_Hz") or facts.metadata.get("fs_Hz"))
    shown, n_rows, figure = template_figure(facts.kept, fs_Hz, facts.config.figures.color_kept)
    if shown:
        caption = "Mean waveform on the largest channel, in grey on the next four; one scale for all."
        title = "Largest units" if shown > 1 else "Largest unit"
        yield Plot("templates", title, caption, 60 + 165 * n_rows, figure)


_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom", "itemsizing": "constant"}
