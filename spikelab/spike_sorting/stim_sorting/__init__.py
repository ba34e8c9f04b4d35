"""The documented import paths of `spikelab.stim_sorting`."""
