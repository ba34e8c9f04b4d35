"""What an import costs, and what can be imported from where."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

HEAVY = {"torch", "spikeinterface", "numpy", "h5py", "matplotlib", "kilosort", "pandas", "scipy", "plotly"}
ERRORS = (
    "SpikeSortingClassifiedError BiologicalSortFailure InsufficientActivityError NoGoodChannelsError "
    "SaturatedSignalError EmptyWaveformMetricsError RecordingUnreadableError EnvironmentSortFailure "
    "ConcurrentSortError HDF5PluginMissingError DockerEnvironmentError ModelLoadingError PreflightError "
    "SorterNotInstalledError ResourceSortFailure GPUOutOfMemoryError HostOutOfMemoryError GpuLostError "
    "UnkillableProcessError GpuMemoryWatchdogError HostMemoryWatchdogError GpuThermalWatchdogError "
    "SorterTimeoutError DiskExhaustionError IOStallError SorterCrashedError CLASSIFIED_FAILURES"
)


def _in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _imported_by(statement: str) -> set[str]:
    """Return the top-level modules that `statement` brings into a fresh Python."""
    return set(_in_fresh_python(f"{statement}; import sys; print(*sys.modules)").replace(".", " ").split())


@pytest.mark.parametrize(
    "statement",
    [
        "import spikelab",
        "import spikelab.spike_sorting",
        "from spikelab.spike_sorting import SortRunReport, ConcurrentSortError",
        "from spikelab.spike_sorting.config import KILOSORT4; KILOSORT4.override(snr_min=6)",
        "from spikelab.spike_sorting.supervision import lock, process, publish, journal, progress",
        "from spikelab.spike_sorting import _classifier, jobs, run_folder, selection, sources",
    ],
)
def test_the_foundations_import_nothing_heavy(statement: str) -> None:
    """Names, settings, errors and plans are there at once: nothing heavy is imported for them."""
    assert not HEAVY & _imported_by(statement)


@pytest.mark.parametrize(
    "statement",
    ["from spikelab.spike_sorting import sort_recording", "import spikelab.spike_sorting.pipeline"],
)
def test_the_caller_s_process_never_hosts_a_sorter(statement: str) -> None:
    """The entry points import neither torch nor Kilosort."""
    assert not {"torch", "kilosort", "spikeinterface"} & _imported_by(statement)


def test_the_import_is_instant() -> None:
    """`import spikelab` takes less than 0.3 s."""
    code = "import time; t = time.perf_counter(); import spikelab.spike_sorting; print(time.perf_counter() - t)"
    assert min(float(_in_fresh_python(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    "module,names",
    [
        ("spikelab", "SpikeData sort_recording sort_multistream load_results"),
        (
            "spikelab.spike_sorting",
            "sort_recording sort_multistream load_results SortRunReport RecordingResult SortingPipelineConfig",
        ),
        ("spikelab.spike_sorting", ERRORS),
        ("spikelab.spike_sorting._exceptions", ERRORS),
        ("spikelab.spike_sorting.pipeline", "SortRunReport RecordingResult"),
        (
            "spikelab.spike_sorting._classifier",
            "classify_ks2_failure classify_ks4_failure classify_rt_sort_failure",
        ),
        (
            "spikelab.spike_sorting.config",
            (
                "KILOSORT2 KILOSORT2_DOCKER KILOSORT4 KILOSORT4_DOCKER RT_SORT_MEA RT_SORT_NEUROPIXELS RecordingConfig "
                "SorterConfig RTSortConfig WaveformConfig CurationConfig CompilationConfig FigureConfig ExecutionConfig"
            ),
        ),
    ],
)
def test_public_names_are_where_the_guide_says(module: str, names: str) -> None:
    """Every name of the contract is found at its documented place."""
    found = importlib.import_module(module)
    assert not [name for name in names.split() if not hasattr(found, name)]


@pytest.mark.parametrize("module", ["spikelab", "spikelab.spike_sorting"])
def test_everything_that_is_listed_resolves(module: str) -> None:
    """Each name in __all__ and in dir() is there, is listed once, and is the same object on a second look."""
    found = importlib.import_module(module)
    assert len(set(found.__all__)) == len(found.__all__)
    for name in {*found.__all__, *dir(found)}:
        assert getattr(found, name) is getattr(found, name) or isinstance(getattr(found, name), str)


@pytest.mark.parametrize("module", ["spikelab", "spikelab.spike_sorting"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    """A misspelt name says so, and of which module."""
    misspelt = "sort_recordings"
    with pytest.raises(AttributeError, match=f"{module}.*{misspelt}"):
        getattr(importlib.import_module(module), misspelt)


def test_the_same_class_wherever_it_is_imported_from() -> None:
    """An error caught under one name is the one raised under the other."""
    public, home = (importlib.import_module(f"spikelab.spike_sorting{name}") for name in ("", "._exceptions"))
    assert all(getattr(public, name) is getattr(home, name) for name in ERRORS.split())


_WITHOUT_POSIX = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # its import is an error
{statement}
print(*sys.modules)
"""
FOUNDATIONS = [
    *("_classifier", "config", "jobs", "outcome", "run_folder", "selection", "sources"),
    *(f"supervision.{name}" for name in ("host", "journal", "lock", "process", "progress", "publish")),
]


def test_nothing_needs_a_module_of_posix_alone() -> None:
    """The foundations import where fcntl, resource, pwd, grp and termios do not exist."""
    names = [f"spikelab.spike_sorting.{name}" for name in FOUNDATIONS]
    imported = _in_fresh_python(_WITHOUT_POSIX.format(statement=f"import {', '.join(names)}")).split()
    assert set(names) <= set(imported)


def test_a_module_of_posix_alone_is_found() -> None:
    """The check above is able to fail: where something imports such a module, the import ends with its name."""
    code = _WITHOUT_POSIX.format(statement="import pty")  # it needs termios, by way of tty
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "import of termios halted" in done.stderr
