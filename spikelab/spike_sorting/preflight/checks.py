"""All checks, in the order in which people read what they find.

A check is a function that returns what it finds. To add one, write it into the file of its subject and its name
here.
"""

from __future__ import annotations

from collections.abc import Callable

from spikelab.spike_sorting.preflight import (
    disk,
    docker,
    folders,
    gpu,
    limits,
    memory,
    recording,
    rt_sort,
    selftest,
    sorter,
)
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import RecordingFacts
from spikelab.spike_sorting.preflight.findings import Finding

BatchCheck = Callable[[Batch], list[Finding]]
RecordingCheck = Callable[[RecordingFacts], list[Finding]]

BATCH_CHECKS: tuple[BatchCheck, ...] = (
    sorter.check_sorter,
    rt_sort.check_rt_sort,
    docker.check_docker,
    docker.check_docker_gpu,
    gpu.check_gpu,
    memory.check_vram,
    memory.check_ram,
    folders.check_writable,
    folders.check_file_system,
    disk.check_space,
    disk.check_inodes,
    limits.check_limits,
    selftest.check_machinery,
)
"""Once per call; what they find may concern one recording or the machine."""

RECORDING_CHECKS: tuple[RecordingCheck, ...] = (
    recording.check_readable,
    recording.check_settings_fit,
    sorter.check_params_fit,
    rt_sort.check_window,
    recording.check_segments,
    recording.check_axes,
    recording.check_complete,
    recording.check_sampling_rate,
    recording.check_geometry,
    recording.check_plugin_folders,
)
"""Once per recording."""
