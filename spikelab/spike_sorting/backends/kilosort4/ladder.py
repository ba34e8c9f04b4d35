"""How Kilosort4 gets by with less memory: one rung at a time, by the step in which it ran out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from spikelab.spike_sorting.backends.base import Shortage, Shrunk
from spikelab.spike_sorting.backends.kilosort4.parameters import HARMLESS
from spikelab.spike_sorting.config import SortingPipelineConfig

_SMALLEST_BATCH = 10_000
_DEFAULTS = {"batch_size": 60_000, "max_cluster_subset": 25_000, "cluster_downsampling": 20, "dminx": 32.0}
"""Kilosort4's own values, from which a rung starts where the user has set none."""

_CENTRE_SPACING_UM = 200.0

Rung = Callable[[Mapping[str, Any], Shortage], dict[str, Any] | None]


def smaller(config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
    """Return a configuration that needs less memory in the step that ran out, or None when there is none left.

    What only frees memory comes first: it changes no result. Of the rest, settings that are still as they were asked
    for come before those that are smaller already: what that took was not what the step lacked.

    Parameters
    ----------
    config : SortingPipelineConfig
        What ran out.
    shortage : Shortage
        Where, of what, and how hard to shrink.
    """
    params = dict(config.sorter.sorter_params)
    offers = [offer for rung in _rungs(shortage.step) if (offer := rung(params, shortage)) is not None]
    freed = _freed(params, shortage)
    if freed is not None:
        return _shrunk(config, freed)
    untouched = [offer for offer in offers if all(params.get(name) == shortage.asked.get(name) for name in offer)]
    return next((_shrunk(config, offer) for offer in (*untouched, *offers)), None)


def _rungs(step: str) -> tuple[Rung, ...]:
    """Return what can help, the first to be tried first."""
    if "clustering" in step:
        return (_fewer_clustered, _more_centres, _downsampled)
    if step == "template postprocessing":
        return (_wider_templates,)
    if step in {"merging", "saving"}:
        return (_wider_templates, _smaller_batch)
    return (_smaller_batch,)


def _freed(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """Give back what is not in use: the allocator's cache on a GPU, on the host the spikes of earlier steps."""
    name = "clear_cache" if shortage.of == "gpu" else "arrays_on_disk"
    return None if params.get(name) else {name: True}


def _smaller_batch(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """Fewer samples at once: detection and extraction work batch by batch."""
    now = params.get("batch_size", _DEFAULTS["batch_size"])
    then = max(_SMALLEST_BATCH, int(now * shortage.factor))
    return {"batch_size": then} if then < now else None


def _fewer_clustered(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """Fewer spikes in each graph: clustering grows with them."""
    now = params.get("max_cluster_subset") or _DEFAULTS["max_cluster_subset"]
    then = int(now * shortage.factor)
    return {"max_cluster_subset": then} if then >= 2_000 else None


def _downsampled(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """Only every n-th spike in each graph; the others are assigned afterwards."""
    now = params.get("cluster_downsampling", _DEFAULTS["cluster_downsampling"])
    then = max(now + 1, round(now / shortage.factor))
    return {"cluster_downsampling": then} if then <= 160 else None


def _more_centres(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """More, smaller groups of templates across a 2-D array, where Kilosort4 would make one."""
    width_um = shortage.extent_um[0]
    if params.get("x_centers") is not None or width_um < 2 * _CENTRE_SPACING_UM:
        return None
    return {"x_centers": math.ceil(width_um / _CENTRE_SPACING_UM)}


def _wider_templates(params: Mapping[str, Any], shortage: Shortage) -> dict[str, Any] | None:
    """Fewer template positions across: there are fewer templates to hold together."""
    now = params.get("dminx", _DEFAULTS["dminx"])
    then = now / shortage.factor
    return {"dminx": then} if then <= 256 else None


def _shrunk(config: SortingPipelineConfig, changed: Mapping[str, Any]) -> Shrunk:
    params = {**config.sorter.sorter_params, **changed}
    return Shrunk(config.override(kilosort_params=params), dict(changed), changes_result=not changed.keys() <= HARMLESS)
