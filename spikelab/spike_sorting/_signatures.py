"""The marks that known failures leave in logs and exceptions, one row each.

Rows are read in order: environment, resource, biology. A row matches when all of its patterns are found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spikelab.spike_sorting import _exceptions as errors

Details = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Signature:
    """One known failure.

    Parameters
    ----------
    error : type
        The class it becomes.
    patterns : tuple of str
        Regular expressions, all of which must be found; case counts.
    message : str
        What the user reads.
    sorters : tuple of str
        Sorters that it applies to; empty for all.
    details : mapping of str to object
        Attributes that are the same for every match.
    read : callable
        Returns further attributes from the evidence.
    """

    error: type[errors.SpikeSortingClassifiedError]
    patterns: tuple[str, ...]
    message: str
    sorters: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    read: Details = lambda _evidence: {}

    def matches(self, evidence: str, sorter: str) -> bool:
        """Return whether this failure shows in the `evidence` of `sorter`."""
        applies = not self.sorters or sorter in self.sorters
        return applies and all(re.search(pattern, evidence) for pattern in self.patterns)


def _any(*texts: str) -> str:
    return "|".join(re.escape(text) for text in texts)


_HDF5 = (
    Signature(
        errors.HDF5PluginMissingError,
        (
            _any(
                "HDF5_PLUGIN_PATH",
                "HDF5 filter",
                "an't open directory",
                "libcompression",
                "an't find plugin",
                "Unable to synchronously read data",
                "an't synchronously read data",
            ),
            r"(?i)filter|compress|plugin",
        ),
        "the recording is compressed with an HDF5 filter that is not installed",
    ),
)

_DOCKER = tuple(
    Signature(errors.DockerEnvironmentError, (_any(*texts),), message, details={"reason": reason})
    for reason, message, texts in (
        ("client_missing", "the Python package 'docker' is not installed", ("No module named 'docker'",)),
        (
            "permission_denied",
            "this user may not talk to the Docker daemon",
            ("permission denied while trying to connect to the Docker daemon", "Got permission denied"),
        ),
        (
            "daemon_down",
            "the Docker daemon does not answer",
            (
                "Cannot connect to the Docker daemon",
                "Is the docker daemon running",
                "Error while fetching server API version",
            ),
        ),
        (
            "image_pull_failed",
            "the Docker image could not be fetched",
            (
                "manifest unknown",
                "pull access denied",
                "failed to resolve reference",
                "dial tcp: lookup",
                "ImageNotFound",
            ),
        ),
    )
)

_NEW_GPU = (
    Signature(
        errors.EnvironmentSortFailure,
        (_any("no kernel image is available"),),
        "this build of torch has no kernels for this GPU: install a torch that supports it, or set "
        "kilosort_params={'torch_device': 'cpu'}",
    ),
)

_RESOURCES = (
    Signature(
        errors.GPUOutOfMemoryError,
        (
            _any(
                "CUDA out of memory",
                "torch.cuda.OutOfMemoryError",
                "torch.OutOfMemoryError",
                "CUDA_ERROR_OUT_OF_MEMORY",
                "CUDA error: out of memory",
                "CUBLAS_STATUS_ALLOC_FAILED",
                "Out of memory on device",
                "cudaErrorMemoryAllocation",
            ),
        ),
        "the GPU ran out of memory",
    ),
    Signature(
        errors.DiskExhaustionError,
        (_any("No space left on device", "ENOSPC", "Disk quota exceeded"),),
        "the disk is full",
    ),
    Signature(
        errors.HostOutOfMemoryError,
        (_any("MemoryError", "Unable to allocate", "Cannot allocate memory", "can't allocate memory"),),
        "the machine ran out of memory",
    ),
)


def _number(pattern: str) -> Callable[[str], int | None]:
    def find(evidence: str) -> int | None:
        found = re.findall(pattern, evidence)
        return int(found[-1]) if found else None

    return find


def _kilosort2_activity(evidence: str) -> dict[str, Any]:
    return {
        "threshold_crossings": _number(r"found (\d+) threshold crossings")(evidence),
        "units_at_failure": _number(r"batches, (\d+) units")(evidence),
        "nspks_at_failure": _number(r"nspks: (\d+)")(evidence),
    }


def _tail_counts(limit: int) -> str:
    """Match the last batch line of Kilosort2 when it shows at most `limit` (below 10) units or spikes."""
    digit = f"[0-{limit}]"
    return rf"\d+ / \d+ batches, (?:{digit} units|\d+ units, nspks: {digit}\b)"


_KILOSORT2 = (
    Signature(
        errors.NoGoodChannelsError,
        (r"found 0 good channels",),
        "Kilosort2 found no good channel",
        ("kilosort2",),
    ),
    Signature(
        errors.InsufficientActivityError,
        (r"invalid configuration argument", _tail_counts(5)),
        "Kilosort2 found too few spikes",
        ("kilosort2",),
        read=_kilosort2_activity,
    ),
)

_TOO_FEW_FOR_KILOSORT4 = (
    r"No spikes detected, cannot continue sorting|get_data_cpu` never found suitable channels"
    r"|Found array with \d+ sample\(s\).*required by TruncatedSVD|n_samples=\d+ should be >= n_clusters=\d+"
)
_KILOSORT4 = (
    Signature(
        errors.InsufficientActivityError,
        (_TOO_FEW_FOR_KILOSORT4,),
        "Kilosort4 found too few spikes",
        ("kilosort4",),
        read=lambda evidence: {"nspks_at_failure": _number(r"(\d+) spikes extracted")(evidence)},
    ),
)

_RT_SORT = (
    Signature(
        errors.ModelLoadingError,
        (r"init_dict\.json|state_dict\.pt|Error\(s\) in loading state_dict|No module named 'torch'",),
        "the detection model of RT-Sort could not be loaded",
        ("rt_sort",),
    ),
    Signature(
        errors.InsufficientActivityError,
        (r"(?<!\d)0 preliminary|(?<!\d)0 sequences remain|no attribute 'sort_offline'",),
        "RT-Sort found no sequence",
        ("rt_sort",),
        read=lambda _evidence: {"units_at_failure": 0},
    ),
)

SIGNATURES: tuple[Signature, ...] = (
    *_HDF5,
    *_DOCKER,
    *_NEW_GPU,
    *(row for row in _RT_SORT if issubclass(row.error, errors.EnvironmentSortFailure)),
    *_RESOURCES,
    *_KILOSORT2,
    *_KILOSORT4,
    *(row for row in _RT_SORT if issubclass(row.error, errors.BiologicalSortFailure)),
)
"""All rows in the order in which they are read."""
