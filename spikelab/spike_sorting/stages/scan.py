"""Scan: find the busiest seconds of a recording, from a few glances at it."""

from __future__ import annotations

from typing import Any

from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.samples.crossings import crossings
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.stage import StageRun, Summary

VERSION = 1
_N_GLANCES = 24
_GLANCE_S = 0.5


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that decide what is busy, and for how long."""
    return [config.execution.canary_first_n_s, config.recording.freq_min, config.recording.freq_max]


def run(stage: StageRun) -> Summary:
    """Return the start of the busiest window that is as long as the canary (s)."""
    import numpy as np

    recording, _ = read_recording(stage.job.run.recording)
    traces = filtered(recording, stage.job.config)
    fs_Hz, n_samples = recording.sampling_frequency, recording.get_num_samples()
    length = int(_GLANCE_S * fs_Hz)
    starts = np.linspace(0, n_samples - length, _N_GLANCES, dtype=int)
    counts = []
    for number, start in enumerate(starts):
        counts.append(crossings(traces.get_traces(start_frame=int(start), end_frame=int(start) + length)))
        stage.progress.report("busiest seconds", (number + 1) / _N_GLANCES)
    seconds = stage.job.config.execution.canary_first_n_s
    centre_s = (starts[int(np.argmax(counts))] + length / 2) / fs_Hz
    return {"start_s": float(np.clip(centre_s - seconds / 2, 0.0, n_samples / fs_Hz - seconds))}
