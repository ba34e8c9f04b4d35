"""The marks that known failures leave in logs and exceptions, one row each.

Rows are read in order: environment, resource, biology. A row matches when all of its patterns are found and
its numbers, where it has a condition on them, are so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting import _exceptions as errors
from spikelab.spike_sorting._settings import FrozenMap


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
    holds : callable
        Further condition on the evidence.
    read : callable
        Returns further attributes from the evidence.
    quotes : bool
        Whether `message` goes on with the sorter's own words. What broke for want of spikes has no words for that.
    """

    error: type[errors.SpikeSortingClassifiedError]
    patterns: tuple[str, ...]
    message: str
    sorters: tuple[str, ...] = ()
    details: Mapping[str, Any] = FrozenMap()
    holds: Callable[[str], bool] = lambda _evidence: True
    read: Callable[[str], Mapping[str, Any]] = lambda _evidence: {}
    quotes: bool = True

    def matches(self, evidence: str, sorter: str) -> bool:
        """Return whether this failure shows in the `evidence` of `sorter`."""
        applies = not self.sorters or sorter in self.sorters
        found = applies and all(re.search(pattern, evidence) for pattern in self.patterns)
        return found and self.holds(evidence)


def _any(*texts: str) -> str:
    return "|".join(re.escape(text) for text in texts)


# Sorters speak of filters in every log: the word counts only in the line of the failed read.
_FAILED_READ = (
    r"HDF5 filter|[Cc]an't open directory|[Cc]an't find plugin"
    r"|(?:Unable to|Can't) synchronously read data"
)
_ABOUT_FILTERS = r"(?i:filter|compress|plugin)"
_HDF5 = (
    Signature(
        errors.HDF5PluginMissingError,
        (
            (
                rf"(?:{_FAILED_READ}).*{_ABOUT_FILTERS}|{_ABOUT_FILTERS}.*(?:{_FAILED_READ})"
                r"|HDF5_PLUGIN_PATH|libcompression|synchronously read data \(can't open directory"
            ),
        ),
        "the recording is compressed with an HDF5 filter that is not installed",
        read=lambda _evidence: {"configured_path": os.environ.get("HDF5_PLUGIN_PATH")},
    ),
)

_UNREADABLE = (
    Signature(
        errors.RecordingUnreadableError,
        (r"file read failed|truncated file: eof|addr overflow|inflate\(\) failed",),
        "the recording's data cannot be read",
    ),
)

DOCKER = tuple(
    Signature(errors.DockerEnvironmentError, (pattern,), message, details=FrozenMap({"reason": reason}))
    for reason, message, pattern in (
        ("client_missing", "the Python package 'docker' is not installed", _any("No module named 'docker'")),
        (
            "permission_denied",
            "this user may not talk to the Docker daemon",
            (
                r"(?i:permission denied while trying to connect to the docker)|Got permission denied"
                r"|Error while fetching server API version.*PermissionError"
            ),
        ),
        (
            "daemon_down",
            "the Docker daemon does not answer",
            (
                r"Cannot connect to the Docker daemon|Is the docker daemon running"
                r"|Error while fetching server API version(?!.*PermissionError)"
            ),
        ),
        (
            "image_pull_failed",
            "the Docker image could not be fetched",
            _any(
                "manifest unknown",
                "pull access denied",
                "failed to resolve reference",
                "dial tcp: lookup",
                "ImageNotFound",
            ),
        ),
        (
            "other",
            "Docker cannot give containers the GPU: install the NVIDIA Container Toolkit",
            _any("could not select device driver", "Unknown runtime specified nvidia"),
        ),
        (
            "other",
            "the Docker daemon does not see a folder of this machine: it is on another one, or shares only some",
            _any("bind source path does not exist", "Mounts denied"),
        ),
        (
            "other",
            "the image does not have the program that the sort runs in it",
            (
                r"OCI runtime create failed.*(?:executable file not found|no such file)"
                r"|\[FATAL tini \(\d+\)\] exec .* failed"
            ),
        ),
    )
)
"""What Docker says, its daemon and its SDK, when it cannot run a container."""

_NEW_GPU = (
    Signature(
        errors.EnvironmentSortFailure,
        (_any("no kernel image is available"),),
        "this build of torch has no kernels for this GPU: install a torch that supports it, or set "
        "kilosort_params={'torch_device': 'cpu'}",
    ),
)

KILOSORT2_FUNCTIONS = (
    *("preprocessDataSub", "clusterSingleBatches", "learnAndSolve8b", "find_merges"),
    *("splitAllClusters", "set_cutoff", "rezToPhy"),
)
"""What SpikeInterface's script calls; other versions of Kilosort have some of them, and the same entry file."""


def _undefined(names: str) -> str:
    """Return a pattern for what MATLAB, of any year, and Octave say of a function that they do not find."""
    of_matlab = rf"(?:Undefined function(?: or variable)?|Unrecognized function or variable) '?(?:{names})\b"
    return rf"{of_matlab}|'(?:{names})' undefined"


def _product(evidence: str) -> Mapping[str, str]:
    found = re.search(r"must be licensed, installed, and enabled:\s*(\S.*)", evidence)
    return {"missing": found[1].strip() if found else "Parallel Computing Toolbox"}


