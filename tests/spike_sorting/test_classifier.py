"""From logs and exceptions to classified failures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting import _exceptions as errors
from spikelab.spike_sorting._classifier import classify_ks2_failure, classify_ks4_failure, classify_rt_sort_failure
from spikelab.spike_sorting._signatures import SIGNATURES

CLASSIFY: dict[str, Callable[[Any, BaseException], Any]] = {
    "kilosort2": classify_ks2_failure,
    "kilosort4": classify_ks4_failure,
    "rt_sort": classify_rt_sort_failure,
}
KS4_START = """\
kilosort.run_kilosort: Kilosort version 4.1.7
kilosort.run_kilosort: Sorting /data/rec.raw.h5
kilosort.run_kilosort: Preprocessing filters computed in 0.52s; total 0.52s
kilosort.run_kilosort: N samples: 1200000
"""
KS2_START = """\
NchanTOT = 64
Time   0s. Determining good channels..
found {crossings} threshold crossings in 201.17 seconds of data
found {bad} bad channels
Time   3s. Computing whitening matrix..
Channel-whitening filters computed.
Time   6s. Finished preprocessing 275 batches.
"""
KS2_BUSY = KS2_START.format(crossings=347300, bad=2)
KS2_BATCHES = """\
9.31 sec, 1 / 275 batches, 3 units, nspks: 4.2000, mu: 10.1, nst0: 4, merges: 0.0000, 0.0000
21.50 sec, 101 / 275 batches, {units} units, nspks: {spikes}, mu: 14.0, nst0: 31, merges: 0.0000, 0.0000
"""
KS2_OCTAVE = """\
Time   0s. Determining good channels..
NchanTOT = 8
found 0 bad channels
Time   1s. Finished preprocessing 1 batches.
time 1.00, compared 1 / 1 batches
----------------------------------------"""
OCTAVE_END = "error: ignoring const execution_exception& while preparing to exit\n"
"""The end of every log of Octave, also after success."""
KS2_KERNEL = """\
Error using gpuArray/bsxfun
An unexpected error occurred trying to launch a kernel. The CUDA error was:
invalid configuration argument
"""

# One excerpt per row of the table: the sorter, what its log or its error says, the class, some attributes.
RECORDED: dict[str, tuple[str, str, type[errors.SpikeSortingClassifiedError], dict[str, Any]]] = {
    "hdf5 folder": (
        "kilosort4",
        KS4_START + "OSError: Can't synchronously read data (can't open directory (/usr/local/lib/plugin). "
        "Please verify its existence)",
        errors.HDF5PluginMissingError,
        {},
    ),
    "hdf5 plugin": (
        "kilosort4",
        ("OSError: Can't synchronously read data (can't find plugin. Check either HDF5_VOL_CONNECTOR, "
        "HDF5_PLUGIN_PATH, default location, or path set by H5PLxxx functions)"),
        errors.HDF5PluginMissingError,
        {},
    ),
    "hdf5 filter": (
        "rt_sort",
        "OSError: Unable to synchronously read data (required filter 'unknown' is not registered)",
        errors.HDF5PluginMissingError,
        {},
    ),
    "hdf5 library": (
        "kilosort2",
        "Error using h5readc\nlibcompression.so: cannot open shared object file",
        errors.HDF5PluginMissingError,
        {},
    ),
    "damaged file": (
        "kilosort4",
        (
            "OSError: Can't synchronously read data (file read failed: time = Fri Nov 20 03:12:44 2026, filename = "
            "'/data/rec.raw.h5', file descriptor = 9, errno = 5, error message = 'Input/output error')"
        ),
        errors.RecordingUnreadableError,
        {},
    ),
    "MATLAB without a licence": (
        "kilosort2",
        "License checkout failed.\nLicense Manager Error -15\nUnable to connect to the license server.",
        errors.SorterNotInstalledError,
        {"missing": "licence of MATLAB"},
    ),
    "Kilosort2 that is not compiled": (
        "kilosort2",
        KS2_BUSY + "Undefined function 'mexThSpkPC' for input arguments of type 'double'.",
        errors.SorterNotInstalledError,
        {"missing": "compiled CUDA code of Kilosort2"},
    ),
    "Kilosort2 that is not compiled, newer MATLAB": (
        "kilosort2",
        KS2_BUSY + "Unrecognized function or variable 'mexSVDsmall2'.",
        errors.SorterNotInstalledError,
        {"missing": "compiled CUDA code of Kilosort2"},
    ),
    "Kilosort2 that is not compiled, Octave": (
        "kilosort2",
        KS2_OCTAVE + "'mexGetSpikes2' undefined near line 2, column 1" + OCTAVE_END,
        errors.SorterNotInstalledError,
        {"missing": "compiled CUDA code of Kilosort2"},
    ),
    "another Kilosort, Octave": (
        "kilosort2",
        KS2_OCTAVE + "'learnAndSolve8b' undefined near line 78, column 15" + OCTAVE_END,
        errors.SorterNotInstalledError,
        {"missing": "Kilosort2, branch kilosort2"},
    ),
    "another Kilosort": (
        "kilosort2",
        KS2_BUSY + "Undefined function or variable 'clusterSingleBatches'.",
        errors.SorterNotInstalledError,
        {},
    ),
    "MATLAB without GPU arrays, Octave": (
        "kilosort2",
        KS2_OCTAVE + "'gpuArray' undefined near line 2, column 3" + OCTAVE_END,
        errors.SorterNotInstalledError,
        {"missing": "Parallel Computing Toolbox"},
    ),
    "MATLAB without a toolbox": (
        "kilosort2",
        (KS2_BUSY + "To use 'zscore', the following product must be licensed, installed, and enabled:\n"
        "  Statistics and Machine Learning Toolbox\n"),
        errors.SorterNotInstalledError,
        {"missing": "Statistics and Machine Learning Toolbox"},
    ),
    "docker package": (
        "kilosort2",
        "ModuleNotFoundError: No module named 'docker'",
        errors.DockerEnvironmentError,
        {"reason": "client_missing"},
    ),
    "docker permission": (
        "kilosort2",
        "docker: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
        errors.DockerEnvironmentError,
        {"reason": "permission_denied"},
    ),
    "docker permission, from Python": (
        "kilosort4",
        ("docker.errors.DockerException: Error while fetching server API version: ('Connection aborted.', "
        "PermissionError(13, 'Permission denied'))"),
        errors.DockerEnvironmentError,
        {"reason": "permission_denied"},
    ),
    "docker down": (
        "kilosort2",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        errors.DockerEnvironmentError,
        {"reason": "daemon_down"},
    ),
    "docker down, from Python": (
        "kilosort2",
        ("docker.errors.DockerException: Error while fetching server API version: ('Connection aborted.', "
        "FileNotFoundError(2, 'No such file or directory'))"),
        errors.DockerEnvironmentError,
        {"reason": "daemon_down"},
    ),
    "docker image": (
        "kilosort2",
        "docker.errors.ImageNotFound: 404 Client Error: Not Found: pull access denied for spikelab/kilosort2",
        errors.DockerEnvironmentError,
        {"reason": "image_pull_failed"},
    ),
    "docker offline": (
        "kilosort4",
        ("docker.errors.APIError: 500 Server Error: Get https://registry-1.docker.io/v2/: dial tcp: lookup "
        "registry-1.docker.io: no such host"),
        errors.DockerEnvironmentError,
        {"reason": "image_pull_failed"},
    ),
    "docker elsewhere": (
        "kilosort4",
        ('docker.errors.APIError: 400 Client Error: Bad Request ("invalid mount config for type "bind": bind source '
        'path does not exist: /data/culture")'),
        errors.DockerEnvironmentError,
        {"reason": "other"},
    ),
    "docker image without the program": (
        "kilosort2",
        "[FATAL tini (7)] exec ks2_compiled failed: No such file or directory",
        errors.DockerEnvironmentError,
        {"reason": "other"},
    ),
    "docker without gpu": (
        "kilosort4",
        'docker.errors.APIError: 500 Server Error: could not select device driver "" with capabilities: [[gpu]]',
        errors.DockerEnvironmentError,
        {"reason": "other"},
    ),
    "new gpu": (
        "kilosort4",
        KS4_START + "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        errors.EnvironmentSortFailure,
        {},
    ),
    "model": (
        "rt_sort",
        "ValueError: The folder /models/mea does not contain init_dict.json and state_dict.pt",
        errors.ModelLoadingError,
        {"sorter": "rt_sort"},
    ),
    "model file": (
        "rt_sort",
        "FileNotFoundError: [Errno 2] No such file or directory: '/models/mea/init_dict.json'",
        errors.ModelLoadingError,
        {},
    ),
    "model weights": (
        "rt_sort",
        "RuntimeError: Error(s) in loading state_dict for ModelSpikeSorter:\n\tMissing key(s): conv.0.weight",
        errors.ModelLoadingError,
        {},
    ),
    "torch": ("rt_sort", "ModuleNotFoundError: No module named 'torch'", errors.ModelLoadingError, {}),
    "gpu memory": (
        "kilosort4",
        KS4_START + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.58 GiB. GPU 0 has a total "
        "capacity of 7.78 GiB of which 1.90 GiB is free.",
        errors.GPUOutOfMemoryError,
        {"sorter": "kilosort4"},
    ),
    "gpu memory, older torch": (
        "rt_sort",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        errors.GPUOutOfMemoryError,
        {},
    ),
    "gpu memory, driver": ("kilosort4", "RuntimeError: CUDA error: out of memory", errors.GPUOutOfMemoryError, {}),
    "gpu memory, cublas": (
        "kilosort4",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        errors.GPUOutOfMemoryError,
        {},
    ),
    "gpu memory, MATLAB": (
        "kilosort2",
        KS2_BUSY + "Error using gpuArray/zeros\nOut of memory on device. To view more detail about available memory "
        "on the GPU, use 'gpuDevice()'.",
        errors.GPUOutOfMemoryError,
        {},
    ),
    "gpu memory, mex": ("kilosort2", KS2_BUSY + "CUDA_ERROR_OUT_OF_MEMORY", errors.GPUOutOfMemoryError, {}),
    "gpu memory, runtime": ("kilosort2", "cudaErrorMemoryAllocation", errors.GPUOutOfMemoryError, {}),
    "disk": (
        "kilosort4",
        "OSError: [Errno 28] No space left on device: '/scratch/recording.bin'",
        errors.DiskExhaustionError,
        {},
    ),
    "memory": (
        "kilosort4",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,)",
        errors.HostOutOfMemoryError,
        {"sorter": "kilosort4"},
    ),
    "memory, Python": ("rt_sort", "Traceback (most recent call last):\nMemoryError", errors.HostOutOfMemoryError, {}),
    "memory, torch": (
        "kilosort4",
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)"),
        errors.HostOutOfMemoryError,
        {},
    ),
    "memory, MATLAB": (
        "kilosort2",
        KS2_BUSY + 'Error using zeros\nOut of memory. Type "help memory" for your options.',
        errors.HostOutOfMemoryError,
        {},
    ),
    "memory, MATLAB's own limit": (
        "kilosort2",
        KS2_BUSY + "Requested 1000000x1000000 (7450.6GB) array exceeds maximum array size preference (15.9GB).",
        errors.HostOutOfMemoryError,
        {},
    ),
    "memory, Octave": (
        "kilosort2",
        KS2_OCTAVE + "out of memory or dimension too large for Octave's index type" + OCTAVE_END,
        errors.HostOutOfMemoryError,
        {},
    ),
    "no good channel": (
        "kilosort2",
        "NchanTOT = 64\nfound 0 good channels",
        errors.NoGoodChannelsError,
        {"sorter": "kilosort2", "total_channels": 64},
    ),
    "bad channels only": (
        "kilosort2",
        KS2_START.format(crossings=1, bad=64) + "Error using svd\nInput must not be empty",
        errors.NoGoodChannelsError,
        {"total_channels": 64},
    ),
    "few crossings": (
        "kilosort2",
        KS2_START.format(crossings=160, bad=40) + KS2_KERNEL,
        errors.InsufficientActivityError,
        {"threshold_crossings": 160, "units_at_failure": None},
    ),
    "few units": (
        "kilosort2",
        KS2_BUSY + KS2_BATCHES.format(units=5, spikes="61.3") + KS2_KERNEL,
        errors.InsufficientActivityError,
        {"threshold_crossings": 347300, "units_at_failure": 5, "nspks_at_failure": 61},
    ),
    "few spikes": (
        "kilosort2",
        KS2_BUSY + KS2_BATCHES.format(units=40, spikes="4.8") + KS2_KERNEL,
        errors.InsufficientActivityError,
        {"units_at_failure": 40, "nspks_at_failure": 4},
    ),
    "no spikes": (
        "kilosort4",
        KS4_START + "ValueError: No spikes detected, cannot continue sorting.",
        errors.InsufficientActivityError,
        {"sorter": "kilosort4"},
    ),
    "no channels with spikes": (
        "kilosort4",
        KS4_START + "ValueError: `get_data_cpu` never found suitable channels in `clustering_qr.run`.",
        errors.InsufficientActivityError,
        {},
    ),
    "no clips": (
        "kilosort4",
        "ValueError: Found array with 0 sample(s) (shape=(0, 61)) while a minimum of 2 is required by TruncatedSVD.",
        errors.InsufficientActivityError,
        {},
    ),
    "few clips": (
        "kilosort4",
        "3 spikes extracted in 0.41s; total 1.02s\nValueError: n_samples=3 should be >= n_clusters=6.",
        errors.InsufficientActivityError,
        {"nspks_at_failure": 3},
    ),
    "no sequence": (
        "rt_sort",
        "Detecting sequences\nDetected 0 preliminary propagation sequences",
        errors.InsufficientActivityError,
        {"sorter": "rt_sort", "units_at_failure": 0},
    ),
    "no sequence left": ("rt_sort", "0 sequences remain after filtering", errors.InsufficientActivityError, {}),
    "nothing returned": (
        "rt_sort",
        "AttributeError: 'NoneType' object has no attribute 'sort_offline'",
        errors.InsufficientActivityError,
        {},
    ),
}  # fmt: skip


WORDLESS = (errors.InsufficientActivityError, errors.NoGoodChannelsError)
"""Failures at which a sorter breaks somewhere behind, in words that say nothing of the recording."""


@pytest.mark.parametrize("excerpt", RECORDED)
def test_an_excerpt_matches_its_own_row_and_no_other(excerpt: str) -> None:
    """Each recorded log is evidence of one row of the table only."""
    sorter, log, expected, _ = RECORDED[excerpt]
    assert [row.error for row in SIGNATURES if row.matches(log, sorter)] == [expected]


def test_every_row_has_an_excerpt() -> None:
    """No row of the table is without a recorded log."""
    matched = {row for row in SIGNATURES for sorter, log, _, _ in RECORDED.values() if row.matches(log, sorter)}
    assert matched == set(SIGNATURES)


@pytest.mark.parametrize("excerpt", RECORDED)
@pytest.mark.parametrize("place", ["", "sorter_output", "sort/sorter_output", "sort.partial/sorter_output"])
def test_a_log_alone_is_evidence(excerpt: str, place: str, tmp_path: Path) -> None:
    """The log in the given folder, or in the sorter's folder below it, is enough; attributes are read from it."""
    sorter, text, expected, attributes = RECORDED[excerpt]
    log = tmp_path / place / f"{sorter}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    error = CLASSIFY[sorter](tmp_path, RuntimeError("the sorter failed"))
    assert type(error) is expected
    assert attributes.items() <= error.details.items()
    assert error.details.get("log_path", str(log)) == str(log)
    assert ("(the sorter failed)" in str(error)) == (expected not in WORDLESS)


