"""Stimulation artifacts out of traces and recordings, spikes kept."""

from spikelab.stim_sorting.artifact_removal import remove_stim_artifacts
from spikelab.stim_sorting.summary import preprocess_stim_artifacts

__all__ = ["preprocess_stim_artifacts", "remove_stim_artifacts"]
