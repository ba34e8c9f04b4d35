"""What a job will take of disk and memory, judged by its recording before anything runs.

The number of spikes is not known before the sort: the header says with how many to reckon. The size of a binary copy
is exact; all else is an estimate that should rather be too high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikelab.spike_sorting._settings import memory_bytes
from spikelab.spike_sorting.backends.kilosort4.advisor import batch_size
from spikelab.spike_sorting.backends.kilosort4.memory import in_memory_bytes
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.facts import Header

GB = 1e9

_MARGIN = 1.5
MOST_RAM_GB, MOST_VRAM_GB = 4.0, 2.0
"""No recording asks for more than this to be free: memory comes and goes, and running out of it is retried."""

_FEATURES_BYTES = 240
"""Of one spike: 10 channels x 6 components x 4 bytes; the largest array of Kilosort4, in memory and on disk."""
_SPIKE_BYTES = 64
"""Of one spike in Kilosort4's other files: times, clusters, templates, amplitudes, positions, a mask."""
_N_COPIES_OF_FEATURES = 6
"""Five checkpoints, from the detection of spikes to merging, and the copy of a step for which memory is too short."""
_ANALYZER_SPIKE_BYTES = 40
_RESULT_SPIKE_BYTES = 24
"""Of one spike in a results file: time, unit, amplitude."""
_UNITS_PER_CHANNEL = 1.0
_DENSE_TEMPLATES = 4
"""Averages, spreads and unfiltered averages in the analyzer, and Kilosort4's own templates."""
_COMPILED_CHANNELS = 16
"""Channels of a waveform in sorted.npz and sorted.mat."""
_RESULT_TEMPLATES = 3
"""Of each unit in a results file: the whole template, its part around the peak, the average waveform."""
_FIXED_INTER_BYTES, _FIXED_RESULTS_BYTES = 10_000_000, 6_000_000
"""Drift and whitening arrays, figures and logs; report pages."""

_SORTER_RAM_BYTES = 1_300_000_000
"""A worker with torch and Kilosort4 after a tiny sort: 1.26 GB of resident memory."""
_COPIES_IN_MEMORY = 2
"""Of spikes and features, each: putting them in order copies them once."""
_CHANNELS_OF_CENTRE = 8
"""Around a centre whose spikes Kilosort4 clusters together, with their features in memory though all are on disk."""
_FEATURES_OF_CENTRE = 6
"""Memory of these in units of the features: on all channels around, in the order of spikes and in that of clusters."""
_CPU_BATCHES, _GPU_BATCHES = 20, 53
"""Memory of a step in units of one batch of samples as floats: on a GPU, 1,024 channels take about 14 GB."""
_BATCH_SAMPLES = 60_000
_GPU_BASE_BYTES = 1_000_000_000

_WORKING_COPIES = {"kilosort2": 1, "rt_sort": 6}
"""Copies of the recording at 2 bytes a sample that a sorter itself writes: filtered data; for RT-Sort, filtered traces
of 4 bytes, those that it scales, twice, those that its model sees, and what that says of them."""


@dataclass(frozen=True)
class Projection:
    """What a job will take.

    Parameters
    ----------
    disk_inter_gb : float
        Most that it has in the intermediate folder at one time (GB).
    disk_results_gb : float
        What it leaves in the results folder (GB).
    ram_gb : float
        Memory of the sort (GB).
    vram_gb : float
        GPU memory of the sort, when it runs on one (GB).
    copies_gb : float
        Part of `disk_inter_gb` that is certain: copies of the recording (GB).
    transient_gb : float
        Part of `disk_inter_gb` that goes after success (GB).
    """

    disk_inter_gb: float
    disk_results_gb: float
    ram_gb: float
    vram_gb: float
    copies_gb: float = 0.0
    transient_gb: float = 0.0


def least_gb(asked_gb: float | None, projected_gb: Sequence[float], most_gb: float) -> float:
    """Return how much memory should be free before the start (GB).

    Parameters
    ----------
    asked_gb : float or None
        What the settings want; None for what is projected.
    projected_gb : sequence of float
        What each of the recordings in flight at once will take.
    most_gb : float
        No more is wanted for any of them.
    """
    return sum(min(_MARGIN * one, most_gb) for one in projected_gb) if asked_gb is None else asked_gb


def project(job: Job, header: Header, free_bytes: int | None = None) -> Projection:
    """Return what the sort of `job`, whose recording is as `header` says, will take.

    Parameters
    ----------
    job : Job
        The sort.
    header : Header
        Its recording.
    free_bytes : int, optional
        Memory that is free; Kilosort4 leaves on disk what is large beside it. As much as it takes unless given.
    """
    config = job.config
    input_copy = _raw_bytes(header) if job.in_memory is not None else 0.0
    binary, checkpoints = _binary_bytes(header, config), _checkpoint_bytes(header, config)
    inter = input_copy + binary + checkpoints + _sorter_bytes(header, config) + _analyzer_bytes(header, config)
    transient = checkpoints + (0.0 if config.execution.keep_binary else binary)
    return Projection(
        disk_inter_gb=inter / GB,
        disk_results_gb=_results_bytes(header, config) / GB,
        ram_gb=_ram_bytes(header, config, free_bytes) / GB,
        vram_gb=(_GPU_BASE_BYTES + _GPU_BATCHES * _batch_bytes(header, config)) / GB,
        copies_gb=(input_copy + binary) / GB,
        transient_gb=(inter if config.execution.delete_inter else transient) / GB,
    )


