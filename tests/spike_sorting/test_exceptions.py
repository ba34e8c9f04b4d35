"""The classified errors."""

from __future__ import annotations

import copy
import json
import math
import pickle  # noqa: TID251 - how pools of processes hand errors over
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spikelab.spike_sorting import _exceptions as errors
from spikelab.spike_sorting._exceptions import (
    CLASSIFIED_FAILURES,
    BiologicalSortFailure,
    EnvironmentSortFailure,
    RecordingUnreadableError,
    ResourceSortFailure,
    SpikeSortingClassifiedError,
    UnclassifiedSortError,
    error_from_dict,
)

BIO, ENV, RES = BiologicalSortFailure, EnvironmentSortFailure, ResourceSortFailure
BASE = SpikeSortingClassifiedError

CONTRACT = [
    ("InsufficientActivityError", BIO, "insufficient_activity", "never",
     "sorter threshold_crossings units_at_failure nspks_at_failure log_path findings"),
    ("NoGoodChannelsError", BIO, "no_good_channels", "never", "sorter total_channels bad_channels log_path"),
    ("SaturatedSignalError", BIO, "saturated_signal", "never", "channels_saturated total_channels"),
    ("EmptyWaveformMetricsError", BIO, "no_waveforms", "never", "metric_name"),
    ("RecordingUnreadableError", BIO, "recording_unreadable", "never", "path offset"),
    ("RecordingsDifferError", BIO, "recordings_differ", "never", "path"),
    ("ProbeMisfitError", RecordingUnreadableError, "probe_misfit", "never", "path offset"),
    ("ConcurrentSortError", ENV, "concurrent_sort", "later", "lock_path holder_pid holder_hostname started_at"),
    ("HDF5PluginMissingError", ENV, "hdf5_plugin_missing", "never", "configured_path"),
    ("DockerEnvironmentError", ENV, "docker_environment", "never", "reason"),
    ("ModelLoadingError", ENV, "model_loading", "never", "sorter model_path"),
    ("PreflightError", ENV, "preflight", "never", "findings"),
    ("SorterNotInstalledError", ENV, "sorter_not_installed", "never", "sorter missing"),
    ("GPUOutOfMemoryError", RES, "oom_gpu", "smaller", "sorter log_path stage"),
    ("HostOutOfMemoryError", RES, "oom_host_ram", "smaller", "sorter log_path stage"),
    ("GpuLostError", RES, "gpu_lost", "never", "device_index"),
    ("UnkillableProcessError", RES, "unkillable", "never", "pid wchan"),
    ("GpuMemoryWatchdogError", RES, "oom_gpu", "smaller", "device_index used_pct_at_trip abort_pct"),
    ("HostMemoryWatchdogError", RES, "oom_host_ram", "never", "percent_at_trip abort_pct"),
    ("GpuThermalWatchdogError", RES, "gpu_thermal", "later", "device_index temperature_c_at_trip abort_temp_c"),
    ("SorterTimeoutError", RES, "sorter_timeout", "never", "sorter inactivity_s log_path stack"),
    ("DiskExhaustionError", RES, "disk_exhausted", "later", "folder free_gb_at_trip abort_threshold_gb report"),
    ("IOStallError", RES, "io_stall", "later", "device stall_s"),
    ("SorterCrashedError", BASE, "sorter_crashed", "never", "sorter exit_name log_path log_tail"),
]  # fmt: skip
NAMES = [row[0] for row in CONTRACT]


@pytest.mark.parametrize("name,family,status,retry,attributes", CONTRACT, ids=NAMES)
def test_a_class_keeps_the_contract(
    name: str, family: type[Exception], status: str, retry: str, attributes: str
) -> None:
    """Family, status, retry, advice and attributes are those of the contract."""
    cls = getattr(errors, name)
    assert family in cls.__bases__
    assert (cls.status, cls.retry) == (status, retry)
    assert cls.detail_names() == tuple(attributes.split())
    assert cls.advice.endswith(".")
    error = cls("what was found")
    assert str(error) == "what was found"
    assert error.details == dict.fromkeys(attributes.split())


