"""The watch over one worker of a job: sensors by its settings, events to the journal, numbers to the curve."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from spikelab.spike_sorting._exceptions import (
    DiskExhaustionError,
    GpuMemoryWatchdogError,
    HostMemoryWatchdogError,
    HostOutOfMemoryError,
    IOStallError,
    SorterTimeoutError,
    SpikeSortingClassifiedError,
)
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.curve import CurveWriter
from spikelab.spike_sorting.supervision.disk import disk_report
from spikelab.spike_sorting.supervision.gpu import NvmlGpu
from spikelab.spike_sorting.supervision.monitor import Monitor, MonitorEvent, Trip
from spikelab.spike_sorting.supervision.process import ExitStatus, WorkerProcess
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.readings import SystemReadings
from spikelab.spike_sorting.supervision.sensors import Watched, build_sensors

POLL_S = 1.0
_STACK_LINES = 60
_STACK_BEGINS = "Fatal Python error"


@dataclass
class Watch:
    """One worker under watch.

    Parameters
    ----------
    monitor : Monitor
        Looks at the sensors.
    readings : SystemReadings
        What the sensors ask.
    oom_kills_before : int or None
        How often the kernel had killed for lack of memory when the worker began.
    """

    monitor: Monitor
    readings: SystemReadings
    oom_kills_before: int | None
    _polled_s: float = float("-inf")

    def poll_when_due(self) -> Trip | None:
        """Look once a second; return why the worker must be stopped, or None."""
        now = time.monotonic()
        if now - self._polled_s < POLL_S:
            return None
        self._polled_s = now
        return self.monitor.poll()

    def kernel_killed(self) -> bool:
        """Return whether the kernel has killed for lack of memory since the worker began."""
        after = self.readings.oom_kills()
        counted = after is not None and self.oom_kills_before is not None
        return counted and (after or 0) > (self.oom_kills_before or 0)


@contextmanager
def watching(
    job: Job, config: SortingPipelineConfig, phase: Phase, worker: WorkerProcess, arbiter: MemoryArbiter | None
) -> Iterator[Watch]:
    """Watch `worker` inside the ``with`` block."""
    run, execution = job.run, config.execution
    readings = SystemReadings(worker.pid, run.log, run.progress)
    gpu = NvmlGpu()
    watched = Watched(
        pid=worker.pid,
        log_path=run.log,
        progress_path=run.progress,
        inter_folder=run.inter,
        results_folder=run.results,
        sorter=config.sorter.sorter_name,
        recording_min=run.recorded_s() / 60,
        gpu_index=_gpu_index(config, phase, gpu),
        phase=phase,
    )
    curve = CurveWriter(run.curve, clock=time.monotonic)
    monitor = Monitor(
        build_sensors(execution, watched, readings, gpu, arbiter=arbiter),
        clock=time.monotonic,
        on_event=lambda event: _to_journal(run, event),
        curve=curve,
    )
    try:
        with arbiter.member(worker.pid) if arbiter is not None else nullcontext():
            yield Watch(monitor, readings, readings.oom_kills())
    finally:
        curve.flush()
        gpu.close()


def stop_for(worker: WorkerProcess, trip: Trip) -> ExitStatus:
    """End the worker in the way that fits: at once where memory is short, with its stacks where it hangs."""
    if isinstance(trip.error, (HostMemoryWatchdogError, GpuMemoryWatchdogError)):
        return worker.kill()
    if isinstance(trip.error, (SorterTimeoutError, IOStallError)):
        return worker.abort()
    return worker.stop()


def with_evidence(trip: Trip, run: RunFolder, started_free_gb: float | None) -> SpikeSortingClassifiedError:
    """Return the trip's error with what only shows after the stop: the stack of a hang, what fills the disk."""
    error = trip.error
    if isinstance(error, SorterTimeoutError):
        error.stack = stack_in(run.log_tail(4 * _STACK_LINES))
    if isinstance(error, DiskExhaustionError):
        _explain_disk(error, run, started_free_gb)
    return error


def kernel_out_of_memory(job: Job, stage: str) -> HostOutOfMemoryError:
    """Return the failure of a worker that the kernel killed."""
    msg = f"the kernel killed the worker in stage {stage}: the machine, or its control group, ran out of memory"
    sorter = job.config.sorter.sorter_name
    return HostOutOfMemoryError(msg, sorter=sorter, log_path=str(job.run.log), stage=stage)


def stack_in(log: str) -> str | None:
    """Return the stacks that a worker dumped to its log last, or None."""
    lines = log.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith(_STACK_BEGINS)]
    return "\n".join(lines[begins[-1] :][:_STACK_LINES]) if begins else None


def _explain_disk(error: DiskExhaustionError, run: RunFolder, started_free_gb: float | None) -> None:
    """Write what fills the disk; small enough for the last free bytes, and left out where even they are gone."""
    folder = run.inter if error.folder is None else type(run.inter)(error.folder)
    report = disk_report(folder, error.free_gb_at_trip or 0.0, error.abort_threshold_gb or 0.0, None, started_free_gb)
    path = run.results / "disk_exhaustion_report.json"
    try:
        publish_json(path, report)
        error.report = str(path)
    except OSError:
        error.report = None


def _gpu_index(config: SortingPipelineConfig, phase: Phase, gpu: NvmlGpu) -> int | None:
    """Return the GPU that a worker uses: the first, while it sorts, unless it is told to use the processor."""
    if phase != "sort" or config.sorter.sorter_params.get("torch_device") == "cpu":
        return None
    try:
        return 0 if gpu.count() else None
    except OSError:
        return None


def _to_journal(run: RunFolder, event: MonitorEvent) -> None:
    run.journal.note(
        "watch",
        kind=event.kind,
        sensor=event.sensor,
        value=event.reading.value,
        detail=event.reading.detail,
        watched_s=round(event.at_s, 1),
    )
