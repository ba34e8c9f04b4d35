"""Every failure that a user can act on, in three families: biology, environment, resource.

This module imports nothing of ours, so that anything may raise and catch these. An error says what was
expected, what was found and, in ``advice``, what to do; ``retry`` tells the pipeline whether to try again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

Retry = Literal["never", "smaller", "later"]


class SpikeSortingClassifiedError(RuntimeError):
    """Base of all classified failures.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    **details : object
        The attributes that the class declares; those left out are None.

    Attributes
    ----------
    status : str
        Short code that ends up in ``RecordingResult.status``.
    category : str
        Family: "biology", "environment", "resource" or "crash".
    advice : str
        One sentence on what to do.
    retry : {"never", "smaller", "later"}
        Whether the same job can succeed with smaller settings, later, or not at all.

    Examples
    --------
    >>> error = SaturatedSignalError("8 of 8 channels clip", channels_saturated=8, total_channels=8)
    >>> error.status, error.total_channels
    ('saturated_signal', 8)
    """

    status: ClassVar[str] = "failed"
    category: ClassVar[str] = "crash"
    advice: ClassVar[str] = "Read the log named in the report."
    retry: ClassVar[Retry] = "never"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        names = self.detail_names()
        if unknown := sorted(set(details) - set(names)):
            msg = f"{type(self).__name__} has no attribute {unknown[0]!r}; it has {list(names)}"
            raise TypeError(msg)
        for name in names:
            setattr(self, name, details.get(name))

    @classmethod
    def detail_names(cls) -> tuple[str, ...]:
        """Return the names of the attributes that carry this failure's numbers, base classes first."""
        hints = get_type_hints(cls, include_extras=True)
        return tuple(name for name, hint in hints.items() if get_origin(hint) is not ClassVar)

    @property
    def details(self) -> dict[str, Any]:
        """The failure's numbers by name."""
        return {name: getattr(self, name) for name in self.detail_names()}

    def to_dict(self) -> dict[str, Any]:
        """Return class, status, category, message, advice, retry and details as strict JSON can hold them."""
        return {
            "error_class": type(self).__name__,
            "status": self.status,
            "category": self.category,
            "message": str(self),
            "advice": self.advice,
            "retry": self.retry,
            "details": _plain(self.details),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.details)


