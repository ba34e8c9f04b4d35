"""The watch over one worker of a job: sensors by its settings, events to the journal, numbers to the curve."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spikelab.spike_sorting._exceptions import (
    DiskExhaustionError,
    GpuMemoryWatchdogError,
    HostMemoryWatchdogError,
    HostOutOfMemoryError,
    IOStallError,
    SorterCrashedError,
    SorterTimeoutError,
    UnclassifiedSortError,
)
from spikelab.spike_sorting.backends.containers.leftovers import processes
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_log import log_tail
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.supervision.curve import CurveWriter
from spikelab.spike_sorting.supervision.devices import Device
from spikelab.spike_sorting.supervision.disk import GB, FullDisk, disk_report
from spikelab.spike_sorting.supervision.monitor import Monitor, MonitorEvent, Trip
from spikelab.spike_sorting.supervision.process import STACKS_BEGIN, ExitStatus, WorkerProcess
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.readings import Readings, SystemReadings, has_killed
from spikelab.spike_sorting.supervision.sensors import Watched, build_sensors
from spikelab.spike_sorting.supervision.sensors.disk import INTER_FREE, RESULTS_FREE
from spikelab.spike_sorting.work import Use, Work

POLL_S = 1.0
_FULL_BYTES = 1 << 20
"""Less is free on a disk that is full: the last bytes of a volume are too few for a block, or for its metadata."""
_STACK_LINES = 60
_KILL = "SIGKILL"
_OF_A_KILL = re.compile(rf"{_KILL}|by signal: Killed|BrokenProcessPool|TerminatedWorkerError|terminated abruptly")
"""What Python, torch and joblib say when a process of theirs was killed."""


@dataclass
class Watch:
    """One worker under watch.

    Parameters
    ----------
    monitor : Monitor
        Looks at the sensors.
    readings : Readings
        What the sensors ask.
    oom_kills_before : int or None
        How often the kernel had killed for lack of memory when the worker began.
    device : Device or None, default None
        The GPU that the worker has.
    """

    monitor: Monitor
    readings: Readings
    oom_kills_before: int | None
    device: Device | None = None
    _polled_s: float = float("-inf")

    def poll_when_due(self) -> Trip | None:
        """Look once a second; return why the worker must be stopped, or None."""
        now = time.monotonic()
        if now - self._polled_s < POLL_S:
            return None
        self._polled_s = now
        return self.monitor.poll()

    def use(self) -> Use:
        """Return what the worker took when it was looked at last."""
        last = self.monitor.last
        return Use(
            gpu=None if self.device is None else self.device.label,
            ram_gb=last.get("run_ram_gb"),
            vram_gb=last.get("gpu_own_gb"),
            disk_free_gb=last.get(INTER_FREE),
        )

    def full_folder(self, folders: Iterable[Path]) -> Path | None:
        """Return one of `folders` on whose volume nothing can be written any more, or None."""
        return next((folder for folder in folders if self._is_full(folder)), None)

    def _is_full(self, folder: Path) -> bool:
        try:
            disk = self.readings.disk(folder)
        except OSError:
            return False
        return disk.free_bytes < _FULL_BYTES or disk.free_inodes == 0

    def free_gb(self, folder: Path) -> float | None:
        """Return the free space on the volume of `folder` (GB), or None where that cannot be told."""
        try:
            return self.readings.disk(folder).free_bytes / GB
        except OSError:
            return None

    def on_volume_of(self, folder: Path, others: Iterable[Path]) -> list[Path]:
        """Return those of `others` that are known to lie on the volume of `folder`."""
        try:
            volume = self.readings.disk(folder).volume
            return [other for other in others if self.readings.disk(other).volume == volume]
        except OSError:
            return []

    def kernel_killed(self, exited: ExitStatus, said: Exception | None) -> bool:
        """Return whether the kernel has killed the worker, or a process that it started, for lack of memory.

        The counter alone may tell of another recording: it counts for all that run in the control group, or anywhere.

        Parameters
        ----------
        exited : ExitStatus
            How the worker ended.
        said : Exception or None
            What it failed with in its own words.
        """
        if exited.name != _KILL and not _speaks_of_a_kill(said):
            return False
        return has_killed(self.oom_kills_before, self.readings.oom_kills())


@contextmanager
def watching(
    work: Work, config: SortingPipelineConfig, phase: Phase, worker: WorkerProcess, device: Device | None
) -> Iterator[Watch]:
    """Watch `worker`, and the GPU that it uses, inside the ``with`` block."""
    run, arbiter = work.job.run, work.resources.arbiter
    contained = partial(processes, run.container_note)
    readings = SystemReadings(worker.pid, run.log, run.progress, more=contained)
    watched = Watched(
        pid=worker.pid,
        log_path=run.log,
        progress_path=run.progress,
        inter_folder=run.inter,
        results_folder=run.results,
        sorter=config.sorter.sorter_name,
        recording_min=work.patiently(run.recorded_s) / 60,
        gpu_index=None if device is None else device.index,
        phase=phase,
    )
    curve = work.patiently(lambda: CurveWriter(run.curve, clock=time.monotonic))
    monitor = Monitor(
        build_sensors(config.execution, watched, readings, work.resources.slots.driver, arbiter=arbiter),
        clock=time.monotonic,
        on_event=lambda event: _to_journal(work, event),
        curve=curve,
    )
    try:
        with arbiter.member(worker.pid) if arbiter is not None else nullcontext():
            yield Watch(monitor, readings, readings.oom_kills(), device)
    finally:
        curve.flush()


def stop_for(worker: WorkerProcess, trip: Trip) -> ExitStatus:
    """End the worker in the way that fits: at once where memory is short, with its stacks where it hangs."""
    if isinstance(trip.error, (HostMemoryWatchdogError, GpuMemoryWatchdogError)):
        return worker.kill()
    if isinstance(trip.error, (SorterTimeoutError, IOStallError)):
        return worker.abort()
    return worker.stop()


def with_evidence(error: Exception, job: Job, watch: Watch) -> Exception:
    """Return `error` with what only shows after the end: the stack of a hang, what fills the disk."""
    if isinstance(error, SorterTimeoutError):
        error.stack = stack_in(log_tail(job.run.log, 4 * _STACK_LINES))
    if isinstance(error, DiskExhaustionError):
        _explain_disk(error, job, watch)
    return error


def disk_full(folder: Path, stage: str) -> DiskExhaustionError:
    """Return the failure of a worker that could not even say why it ended."""
    msg = (
        f"the disk of {folder}, or this user's share of it, is full: in stage {stage} the worker could not write down "
        "why it ended"
    )
    return DiskExhaustionError(msg, folder=str(folder))


def kernel_out_of_memory(job: Job, stage: str) -> HostOutOfMemoryError:
    """Return the failure of a worker that the kernel killed."""
    msg = f"the kernel killed the worker in stage {stage}: the machine, or its control group, ran out of memory"
    sorter = job.config.sorter.sorter_name
    return HostOutOfMemoryError(msg, sorter=sorter, log_path=str(job.run.log), stage=stage)


def _speaks_of_a_kill(said: Exception | None) -> bool:
    """Return whether a worker failed because a process that it had started was killed."""
    if isinstance(said, SorterCrashedError):
        return said.exit_name == _KILL or _OF_A_KILL.search(f"{said}\n{said.log_tail or ''}") is not None
    if isinstance(said, UnclassifiedSortError):
        return _OF_A_KILL.search(f"{said}\n{said.remote_traceback}") is not None
    return False


def stack_in(log: str) -> str | None:
    """Return the stacks that a worker dumped to its log last, or None."""
    lines = log.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith(STACKS_BEGIN)]
    return "\n".join(lines[begins[-1] :][:_STACK_LINES]) if begins else None


def _explain_disk(error: DiskExhaustionError, job: Job, watch: Watch) -> None:
    """Write what fills the disk, after making room for that: what the worker left half-written is of no use."""
    run, folder = job.run, job.run.inter if error.folder is None else Path(error.folder)
    if error.free_gb_at_trip is None:  # the worker ran into it: nobody had measured
        error.free_gb_at_trip = watch.free_gb(folder)
    folders = tuple(dict.fromkeys((folder, *watch.on_volume_of(folder, (run.inter, run.results)))))
    report = disk_report(
        FullDisk(
            folders=folders,
            free_gb=error.free_gb_at_trip,
            threshold_gb=error.abort_threshold_gb,
            projected_need_gb=_projected_need_gb(job, folders),
            started_free_gb=watch.monitor.first.get(RESULTS_FREE if folder == run.results else INTER_FREE),
        )
    )
    path = run.results / "disk_exhaustion_report.json"
    for make_room in (run.remove_leftovers, run.remove_scratch):
        with suppress(OSError):
            make_room()
    with suppress(OSError):
        publish_json(path, report)
        error.report = str(path)


def _projected_need_gb(job: Job, folders: Iterable[Path]) -> float | None:
    if job.estimate is None:
        return None
    needed = {job.run.inter: job.estimate.disk_inter_gb, job.run.results: job.estimate.disk_results_gb}
    return sum(needed[folder].likely for folder in folders if folder in needed)


def _to_journal(work: Work, event: MonitorEvent) -> None:
    work.note(
        "watch",
        kind=event.kind,
        sensor=event.sensor,
        value=event.reading.value,
        detail=event.reading.detail,
        watched_s=round(event.at_s, 1),
    )
