"""Recordings with electrical stimulation: times moved to the artifacts, artifacts taken out, spikes kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.stim_sorting._inputs import StimulationWarning
    from spikelab.stim_sorting.aligned import Psth, StimSorting, align_to_events, peri_stimulus_histogram
    from spikelab.stim_sorting.artifact_removal import remove_stim_artifacts
    from spikelab.stim_sorting.files import read_stim_times
    from spikelab.stim_sorting.pictures import plot_stim_artifacts
    from spikelab.stim_sorting.preprocessing import RemoveStimArtifactsRecording
    from spikelab.stim_sorting.recentering import recenter_stim_times
    from spikelab.stim_sorting.summary import StimSummary, preprocess_stim_artifacts

_HOMES = {
    "Psth": "aligned",
    "StimSorting": "aligned",
    "align_to_events": "aligned",
    "peri_stimulus_histogram": "aligned",
    "read_stim_times": "files",
    "RemoveStimArtifactsRecording": "preprocessing",
    "StimSummary": "summary",
    "StimulationWarning": "_inputs",
    "plot_stim_artifacts": "pictures",
    "preprocess_stim_artifacts": "summary",
    "recenter_stim_times": "recentering",
    "remove_stim_artifacts": "artifact_removal",
}

__all__ = [
    "Psth",
    "RemoveStimArtifactsRecording",
    "StimSorting",
    "StimSummary",
    "StimulationWarning",
    "align_to_events",
    "peri_stimulus_histogram",
    "plot_stim_artifacts",
    "preprocess_stim_artifacts",
    "read_stim_times",
    "recenter_stim_times",
    "remove_stim_artifacts",
]

__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
