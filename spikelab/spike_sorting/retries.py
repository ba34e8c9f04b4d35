"""Whether a failed phase is tried again, and with which settings. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spikelab.spike_sorting._exceptions import (
    GpuLostError,
    GpuMemoryWatchdogError,
    GPUOutOfMemoryError,
    ResourceSortFailure,
    SorterCrashedError,
)
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.base import Shortage, Shrunk
from spikelab.spike_sorting.backends.binary import COPIED_BYTES_PER_PROCESS, COPYING, n_processes
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.run_folder import EXPORT
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.supervision import host

_CRASHES = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
"""Deaths that may have been bad luck: tried once more, unchanged."""


@dataclass(frozen=True)
class Failure:
    """What a worker failed with.

    Parameters
    ----------
    error : BaseException
        The error.
    step : str
        What its stage was doing.
    stage : str
        Which stage that was.
    """

    error: BaseException
    step: str = ""
    stage: str = ""

    @property
    def is_shortage(self) -> bool:
        """Whether smaller settings can help."""
        return isinstance(self.error, ResourceSortFailure) and self.error.retry == "smaller"

    @property
    def is_crash(self) -> bool:
        """Whether the process died of a fault of its own."""
        return isinstance(self.error, SorterCrashedError) and self.error.exit_name in _CRASHES


@dataclass(frozen=True)
class Retry:
    """One more attempt.

    Parameters
    ----------
    config : SortingPipelineConfig
        Its settings.
    remark : Remark
        Why, and what that means for the result, for the report.
    changed : mapping
        Settings that differ from the attempt before.
    """

    config: SortingPipelineConfig
    remark: Remark
    changed: Mapping[str, Any]


def decide(
    config: SortingPipelineConfig,
    phase: Phase,
    failures: Sequence[Failure],
    extent_um: tuple[float, float] = (0.0, 0.0),
    *,
    asked: SortingPipelineConfig | None = None,
    another_gpu: bool = False,
    duration_s: float = 0.0,
    n_values: int = 0,
) -> Retry | None:
    """Return the next attempt at `phase` after these `failures`, or None when the last one is final.

    Parameters
    ----------
    config : SortingPipelineConfig
        Settings of the attempt that failed last.
    phase : {"prepare", "sort", "finish"}
        What was attempted.
    failures : sequence of Failure
        All failures of the phase so far, the last one last.
    extent_um : tuple of float
        Width and height of the array (um).
    asked : SortingPipelineConfig or None, default None
        Settings that the user asked for; None for `config`.
    another_gpu : bool, default False
        Whether there is a GPU left, where the last failure was the loss of one.
    duration_s : float, default 0.0
        Length of the recording (s), where known.
    n_values : int, default 0
        Values in it, all channels together, where known.
    """
    last = failures[-1]
    if isinstance(last.error, GpuLostError):
        return _elsewhere(config, last) if another_gpu else None
    if last.is_crash:
        return _once_more(config, failures)
    if not last.is_shortage or sum(f.is_shortage for f in failures) > config.execution.oom_retry_max:
        return None
    wanted = (asked or config).sorter.sorter_params
    shortage = Shortage(_whose(last.error), last.step, config.execution.oom_retry_factor, extent_um, wanted, duration_s)
    if phase == "sort" and last.step != COPYING:
        shrunk = _smaller_sort(config, shortage)
    else:
        shrunk = _fewer_jobs(config, shortage, n_values) if _has_jobs(config, last) else None
    return None if shrunk is None else Retry(shrunk.config, _remark(last, shrunk), shrunk.changed)


def _whose(error: BaseException) -> Literal["gpu", "host"]:
    return "gpu" if isinstance(error, (GPUOutOfMemoryError, GpuMemoryWatchdogError)) else "host"


def _elsewhere(config: SortingPipelineConfig, lost: Failure) -> Retry:
    found = f"{lost.error}; the sort went on from its last step on another GPU"
    return Retry(config, remark("retried-elsewhere", found), {})


def _once_more(config: SortingPipelineConfig, failures: Sequence[Failure]) -> Retry | None:
    if sum(f.is_crash for f in failures) > 1:
        return None
    found = f"{failures[-1].error}; it was tried once more, unchanged"
    return Retry(config, remark("retried-unchanged", found), {})


def _smaller_sort(config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
    return get_backend(config.sorter.sorter_name).smaller(config, shortage)


def _has_jobs(config: SortingPipelineConfig, failure: Failure) -> bool:
    """Return whether what failed is done by ``n_jobs`` processes; everything else takes the same with fewer."""
    waveforms_too = failure.stage == EXPORT and config.compilation.compile_waveforms
    return failure.step == COPYING or failure.stage == "waveforms" or waveforms_too


def _fewer_jobs(config: SortingPipelineConfig, shortage: Shortage, n_values: int) -> Shrunk | None:
    """Reading and measuring take memory per process: the result is the same with fewer of those that there were."""
    now = config.execution.n_jobs or host.usable_cores()
    if n_values and shortage.step == COPYING:
        now = n_processes(config.execution, n_values, COPIED_BYTES_PER_PROCESS)
    elif n_values:
        now = n_processes(config.execution, n_values)
    then = int(now * shortage.factor)
    return Shrunk(config.override(n_jobs=then), {"n_jobs": then}, changes_result=False) if then >= 1 else None


def _remark(failure: Failure, shrunk: Shrunk) -> Remark:
    settings = ", ".join(f"{name} = {value}" for name, value in shrunk.changed.items())
    effect = "the result may differ from that of the settings asked for" if shrunk.changes_result else "same result"
    where = f" in {failure.step}" if failure.step else ""
    found = f"ran out of memory{where} ({failure.error}); tried again with {settings}: {effect}"
    return remark("retried-smaller", found)
