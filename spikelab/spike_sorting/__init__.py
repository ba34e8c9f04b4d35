"""Spike sorting of batches: one call in, curated units and a report out.

Everything is imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikelab.spike_sorting.api import load_results, sort_multistream, sort_recording
    from spikelab.spike_sorting.config import SortingPipelineConfig
    from spikelab.spike_sorting.outcome import RecordingResult, SortRunReport

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
    "RecordingUnreadableError",
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
    "RecordingResult": "outcome",
    "SortRunReport": "outcome",
    "SortingPipelineConfig": "config",
    "load_results": "api",
    "sort_multistream": "api",
    "sort_recording": "api",
    **dict.fromkeys(_ERRORS, "_exceptions"),
}

__all__ = [  # noqa: PLE0604 - the names of the errors are strings
    "RecordingResult",
    "SortRunReport",
    "SortingPipelineConfig",
    "load_results",
    "sort_multistream",
    "sort_recording",
    *_ERRORS,
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