def _raw_bytes(header: Header) -> float:
    import numpy as np

    return float(header.n_samples) * header.n_channels * np.dtype(header.dtype).itemsize


def _binary_bytes(header: Header, config: SortingPipelineConfig) -> float:
    """Return the size of the flat binary copy, which has 16 bits: none where the source is one, or none is read."""
    is_made = not header.is_flat_binary and config.sorter.sorter_name != "rt_sort"
    return 2.0 * header.n_samples * header.n_channels if is_made else 0.0


def _n_spikes(header: Header) -> float:
    return header.duration_s * header.n_channels * header.spikes_per_channel_s


def _checkpoint_bytes(header: Header, config: SortingPipelineConfig) -> float:
    if config.sorter.sorter_name != "kilosort4":
        return 0.0
    return _n_spikes(header) * (_FEATURES_BYTES + _SPIKE_BYTES) * _N_COPIES_OF_FEATURES


def _sorter_bytes(header: Header, config: SortingPipelineConfig) -> float:
    copies = _WORKING_COPIES.get(config.sorter.sorter_name, 0)
    preprocessed = 1 if config.sorter.sorter_params.get("save_preprocessed_copy") else 0
    working = (copies + preprocessed) * 2.0 * header.n_samples * header.n_channels
    return working + _n_spikes(header) * (_FEATURES_BYTES + _SPIKE_BYTES)


def _analyzer_bytes(header: Header, config: SortingPipelineConfig) -> float:
    waveforms = config.waveform.max_waveforms_per_unit if config.waveform.save_waveform_files else 0
    templates = (_DENSE_TEMPLATES + waveforms) * _template_bytes(header, config)
    return templates + _n_spikes(header) * _ANALYZER_SPIKE_BYTES + _FIXED_INTER_BYTES


def _results_bytes(header: Header, config: SortingPipelineConfig) -> float:
    compilation = config.compilation
    n_compiled = sum((compilation.compile_to_npz, compilation.compile_to_mat))
    n_files = 1 + compilation.save_raw_pkl + n_compiled
    template_bytes = _template_bytes(header, config)
    a_file = _n_spikes(header) * _RESULT_SPIKE_BYTES + _RESULT_TEMPLATES * template_bytes
    near = min(1.0, _COMPILED_CHANNELS / header.n_channels) if compilation.compile_waveforms else 0.0
    waveforms = near * config.waveform.max_waveforms_per_unit * template_bytes
    return n_files * a_file + n_compiled * waveforms + _FIXED_RESULTS_BYTES


def _template_bytes(header: Header, config: SortingPipelineConfig) -> float:
    """Return the size of one waveform on all channels for every unit, as 4-byte floats."""
    n_units = header.n_channels * _UNITS_PER_CHANNEL
    window_s = (config.waveform.ms_before + config.waveform.ms_after) / 1000
    return n_units * window_s * header.fs_Hz * header.n_channels * 4


def _ram_bytes(header: Header, config: SortingPipelineConfig, free_bytes: int | None) -> float:
    spikes = _n_spikes(header) * (_FEATURES_BYTES + _SPIKE_BYTES)
    if spikes > _in_memory_bytes(config, free_bytes):
        centres = max(1.0, header.n_channels / _CHANNELS_OF_CENTRE)
        at_once = _FEATURES_BYTES * min(1.0, _FEATURES_OF_CENTRE / centres)
        spikes = _n_spikes(header) * (_SPIKE_BYTES + at_once / _COPIES_IN_MEMORY)
    return _SORTER_RAM_BYTES + _COPIES_IN_MEMORY * spikes + _CPU_BATCHES * _batch_bytes(header, config)


def _in_memory_bytes(config: SortingPipelineConfig, free_bytes: int | None) -> float:
    """Return the size from which on the sorter leaves spikes and features on disk."""
    if config.sorter.sorter_name != "kilosort4":
        return math.inf
    wanted, total = config.sorter.sorter_params.get("arrays_on_disk"), config.execution.total_memory
    if wanted is None and free_bytes is None:
        return math.inf if total is None else in_memory_bytes(None, total, memory_bytes(total))
    return in_memory_bytes(wanted, total, free_bytes or 0)


def _batch_bytes(header: Header, config: SortingPipelineConfig) -> float:
    params = config.sorter.sorter_params
    is_advised = config.sorter.sorter_name == "kilosort4" and params.get("advise", True)
    n_samples = params.get(
        "batch_size", batch_size(header.n_channels, header.n_samples) if is_advised else _BATCH_SAMPLES
    )
    return float(min(int(n_samples), header.n_samples)) * header.n_channels * 4
