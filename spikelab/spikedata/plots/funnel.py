"""How many units each criterion left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spikelab.spikedata.plots import _canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_curation_funnel(curated: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw how many units were found, and how many each criterion left, in order.

    Parameters
    ----------
    curated : mapping
        The results of ``curate()``, or a history of :func:`spikelab.curation.build_curation_history` or
        :func:`spikelab.curation.chain_histories`, with all its stages.
    ax : Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        When the criteria were judged on different numbers of units.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> results = SpikeData([[1.0, 2.0], [3.0]], length=30.0).curate(min_spikes=2)[1]
    >>> [text.get_text() for text in plot_curation_funnel(results).get_yticklabels()]
    ['found', 'spike count']
    """
    steps = _of_history(curated) if "curated_final" in curated else _of_results(curated)
    names, left, removed = zip(*steps, strict=True)
    axes = _canvas.new_axes(ax, 6.0, 0.8 + 0.38 * len(steps))
    rows = list(range(len(steps)))
    axes.barh(rows, removed, left=left, color=_canvas.LIGHT, height=0.7, label="removed here")
    axes.barh(rows, left, color=_canvas.BLUE, height=0.7, label="left")
    for row, (n_left, n_removed) in enumerate(zip(left, removed, strict=True)):
        text = f" {n_left}" + (f"  (-{n_removed})" if n_removed else "")
        axes.text(n_left + n_removed, row, text, va="center", fontsize=8, color=_canvas.DARK)
    axes.set_yticks(rows, [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, max(left[0], 1) * 1.18)
    axes.set_xlabel("units")
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    _canvas.tidy(axes)
    return axes


def _of_results(results: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Return criterion, units that pass it and all before, and units that it takes away."""
    from spikelab.curation import curation_summary

    table = curation_summary(results)
    n_before = n_found = int(table["n_units"].iloc[0]) if len(table) else 0
    steps = [("found", n_found, 0)]
    for name, n_left in table["n_left"].items():
        steps.append((str(name), int(n_left), n_before - int(n_left)))
        n_before = int(n_left)
    return steps


def _of_history(history: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    left = {str(unit) for unit in history["initial"]}
    steps = [("found", len(left), 0)]
    for entry in history["curations"]:
        n_before = len(left)
        left -= {str(unit) for unit in history["failed"][entry["criterion"]]}
        steps.append((str(entry["criterion"]), len(left), n_before - len(left)))
    return steps