def _plain(value: Any) -> Any:
    """Return `value` as strict JSON can hold it: NaN is None, and what JSON does not know is its text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _rebuild(
    cls: type[SpikeSortingClassifiedError], message: str, details: Mapping[str, Any]
) -> SpikeSortingClassifiedError:
    return cls(message, **details)


# ---------------------------------------------------------------- biology: the recording cannot be sorted


class BiologicalSortFailure(SpikeSortingClassifiedError):
    """The recording itself cannot be sorted."""

    status = "biological_failure"
    category = "biology"
    advice = "Mark this recording as not sortable and move on."


class InsufficientActivityError(BiologicalSortFailure):
    """Too few spikes to form a unit."""

    status = "insufficient_activity"
    advice = (
        "The recording is too silent to sort; rule out a wrong gain, data type or probe geometry first, "
        "then lower the detection thresholds or skip it."
    )
    sorter: str | None
    threshold_crossings: int | None
    units_at_failure: int | None
    nspks_at_failure: int | None
    log_path: str | None
    findings: list[Any] | None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        findings = self.findings if isinstance(self.findings, list) else []
        advice = [finding["advice"] for finding in findings if isinstance(finding, Mapping)]
        if advice:
            # The class's own would send people to look for what has been ruled out.
            vars(self)["advice"] = " ".join(dict.fromkeys(advice))


class NoGoodChannelsError(BiologicalSortFailure):
    """Every channel is bad."""

    status = "no_good_channels"
    advice = "Check the electrodes and the wiring, or name the channels to keep with bad_channels=[...]."
    sorter: str | None
    total_channels: int | None
    bad_channels: list[Any] | None
    log_path: str | None


class SaturatedSignalError(BiologicalSortFailure):
    """The channels sit at the rail of the amplifier."""

    status = "saturated_signal"
    advice = "Check the electrodes and their contact with the fluid; the amplifier is at its rail."
    channels_saturated: int | None
    total_channels: int | None


class EmptyWaveformMetricsError(BiologicalSortFailure, ValueError):
    """A metric needs waveforms, and there are none."""

    status = "no_waveforms"
    advice = "Attach raw_data and call compute_waveform_metrics(), or leave this criterion out."
    metric_name: str | None


class RecordingUnreadableError(BiologicalSortFailure):
    """The file is missing, truncated, damaged, or of a kind nobody can read."""

    status = "recording_unreadable"
    advice = "Check that the file is complete and of a supported format; copy it again from its source."
    path: str | None
    offset: int | None


class RecordingsDifferError(BiologicalSortFailure, ValueError):
    """Files that are to be sorted as one recording were not made with one array and one set of settings."""

    status = "recordings_differ"
    advice = (
        "Sort them one by one, as a list of files, or put only recordings of one array, made with the same settings, "
        "into one folder."
    )
    path: str | None


class ProbeMisfitError(RecordingUnreadableError, ValueError):
    """The probe file cannot be read, contradicts itself, or does not fit the recording."""

    status = "probe_misfit"
    advice = (
        "Give the probe that this recording was made with: name its file in probe_path, put it beside the recording, "
        "or attach it with recording.set_probegroup."
    )


# ------------------------------------------------------- environment: the machine is not set up for the job


class EnvironmentSortFailure(SpikeSortingClassifiedError):
    """The machine, its software or its settings do not allow the sort."""

    status = "environment_failure"
    category = "environment"
    advice = "Stop and fix the environment; every recording would fail in the same way."


class ConcurrentSortError(EnvironmentSortFailure):
    """Another run holds this folder."""

    status = "concurrent_sort"
    advice = "Wait until the other run has ended, or use another results folder."
    retry = "later"
    lock_path: str | None
    holder_pid: int | None
    holder_hostname: str | None
    started_at: str | None


class HDF5PluginMissingError(EnvironmentSortFailure):
    """The file is compressed with an HDF5 filter that is not installed."""

    status = "hdf5_plugin_missing"
    advice = (
        "Get the compression plugin (libcompression.so on Linux) from the maker of the recording system, put it "
        "in a folder, and name that folder in hdf5_plugin_path or in the variable HDF5_PLUGIN_PATH."
    )
    configured_path: str | None


class DockerEnvironmentError(EnvironmentSortFailure):
    """Docker cannot run the sorter."""

    status = "docker_environment"
    advice = "Start Docker and check that `docker run hello-world` works for this user."
    reason: str | None


class ModelLoadingError(EnvironmentSortFailure):
    """The detection model of a sorter cannot be loaded."""

    status = "model_loading"
    advice = "Name a folder with init_dict.json and state_dict.pt in rt_sort_model_path."
    sorter: str | None
    model_path: str | None


class PreflightError(EnvironmentSortFailure):
    """A check before the sort found a reason not to start."""

    status = "preflight"
    advice = "Follow the advice of each finding, then start again."
    findings: list[Any] | None


class SorterNotInstalledError(EnvironmentSortFailure):
    """The sorter, or a version of it that was tested, is not installed."""

    status = "sorter_not_installed"
    advice = "Install the sorter: pip install 'kilosort>=4.1.7,<4.2' torch, or set kilosort_path for Kilosort2."
    sorter: str | None
    missing: str | None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        if self.sorter == "rt_sort":
            # The class's own is about programs that RT-Sort has no use for.
            vars(self)["advice"] = "Build its environment with `spikelab rt-sort-env FOLDER`, and set rt_sort_python."


# ------------------------------------------------------------------ resource: the job was too big right now


class ResourceSortFailure(SpikeSortingClassifiedError):
    """The job exhausted something that the machine has only so much of."""

    status = "resource_failure"
    category = "resource"
    advice = "Retry with smaller settings."
    retry: ClassVar[Retry] = "smaller"


class GPUOutOfMemoryError(ResourceSortFailure):
    """The GPU had no memory left."""

    status = "oom_gpu"
    advice = "Retry with a smaller batch_size or clear_cache=True, or free the GPU."
    sorter: str | None
    log_path: str | None
    stage: str | None


class HostOutOfMemoryError(ResourceSortFailure, MemoryError):
    """The machine had no memory left: killed by the kernel, or an allocation failed."""

    status = "oom_host_ram"
    advice = "Lower n_jobs or total_memory, or close other programs."
    sorter: str | None
    log_path: str | None
    stage: str | None


class GpuLostError(ResourceSortFailure):
    """The GPU fell off the bus."""

    status = "gpu_lost"
    advice = "A driver or hardware fault: reboot before the device is used again."
    retry = "never"
    device_index: int | None


class UnkillableProcessError(ResourceSortFailure):
    """A process ignores SIGKILL."""

    status = "unkillable"
    advice = "The process hangs in the kernel (a dead network share or driver); reboot when you can."
    retry = "never"
    pid: int | None
    wchan: str | None


class GpuMemoryWatchdogError(ResourceSortFailure):
    """GPU memory crossed its limit."""

    status = "oom_gpu"
    advice = "Retry with a smaller batch_size, free the GPU, or raise gpu_abort_pct."
    device_index: int | None
    used_pct_at_trip: float | None
    abort_pct: float | None


class HostMemoryWatchdogError(ResourceSortFailure):
    """Memory of the machine crossed its limit."""

    status = "oom_host_ram"
    advice = "Lower n_jobs or total_memory, or raise host_ram_abort_pct."
    retry = "never"
    percent_at_trip: float | None
    abort_pct: float | None


class GpuThermalWatchdogError(ResourceSortFailure):
    """The GPU is too hot."""

    status = "gpu_thermal"
    advice = "Let the GPU cool and check airflow, dust and room temperature."
    retry = "later"
    device_index: int | None
    temperature_c_at_trip: float | None
    abort_temp_c: float | None


class SorterTimeoutError(ResourceSortFailure):
    """The sorter showed no sign of life for too long."""

    status = "sorter_timeout"
    advice = "Look at the stack to see where it hung; raise sorter_inactivity_max_s if it was only slow."
    retry = "never"
    sorter: str | None
    inactivity_s: float | None
    log_path: str | None
    stack: str | None


class DiskExhaustionError(ResourceSortFailure):
    """A disk is full, or nearly so."""

    status = "disk_exhausted"
    advice = "Free disk space; disk_exhaustion_report.json lists what takes it."
    retry = "later"
    folder: str | None
    free_gb_at_trip: float | None
    abort_threshold_gb: float | None
    report: str | None


class IOStallError(ResourceSortFailure):
    """A disk or network share no longer answers."""

    status = "io_stall"
    advice = "Check the network share or the disk before trying again."
    retry = "later"
    device: str | None
    stall_s: float | None


# ------------------------------------------------------------------------------------------- everything else


class SorterCrashedError(SpikeSortingClassifiedError):
    """A worker process died without saying why."""

    status = "sorter_crashed"
    advice = "The log's last lines are in the report; if they do not explain it, report it with them."
    sorter: str | None
    exit_name: str | None
    log_path: str | None
    log_tail: str | None


class UnclassifiedSortError(RuntimeError):
    """An unexpected error in a worker, with the traceback it had there.

    Parameters
    ----------
    message : str
        Type and message of the original error.
    stage : str or None
        Stage in which it happened.
    remote_traceback : str
        Traceback of the worker process.
    """

    status: ClassVar[str] = "failed"
    category: ClassVar[str] = "unclassified"
    advice: ClassVar[str] = "This failure is not known yet: the traceback and the log are in the report."

    def __init__(self, message: str, *, stage: str | None = None, remote_traceback: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        where = f" (in stage {self.stage})" if self.stage else ""
        return f"{super().__str__()}{where}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_unclassified, (str(self.args[0]), self.stage, self.remote_traceback)


def _rebuild_unclassified(message: str, stage: str | None, remote_traceback: str) -> UnclassifiedSortError:
    return UnclassifiedSortError(message, stage=stage, remote_traceback=remote_traceback)


CLASSIFIED_FAILURES: tuple[type[SpikeSortingClassifiedError], ...] = (
    BiologicalSortFailure,
    EnvironmentSortFailure,
    ResourceSortFailure,
    SorterCrashedError,
)
"""The families: catch this tuple to handle every classified failure."""


def error_from_dict(description: Mapping[str, Any]) -> SpikeSortingClassifiedError:
    """Return the error that `description` (from ``to_dict``) was made of.

    A class that is not known here, such as that of a plug-in, becomes the base class with its name in the message.
    """
    name, message = description["error_class"], description["message"]
    for cls in _with_subclasses(SpikeSortingClassifiedError):
        if cls.__name__ == name:
            return cls(message, **description["details"])
    return SpikeSortingClassifiedError(f"{name}: {message}")


def _with_subclasses(cls: type[SpikeSortingClassifiedError]) -> Iterator[type[SpikeSortingClassifiedError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _with_subclasses(sub)