def test_no_class_is_missing_from_the_table() -> None:
    """Every classified error is in the contract's table, and a RuntimeError."""
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, BASE)]
    assert {cls.__name__ for cls in classes} - {cls.__name__ for cls in (BASE, BIO, ENV, RES)} == set(NAMES)
    assert issubclass(BASE, RuntimeError)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_travels(name: str) -> None:
    """Pickling, copying and JSON give back the class, the message and every attribute."""
    cls = getattr(errors, name)
    error = cls("what was found", **{detail: k for k, detail in enumerate(cls.detail_names())})
    described = json.loads(json.dumps(error.to_dict(), allow_nan=False))
    assert described["status"] == cls.status
    assert described["advice"] == cls.advice
    assert described["category"] in {"biology", "environment", "resource", "crash"}
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), error_from_dict(described)):
        assert type(again) is cls
        assert (str(again), again.details) == (str(error), error.details)


def test_advice_that_was_found_travels() -> None:
    """What a diagnosis advises takes the place of the general advice, also after pickling and JSON."""
    findings = [{"about": "gain", "advice": "Set it."}, {"about": "dtype", "advice": "Read it."}]
    error = errors.InsufficientActivityError("no spike", findings=findings)
    for again in (error, pickle.loads(pickle.dumps(error)), error_from_dict(json.loads(json.dumps(error.to_dict())))):
        assert again.advice == "Set it. Read it."
    assert errors.InsufficientActivityError("no spike").advice == errors.InsufficientActivityError.advice


@pytest.mark.parametrize("name", NAMES)
def test_one_clause_catches_every_classified_failure(name: str) -> None:
    """CLASSIFIED_FAILURES catches each of them."""
    with pytest.raises(CLASSIFIED_FAILURES):
        raise getattr(errors, name)("x")


@pytest.mark.parametrize(
    "name,also", [("EmptyWaveformMetricsError", ValueError), ("HostOutOfMemoryError", MemoryError)]
)
def test_an_error_is_also_what_python_calls_it(name: str, also: type[Exception]) -> None:
    """Code that knows only Python's own class catches it too."""
    with pytest.raises(also, match="gone"):
        raise getattr(errors, name)("gone")


@dataclass(frozen=True)
class _Finding:
    subject: str
    free_gb: float


def test_whatever_an_error_carries_becomes_strict_json() -> None:
    """Arrays, paths, dataclasses, NaN and infinity in attributes never stop an error from being written down."""
    findings = [_Finding("disk", math.nan), Path("/x"), {1: np.int64(2)}, (np.float32(0.5), math.inf)]
    described = errors.PreflightError("2 findings", findings=findings).to_dict()
    assert json.loads(json.dumps(described, allow_nan=False))["details"]["findings"] == [
        {"subject": "disk", "free_gb": None},
        "/x",
        {"1": 2},
        [0.5, "inf"],
    ]
    channels = errors.NoGoodChannelsError("all bad", bad_channels=np.array(["a", "b"])).to_dict()
    assert channels["details"]["bad_channels"] == ["a", "b"]


def test_an_unknown_attribute_is_refused() -> None:
    """A misspelt attribute is an error at once, not a value that nobody finds."""
    with pytest.raises(TypeError, match=r"GpuLostError has no attribute 'device'; it has .*device_index"):
        errors.GpuLostError("gone", device=0)


def test_an_error_class_of_somebody_else_is_still_reported() -> None:
    """A description of a class that is not known here keeps its name and message."""
    described = {**errors.GpuLostError("gone", device_index=0).to_dict(), "error_class": "LicenceServerError"}
    again = error_from_dict(described)
    assert type(again) is SpikeSortingClassifiedError
    assert str(again) == "LicenceServerError: gone"
    assert type(error_from_dict(SpikeSortingClassifiedError("x").to_dict())) is SpikeSortingClassifiedError


def test_an_unclassified_error_keeps_the_worker_s_traceback() -> None:
    """What is not known travels with its stage and the traceback it had in the worker."""
    error = UnclassifiedSortError("KeyError: 'x'", stage="sort", remote_traceback="Traceback ...")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "KeyError: 'x' (in stage sort)"
    assert (again.stage, again.remote_traceback, again.status) == ("sort", "Traceback ...", "failed")
    assert not isinstance(error, CLASSIFIED_FAILURES)