@pytest.mark.parametrize("excerpt", RECORDED)
def test_an_exception_alone_is_evidence(excerpt: str, tmp_path: Path) -> None:
    """Without a log, what the exception says is enough, also when it is the cause of another one."""
    sorter, text, expected, _ = RECORDED[excerpt]
    outer = RuntimeError("stage sort failed")
    outer.__cause__ = OSError(text)
    assert type(CLASSIFY[sorter](tmp_path / "nowhere", OSError(text))) is expected
    assert type(CLASSIFY[sorter](tmp_path / "nowhere", outer)) is expected


@pytest.mark.parametrize(
    "sorter,log",
    [
        ("rt_sort", "Detected 150 preliminary propagation sequences\n10 sequences remain after filtering"),
        ("rt_sort", "Detected 1,000 preliminary propagation sequences"),
        ("rt_sort", "Loading /models/mea/init_dict.json\nLoading /models/mea/state_dict.pt"),
        ("kilosort4", KS4_START + "ValueError: operands could not be broadcast together"),
        ("kilosort4", "Detected 0 preliminary propagation sequences"),
        ("kilosort4", "found 0 good channels"),
        ("kilosort2", KS2_BUSY + KS2_KERNEL),
        ("kilosort2", KS2_BUSY + KS2_BATCHES.format(units=40, spikes="61.3") + KS2_KERNEL),
        ("kilosort2", KS2_START.format(crossings=160, bad=40) + "Error: file not found"),
        ("kilosort2", "ValueError: No spikes detected, cannot continue sorting."),
    ],
)
def test_what_only_looks_alike_stays_unknown(sorter: str, log: str, tmp_path: Path) -> None:
    """A count that is not zero, an early batch, a filter of another kind, another sorter's text: no known failure."""
    (tmp_path / f"{sorter}.log").write_text(log)
    assert CLASSIFY[sorter](tmp_path, RuntimeError("the sorter failed")) is None


