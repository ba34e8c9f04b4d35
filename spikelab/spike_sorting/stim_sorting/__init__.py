"""The documented import paths of `spikelab.stim_sorting`, and the sort of a recording with stimulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.spike_sorting.api import sort_stim_recording
    from spikelab.stim_sorting import preprocess_stim_artifacts, recenter_stim_times, remove_stim_artifacts

__all__ = ["preprocess_stim_artifacts", "recenter_stim_times", "remove_stim_artifacts", "sort_stim_recording"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(__all__[:3], "spikelab.stim_sorting"),
        "sort_stim_recording": "spikelab.spike_sorting.api",
    },
)
