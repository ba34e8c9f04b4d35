"""A phase of a run in worker processes: start one, watch it, and try again where that can help."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from spikelab.spike_sorting._exceptions import SorterCrashedError, UnclassifiedSortError, error_from_dict
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import SUCCESS, Attempt, describe_error
from spikelab.spike_sorting.retries import Failure, decide
from spikelab.spike_sorting.stages.stage import Phase, Stage
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.monitor import Trip
from spikelab.spike_sorting.supervision.process import ExitStatus, WorkerProcess
from spikelab.spike_sorting.supervision.progress import Progress, read_progress
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE
from spikelab.spike_sorting.watch import Watch, kernel_out_of_memory, stop_for, watching, with_evidence

TICK_S = 0.25
"""Time between two looks at a worker."""

Observer = Callable[[Job, Progress], None]
"""Told now and then how far a recording is."""


@dataclass
class Work:
    """A job on its way: what it is, what it holds, and what has happened to it.

    Parameters
    ----------
    job : Job
        The recording, with the settings that were asked for.
    stages : tuple of Stage
        The whole sort.
    run_id : str
        Cookie of its processes.
    started_s : float
        When it began, on the monotonic clock.
    observer : callable or None
        Told of progress.
    stop : Event
        Set when the user wants to stop.
    locks : tuple of int
        Descriptors of the locks that it holds.
    keys : mapping of str to str
        Key of each stage.
    attempts : list of Attempt
        Workers so far.
    remarks : list of str
        What deserves a warning although it was overcome.
    peaks : dict
        The worst readings so far, by sensor.
    arbiter : MemoryArbiter or None
        Decides between the runs in flight when memory is short.
    n_threads : int
        Threads of each worker.
    """

    job: Job
    stages: tuple[Stage, ...]
    run_id: str
    started_s: float
    observer: Observer | None = None
    stop: Event = field(default_factory=Event)
    locks: tuple[int, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    arbiter: MemoryArbiter | None = None
    n_threads: int = 1

    def keep_peaks(self, highest: Mapping[str, float]) -> None:
        """Take in the worst readings of a worker: the highest, and of free space, which falls, the lowest."""
        for name, value in highest.items():
            worst = min if name.startswith("disk_free") else max
            self.peaks[name] = worst(value, self.peaks.get(name, value))

    def seconds(self) -> float:
        """Return how long it has taken so far."""
        return round(time.monotonic() - self.started_s, 3)

    def unfinished(self, phase: Phase) -> bool:
        """Return whether a stage of `phase` is still to be done."""
        return not all(self.job.run.is_done(s.name, self.keys[s.name]) for s in self.stages if s.phase == phase)


def run_phase(work: Work, phase: Phase) -> None:
    """Have `phase` done by a fresh worker, and again with smaller settings after a shortage of memory.

    Raises
    ------
    Exception
        What the last worker failed with.
    """
    config, failures = work.job.config, []
    while True:
        failure = _attempt(work, phase, config)
        if failure is None:
            return
        failures.append(failure)
        retry = decide(config, phase, failures, _extent_um(work))
        if retry is None:
            raise failure.error
        config = retry.config
        work.remarks.append(retry.remark)
        work.job.run.journal.note("retry", phase=phase, remark=retry.remark, changed=dict(retry.changed))


def _attempt(work: Work, phase: Phase, config: SortingPipelineConfig) -> Failure | None:
    """Let one worker do the unfinished stages of `phase`; return what it failed with."""
    run, started = work.job.run, time.monotonic()
    folder = run.new_attempt()
    described = {"phase": phase, "job": replace(work.job, config=config).to_dict(), "keys": dict(work.keys)}
    publish_json(folder / "job.json", described)
    run.progress.unlink(missing_ok=True)
    run.journal.note("worker_started", phase=phase, attempt=folder.name)
    with (
        WorkerProcess(
            [sys.executable, "-m", "spikelab.spike_sorting.worker", str(folder)],
            environment=_environment(work, config),
            log_path=run.log,
            status_path=folder / "status.json",
            inherit=work.locks,
        ) as worker,
        watching(work.job, config, phase, worker, work.arbiter) as watch,
    ):
        exited, trip = _wait(worker, watch, work)
        failure = _failure_of(work, phase, watch, exited, trip, folder)
        work.keep_peaks(watch.monitor.peaks)
    status = describe_error(failure.error)["status"] if failure else SUCCESS
    seconds = round(time.monotonic() - started, 3)
    work.attempts.append(Attempt(phase, exited.name, seconds, status, failure.step if failure else None))
    run.journal.note("worker_ended", phase=phase, exit=exited.name, wall_time_s=seconds, status=status)
    return failure


def _environment(work: Work, config: SortingPipelineConfig) -> dict[str, str]:
    sorter = get_backend(config.sorter.sorter_name).environment(config)
    # HDF5 looks for its filters when the library starts: later is too late.
    folders = [config.recording.hdf5_plugin_path, os.environ.get("HDF5_PLUGIN_PATH")]
    plugins = {"HDF5_PLUGIN_PATH": os.pathsep.join(filter(None, folders))} if any(folders) else {}
    temporary = {"TMPDIR": str(work.job.run.fresh_scratch())}
    return {**host.worker_environment(work.n_threads), **temporary, **sorter, **plugins, RUN_COOKIE: work.run_id}


def _wait(worker: WorkerProcess, watch: Watch, work: Work) -> tuple[ExitStatus, Trip | None]:
    """Return how the worker ended and why it was stopped, if it was; tell the observer how far it is meanwhile."""
    while (exited := worker.wait(TICK_S)) is None:
        trip = None if work.stop.is_set() else watch.poll_when_due()
        if work.stop.is_set() or trip is not None:
            return _stop(worker, trip, work), trip
        progress = read_progress(work.job.run.progress)
        if progress is not None and work.observer is not None:
            work.observer(work.job, progress)
    return exited, None


def _stop(worker: WorkerProcess, trip: Trip | None, work: Work) -> ExitStatus:
    """Stop the worker for `trip`, or for the user, and write down who decided, why, and what it took."""
    journal, started = work.job.run.journal, time.monotonic()
    reason = {"reason": "the user"} if trip is None else {"reason": trip.sensor, "detail": trip.reading.detail}
    journal.note("stopping", **reason)
    exited = worker.stop() if trip is None else stop_for(worker, trip)
    journal.note("stopped", exit=exited.name, took_s=round(time.monotonic() - started, 3))
    return exited


def _failure_of(
    work: Work, phase: Phase, watch: Watch, exited: ExitStatus, trip: Trip | None, folder: Path
) -> Failure | None:
    """Return what a worker failed with: why it was stopped, what it said itself, or what its exit says."""
    progress = read_progress(work.job.run.progress) or Progress(phase)
    if exited.returncode == 0 and not work.unfinished(phase):
        return None
    if work.stop.is_set():
        return Failure(KeyboardInterrupt("stopped by the user"), progress.step)
    if trip is not None:
        free = watch.monitor.first.get("disk_free_inter_gb")
        return Failure(with_evidence(trip, work.job.run, free), progress.step)
    said = _read_exit(folder)
    error = _rebuild_error(said) if said.get("status") == "failed" else _crash(work, exited, progress)
    if watch.kernel_killed() and isinstance(error, (SorterCrashedError, UnclassifiedSortError)):
        # It may have been a process of the worker's own that was killed.
        error = kernel_out_of_memory(work.job, progress.stage)
    return Failure(error, progress.step)


def _crash(work: Work, exited: ExitStatus, progress: Progress) -> SorterCrashedError:
    what = "ended without results" if exited.returncode == 0 else f"died ({exited.name})"
    step = f", {progress.step}" if progress.step else ""
    return SorterCrashedError(
        f"the worker {what} in stage {progress.stage}{step}",
        sorter=work.job.config.sorter.sorter_name,
        exit_name=exited.name,
        log_path=str(work.job.run.log),
        log_tail=work.job.run.log_tail(),
    )


def _read_exit(folder: Path) -> dict[str, Any]:
    path = folder / "exit.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _rebuild_error(said: Mapping[str, Any]) -> Exception:
    if said["classified"] is not None:
        return error_from_dict(said["classified"])
    return UnclassifiedSortError(said["message"], stage=said["stage"], remote_traceback=said["traceback"])


def _extent_um(work: Work) -> tuple[float, float]:
    marker = work.job.run.read_marker("load") or {"summary": {}}
    width, height = marker["summary"].get("extent_um", (0.0, 0.0))
    return width, height
