"""Times of stimulation, moved from where the hardware logged them to the artifact itself."""

from spikelab.stim_sorting.recentering import recenter_stim_times

__all__ = ["recenter_stim_times"]
