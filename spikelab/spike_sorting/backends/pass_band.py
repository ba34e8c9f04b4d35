"""The recording as spikes are seen in it: in microvolts, and band-passed."""

from __future__ import annotations

from typing import Any

from spikelab.spike_sorting.config import SortingPipelineConfig


def filtered(recording: Any, config: SortingPipelineConfig) -> Any:
    """Return `recording` in uV and band-passed, lazily: gain and offset are applied here and nowhere else."""
    from spikeinterface.preprocessing import bandpass_filter, highpass_filter, scale_to_uV

    scaled = scale_to_uV(recording)
    low, high = config.recording.freq_min, config.recording.freq_max
    if high < 0.49 * recording.sampling_frequency:
        return bandpass_filter(scaled, freq_min=low, freq_max=high, dtype="float32")
    return highpass_filter(scaled, freq_min=low, dtype="float32")