_MATLAB = (
    Signature(
        errors.SorterNotInstalledError,
        (r"License checkout failed|License Manager Error|(?i:no licen[sc]e (?:file )?found)",),
        "MATLAB has no licence here: check that it starts on this machine and as this user",
        ("kilosort2",),
        details=FrozenMap({"missing": "licence of MATLAB"}),
    ),
    Signature(
        errors.SorterNotInstalledError,
        (_undefined(r"mex[A-Z]\w*") + "|Invalid MEX-file",),
        "Kilosort2's CUDA code is not compiled for this MATLAB: run mexGPUall in its folder CUDA",
        ("kilosort2",),
        details=FrozenMap({"missing": "compiled CUDA code of Kilosort2"}),
    ),
    Signature(
        errors.SorterNotInstalledError,
        (_undefined("|".join(KILOSORT2_FUNCTIONS)),),
        "the folder that kilosort_path names is not that of Kilosort2, or not all of it: clone its branch kilosort2",
        ("kilosort2",),
        details=FrozenMap({"missing": "Kilosort2, branch kilosort2"}),
    ),
    Signature(
        errors.SorterNotInstalledError,
        (
            (
                "product must be licensed, installed, and enabled|requires Parallel Computing Toolbox|"
                + _undefined("gpuArray|gpuDevice")
            ),
        ),
        "MATLAB lacks a toolbox that Kilosort2 needs: install it, or have it licensed",
        ("kilosort2",),
        read=_product,
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
        (
            (
                r"\b_?(?:Array)?MemoryError|Unable to allocate|Cannot allocate memory|can't allocate memory"
                r"|\bOut of memory\.|exceeds maximum array size preference|out of memory or dimension too large"
            ),
        ),
        "the machine ran out of memory",
    ),
)


def _number(pattern: str, evidence: str) -> int | None:
    """Return the whole part of the last number that `pattern` finds."""
    found = re.findall(pattern, evidence)
    return int(found[-1]) if found else None


_FEW_UNITS = _FEW_SPIKES = 5
_FEW_CROSSINGS_PER_CHANNEL_MIN = 6.0
"""Kilosort2 itself takes a channel with fewer for bad (``minfr_goodchannels``, 0.1 Hz)."""


def _kilosort2_activity(evidence: str) -> dict[str, int | None]:
    return {
        "threshold_crossings": _number(r"found (\d+) threshold crossings", evidence),
        "units_at_failure": _number(r"\d+ / \d+ batches, (\d+) units", evidence),
        "nspks_at_failure": _number(r"batches, \d+ units, nspks: (\d+)", evidence),
    }


def _kilosort2_is_silent(evidence: str) -> bool:
    """Return whether the scan for crossings, or the last line of a batch, shows next to nothing."""
    activity = _kilosort2_activity(evidence)
    units, spikes = activity["units_at_failure"], activity["nspks_at_failure"]
    return (
        _has_few_crossings(evidence, activity["threshold_crossings"])
        or (units is not None and units <= _FEW_UNITS)
        or (spikes is not None and spikes <= _FEW_SPIKES)
    )


def _has_few_crossings(evidence: str, crossings: int | None) -> bool:
    scanned = re.findall(r"threshold crossings in (\d+(?:\.\d+)?) seconds", evidence)
    if crossings is None or not scanned or float(scanned[-1]) == 0:
        return False
    per_min = crossings / (float(scanned[-1]) / 60)
    return per_min / (_kilosort2_channels(evidence) or 1) < _FEW_CROSSINGS_PER_CHANNEL_MIN


def _kilosort2_channels(evidence: str) -> int | None:
    return _number(r"NchanTOT\s*[=:]\s*(\d+)", evidence)


def _kilosort2_has_bad_channels_only(evidence: str) -> bool:
    bad, total = _number(r"found (\d+) bad channels", evidence), _kilosort2_channels(evidence)
    return bad is not None and total is not None and bad >= total > 0


_KILOSORT2 = (
    Signature(
        errors.NoGoodChannelsError,
        (r"found 0 good channels",),
        "Kilosort2 found no good channel",
        ("kilosort2",),
        read=lambda evidence: {"total_channels": _kilosort2_channels(evidence)},
        quotes=False,
    ),
    Signature(
        errors.NoGoodChannelsError,
        (r"found \d+ bad channels",),
        "Kilosort2 found bad channels only",
        ("kilosort2",),
        holds=_kilosort2_has_bad_channels_only,
        read=lambda evidence: {"total_channels": _kilosort2_channels(evidence)},
        quotes=False,
    ),
    Signature(
        errors.InsufficientActivityError,
        (r"invalid configuration argument",),
        "Kilosort2 found too few spikes",
        ("kilosort2",),
        holds=_kilosort2_is_silent,
        read=_kilosort2_activity,
        quotes=False,
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
        read=lambda evidence: {"nspks_at_failure": _number(r"(\d+) spikes extracted", evidence)},
        quotes=False,
    ),
)

_MODEL_FILE = r"(?:init_dict\.json|state_dict\.pt)"
_ABSENT = r"(?i:no such file|not found|missing|does not contain|does not exist)"
_RT_SORT_MODEL = (
    Signature(
        errors.ModelLoadingError,
        (
            (
                rf"{_ABSENT}.*{_MODEL_FILE}|{_MODEL_FILE}.*{_ABSENT}"
                r"|Error\(s\) in loading state_dict|No module named 'torch'"
            ),
        ),
        "the detection model of RT-Sort could not be loaded",
        ("rt_sort",),
    ),
)
_RT_SORT = (
    Signature(
        errors.InsufficientActivityError,
        (r"(?<![\d.,])0 preliminary|(?<![\d.,])0 (?:sequences|clusters) remain|no attribute 'sort_offline'",),
        "RT-Sort found no sequence",
        ("rt_sort",),
        read=lambda _evidence: {"units_at_failure": 0},
        quotes=False,
    ),
)

SIGNATURES: tuple[Signature, ...] = (
    *_HDF5,
    *DOCKER,
    *_NEW_GPU,
    *_MATLAB,
    *_RT_SORT_MODEL,
    *_RESOURCES,
    *_UNREADABLE,
    *_KILOSORT2,
    *_KILOSORT4,
    *_RT_SORT,
)
"""All rows in the order in which they are read."""
