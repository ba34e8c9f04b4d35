"""Recordings with electrical stimulation: times moved to the artifacts, artifacts taken out, spikes kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.stim_sorting._inputs import StimulationWarning
    from spikelab.stim_sorting.recentering import recenter_stim_times

_HOMES = {"StimulationWarning": "_inputs", "recenter_stim_times": "recentering"}

__all__ = ["StimulationWarning", "recenter_stim_times"]

__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
