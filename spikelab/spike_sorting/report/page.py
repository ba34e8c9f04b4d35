"""The report as one self-contained page: nothing is fetched, whatever a name in it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.remarks import sentence
from spikelab.spike_sorting.report import wording
from spikelab.spike_sorting.report.facts import Facts
from spikelab.spike_sorting.report.metrics import METRICS, Metric
from spikelab.spike_sorting.report.plain import finite
from spikelab.spike_sorting.report.plots import Plot, make_plots
from spikelab.spike_sorting.report.unit_details import unit_details

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_SCREEN_DPI = 96
"""What a pixel of a style sheet is a part of."""
_FIRST_COLUMNS = ("unit", "curation", "channel", "x (µm)", "y (µm)")


def to_html(facts: Facts) -> str:
    """Return the page."""
    plots, metrics = make_plots(facts), _metrics(facts)
    figures = facts.config.figures
    page: str = (
        environment()
        .get_template("page.html.j2")
        .render(
            facts=facts,
            result=facts.result,
            say=wording,
            sentence=sentence,
            plots=plots,
            figures=[plot.figure for plot in plots],
            plotly_js=_plotly_js() if plots else "",
            cards=_cards(facts),
            columns=(*_FIRST_COLUMNS, *(metric.title for metric in metrics), "label"),
            units=[_cells(facts, index, metrics) for index in range(len(facts.units))],
            details=unit_details(facts) if plots and facts.units else None,
            color_kept=_color(figures.color_kept, "#0072B2"),
            color_removed=_color(figures.color_removed, "#D55E00"),
            label_kept=figures.label_kept,
            label_removed=figures.label_removed,
            image_format=figures.figure_format,
            image_scale=round(figures.dpi / _SCREEN_DPI, 3),
            font_px=round(figures.font_size * 1.2, 1),
            with_bars=figures.create_figures,
        )
    )
    return page


def environment() -> jinja2.Environment:
    """Return the environment in which pages are made: nothing in a name is taken for markup."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters["at"] = _plots_at
    return made


def _plots_at(plots: list[Plot], place: str) -> list[tuple[int, Plot]]:
    return [(index, plot) for index, plot in enumerate(plots) if plot.place == place]


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def _color(wanted: str, default: str) -> str:
    """Return `wanted` when it is a plain colour: it goes into the style sheet."""
    return wanted if re.fullmatch(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]+", wanted) else default


def _cards(facts: Facts) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page: (number, what)."""
    result = facts.result
    cards = [
        (wording.number(result.n_units), "units found"),
        (wording.number(result.n_curated_units), "units kept"),
        (wording.number(result.n_spikes), "spikes of units kept"),
        (wording.duration(facts.duration_s), "of recording"),
        (wording.number(facts.recording.get("n_channels")), "channels"),
        (wording.duration(wording.total_s(result)), "of work"),
    ]
    return [card for card in cards if card[0] != wording.UNKNOWN]


def _metrics(facts: Facts) -> list[Metric]:
    """Return the metrics of the table: what only some sorters tell is left out where it is not known of any unit."""
    known = {name for unit in facts.units for name, value in unit.values.items() if finite(value) is not None}
    return [metric for metric in METRICS if metric.name in known or metric.criterion is not None]


def _cells(facts: Facts, index: int, metrics: Sequence[Metric]) -> list[tuple[str, Any]]:
    """Return the cells of one unit: what is read, and what is sorted by."""
    unit = facts.units[index]
    values = [(value, 1) for value in unit.position_um]
    values += [(unit.value(metric.name), metric.digits) for metric in metrics]
    numbers: list[tuple[str, Any]] = [(wording.decimal(*value), finite(value[0])) for value in values]
    texts: list[tuple[str, Any]] = [(text, None) for text in (unit.verdict, unit.channel)]
    return [
        (unit.unit_id, int(unit.unit_id) if unit.unit_id.isdecimal() else None),
        *texts,
        *numbers,
        (unit.label, None),
    ]
