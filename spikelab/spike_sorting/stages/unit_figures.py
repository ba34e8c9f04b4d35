"""One picture per unit: its footprint, its amplitudes over time, and its intervals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.config import FigureConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spikelab.spikedata import SpikeData

FOLDER = "unit_figures"
_SIZE_INCHES = (9.0, 5.4)
_USUAL_FONT = FigureConfig().font_size


def write_unit_figures(
    sd: SpikeData, folder: Path, options: FigureConfig, report: Callable[[float], object] = lambda _: None
) -> list[Path]:
    """Write ``unit_<id>.png``, or ``.svg``, for each unit into `folder`, which is made; return the files.

    Parameters
    ----------
    sd : SpikeData
        Units as the pipeline gives them.
    folder : Path
        Where to.
    options : FigureConfig
        Kind of file, resolution and size of the text.
    report : callable
        Told of the share that is done (0 to 1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, unit in enumerate(sd.neuron_attributes):
        # Names of units come from sorters, and may be anything.
        files.append(folder / f"unit_{re.sub(r'[^-.A-Za-z0-9]+', '_', str(unit['unit_id']))}.{options.figure_format}")
        unit_figure(sd, number, options).savefig(files[-1], dpi=options.dpi)
        report((number + 1) / sd.N)
    return files


def unit_figure(sd: SpikeData, unit: int, options: FigureConfig) -> Figure:
    """Return the picture of one unit."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from spikelab.spikedata.plots import (
        plot_amplitudes,
        plot_autocorrelograms,
        plot_isi_histograms,
        plot_unit_footprints,
    )

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes: Any = figure.subplot_mosaic([["place", "size", "size"], ["place", "rate", "intervals"]])
    for draw, name in (
        (plot_unit_footprints, "place"),
        (plot_amplitudes, "size"),
        (plot_autocorrelograms, "rate"),
        (plot_isi_histograms, "intervals"),
    ):
        draw(sd, unit, ax=axes[name])
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * options.font_size / _USUAL_FONT)
    return figure
