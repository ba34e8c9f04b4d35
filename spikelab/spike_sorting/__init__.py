"""Spike sorting of batches: one call in, curated units and a report out.

Everything is imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.spike_sorting.analyzers import export_analyzer
    from spikelab.spike_sorting.api import estimate, load_results, sort_multistream, sort_recording, sort_stim_recording
    from spikelab.spike_sorting.backends.kilosort4.advisor import Recommendation, Recommendations, recommend_settings
    from spikelab.spike_sorting.comparing import compare_results
    from spikelab.spike_sorting.config import SortingPipelineConfig
    from spikelab.spike_sorting.costs import Estimate, Range, Workload
    from spikelab.spike_sorting.outcome import RecordingResult, SortRunReport
    from spikelab.spike_sorting.probes.dictionary import check_probe, probe_dictionary, probe_from_dictionary
    from spikelab.spike_sorting.probes.files import read_probe, write_probe

_ERRORS = (
    "BiologicalSortFailure",
    "CLASSIFIED_FAILURES",
    "ConcurrentSortError",
    "DiskExhaustionError",
    "DockerEnvironmentError",
    "EmptyWaveformMetricsError",
    "EnvironmentSortFailure",
    "GPUOutOfMemoryError",
    "GpuLostError",
    "GpuMemoryWatchdogError",
    "GpuThermalWatchdogError",
    "HDF5PluginMissingError",
    "HostMemoryWatchdogError",
    "HostOutOfMemoryError",
    "IOStallError",
    "InsufficientActivityError",
    "ModelLoadingError",
    "NoGoodChannelsError",
    "PreflightError",
    "ProbeMisfitError",
    "RecordingUnreadableError",
    "RecordingsDifferError",
    "ResourceSortFailure",
    "SaturatedSignalError",
    "SorterCrashedError",
    "SorterNotInstalledError",
    "SorterTimeoutError",
    "SpikeSortingClassifiedError",
    "UnclassifiedSortError",
    "UnkillableProcessError",
)
_HOMES = {
    "Estimate": "costs",
    "Range": "costs",
    "Recommendation": "backends.kilosort4.advisor",
    "Recommendations": "backends.kilosort4.advisor",
    "RecordingResult": "outcome",
    "SortRunReport": "outcome",
    "SortingPipelineConfig": "config",
    "Workload": "costs",
    "check_probe": "probes.dictionary",
    "compare_results": "comparing",
    "estimate": "api",
    "export_analyzer": "analyzers",
    "load_results": "api",
    "probe_dictionary": "probes.dictionary",
    "probe_from_dictionary": "probes.dictionary",
    "read_probe": "probes.files",
    "recommend_settings": "backends.kilosort4.advisor",
    "sort_multistream": "api",
    "sort_recording": "api",
    "sort_stim_recording": "api",
    "write_probe": "probes.files",
    **dict.fromkeys(_ERRORS, "_exceptions"),
}

__all__ = [  # noqa: PLE0604 - the names of the errors are strings
    "Estimate",
    "Range",
    "Recommendation",
    "Recommendations",
    "RecordingResult",
    "SortRunReport",
    "SortingPipelineConfig",
    "Workload",
    "check_probe",
    "compare_results",
    "estimate",
    "export_analyzer",
    "load_results",
    "probe_dictionary",
    "probe_from_dictionary",
    "read_probe",
    "recommend_settings",
    "sort_multistream",
    "sort_recording",
    "sort_stim_recording",
    "write_probe",
    *_ERRORS,
]


__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
