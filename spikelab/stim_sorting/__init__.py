"""Recordings with electrical stimulation: times moved to the artifacts, artifacts taken out, spikes kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.stim_sorting._inputs import StimulationWarning
    from spikelab.stim_sorting.artifact_removal import remove_stim_artifacts
    from spikelab.stim_sorting.preprocessing import RemoveStimArtifactsRecording
    from spikelab.stim_sorting.recentering import recenter_stim_times
    from spikelab.stim_sorting.summary import StimSummary, preprocess_stim_artifacts

_HOMES = {
    "RemoveStimArtifactsRecording": "preprocessing",
    "StimSummary": "summary",
    "StimulationWarning": "_inputs",
    "preprocess_stim_artifacts": "summary",
    "recenter_stim_times": "recentering",
    "remove_stim_artifacts": "artifact_removal",
}

__all__ = [
    "RemoveStimArtifactsRecording",
    "StimSummary",
    "StimulationWarning",
    "preprocess_stim_artifacts",
    "recenter_stim_times",
    "remove_stim_artifacts",
]

__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