def test_a_classified_error_comes_back_unchanged(tmp_path: Path) -> None:
    """What is classified is not classified again, also when something is wrapped around it."""
    (tmp_path / "kilosort4.log").write_text("CUDA out of memory")
    known = errors.NoGoodChannelsError("none is good")
    assert classify_ks4_failure(tmp_path, known) is known
    wrapped = RuntimeError("stage load failed")
    wrapped.__context__ = known
    assert classify_ks4_failure(tmp_path, wrapped) is known


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    """Exceptions that cause each other are read once each."""
    one, other = RuntimeError("one"), ValueError("found 0 good channels")
    one.__cause__, other.__context__ = other, one
    assert isinstance(classify_ks2_failure(tmp_path, one), errors.NoGoodChannelsError)
    assert classify_ks4_failure(tmp_path, one) is None


def test_the_class_of_an_exception_is_evidence(tmp_path: Path) -> None:
    """A MemoryError without a word is one."""
    error = classify_ks4_failure(tmp_path, MemoryError())
    assert isinstance(error, errors.HostOutOfMemoryError)
    assert str(error) == "the machine ran out of memory (MemoryError)"


def test_the_newest_log_counts(tmp_path: Path) -> None:
    """The log of a finished attempt is no evidence of what the next one failed with."""
    for age, (folder, text) in enumerate([("sort.partial", "all is well"), ("sort", "CUDA out of memory")]):
        log = tmp_path / folder / "sorter_output" / "kilosort4.log"
        log.parent.mkdir(parents=True)
        log.write_text(text)
        os.utime(log, ns=(10**18 - age, 10**18 - age))
    assert classify_ks4_failure(tmp_path, RuntimeError("x")) is None


def test_the_results_folder_will_do(tmp_path: Path) -> None:
    """Where the sorter's own log is not at hand, that of the run is evidence."""
    (tmp_path / "sorting.log").write_text("RuntimeError: CUDA error: out of memory")
    assert isinstance(classify_ks4_failure(str(tmp_path), RuntimeError("x")), errors.GPUOutOfMemoryError)


def test_a_log_in_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Broken UTF-8 and megabytes before the end do not hide the evidence."""
    (tmp_path / "kilosort4.log").write_bytes(b"\xff\r50%" * 500_000 + b"\nCUDA out of memory\n")
    assert isinstance(classify_ks4_failure(tmp_path, RuntimeError("x")), errors.GPUOutOfMemoryError)
