"""A phase of a run in worker processes: start one, watch it, and try again where that can help."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from spikelab.spike_sorting._exceptions import (
    GpuLostError,
    IOStallError,
    SorterCrashedError,
    SpikeSortingClassifiedError,
    UnclassifiedSortError,
    UnkillableProcessError,
    error_from_dict,
)
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.containers.leftovers import sweep_command
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.forecast.throughput import Lag, Throughput
from spikelab.spike_sorting.outcome import SUCCESS, Attempt, describe_error
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.retries import Failure, decide
from spikelab.spike_sorting.run_log import log_tail
from spikelab.spike_sorting.schedule import fitted, gpu_environment, has_another_gpu, turn
from spikelab.spike_sorting.sources import plugin_environment
from spikelab.spike_sorting.stages.overcome import Overcome
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.devices import Device
from spikelab.spike_sorting.supervision.monitor import Trip
from spikelab.spike_sorting.supervision.process import EXIT_DISK_FULL, ExitStatus, WorkerProcess
from spikelab.spike_sorting.supervision.progress import Progress, read_progress
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.slots import Slot
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE
from spikelab.spike_sorting.watch import (
    Watch,
    disk_full,
    kernel_out_of_memory,
    stop_for,
    watching,
    with_evidence,
)
from spikelab.spike_sorting.work import Work

TICK_S = 0.25
"""Time between two looks at a worker."""


def run_phase(work: Work, phase: Phase) -> None:
    """Have `phase` done by a fresh worker, and again with smaller settings after a shortage of memory.

    Raises
    ------
    Exception
        What the last worker failed with.
    """
    task, failures = _Task(phase, fitted(work), Overcome()), []
    while True:
        failure = _attempt(work, task)
        if failure is None:
            return
        failures.append(failure)
        retry = decide(
            task.config,
            phase,
            failures,
            asked=work.job.config,
            another_gpu=has_another_gpu(work, phase, task.config, failure.error),
            # Of a disk that is the failure, nothing is asked.
            **_recorded(work) if failure.is_shortage else {},
        )
        if retry is None:
            raise failure.error
        task = replace(task, config=retry.config, overcome=task.overcome.and_then(retry.remark, retry.changed))
        work.remarks.append(retry.remark)
        work.note("retry", phase=phase, remark=retry.remark.message, changed=dict(retry.changed))


@dataclass(frozen=True)
class _Task:
    """What one attempt is to do: a phase, with settings that may not be those asked for any more, and why."""

    phase: Phase
    config: SortingPipelineConfig
    overcome: Overcome


@dataclass(frozen=True)
class _Orders:
    """What a worker is started with: its folder, its environment, the file that it prints into, and what it holds."""

    folder: Path
    environment: Mapping[str, str]
    log: IO[bytes]
    inherited: tuple[int, ...]
    may_leave_containers: bool = False


def _attempt(work: Work, task: _Task) -> Failure | None:
    """Let one worker do the unfinished stages of the phase when it is its turn; return what it failed with."""
    with turn(work, task.phase, task.config) as slot:
        started = time.monotonic()
        failure, exit_name = _supervised(work, task, slot)
        if (
            slot is not None
            and failure is not None
            and isinstance(failure.error, (GpuLostError, UnkillableProcessError))
        ):
            _set_aside(slot.device, failure.error, work)
    status = describe_error(failure.error)["status"] if failure else SUCCESS
    seconds = round(time.monotonic() - started, 3)
    step, gpu = failure.step if failure else None, slot.device.label if slot else None
    work.attempts.append(Attempt(task.phase, exit_name, seconds, status, step, gpu))
    work.note("worker_ended", phase=task.phase, exit=exit_name, wall_time_s=seconds, status=status)
    return failure


def _supervised(work: Work, task: _Task, slot: Slot | None) -> tuple[Failure | None, str]:
    """Start a worker, stay with it until it has ended, and return what it failed with and how it ended."""
    phase, config = task.phase, task.config
    orders = work.patiently(lambda: _prepare(work, task, slot))
    device = None if slot is None else slot.device
    on_gpu = {} if device is None else {"gpu": device.label, "gpu_key": device.key}
    try:
        with _started(work, orders) as worker, watching(work, config, phase, worker, device) as watch:
            work.note("worker_started", phase=phase, attempt=orders.folder.name, **on_gpu)
            exited, trip = _wait(worker, watch, work)
            work.keep_peaks(watch.monitor.peaks)
            if orders.may_leave_containers:
                _look_for_container(work)
            return _failure_of(work, phase, watch, exited, trip, orders.folder), exited.name
    except UnkillableProcessError as error:
        return Failure(error), "unkillable"


def _prepare(work: Work, task: _Task, slot: Slot | None) -> _Orders:
    """Write down what the next worker is to do, and make room for it."""
    run, config = work.job.run, task.config
    folder = run.new_attempt()
    described = {
        "phase": task.phase,
        "job": replace(work.job, config=config).to_dict(),
        "keys": dict(work.keys),
        "overcome": task.overcome.to_dict(),
    }
    publish_json(folder / "job.json", described)
    run.progress.unlink(missing_ok=True)
    environment = {**_environment(work, config), **gpu_environment(config, slot)}
    held = work.locks if slot is None else (*work.locks, slot.descriptor)
    in_container = task.phase == "sort" and bool(config.sorter.use_docker)
    return _Orders(folder, environment, run.log.open("ab"), held, in_container)


def _started(work: Work, orders: _Orders) -> WorkerProcess:
    with orders.log as log:
        return WorkerProcess(
            [sys.executable, "-m", "spikelab.spike_sorting.worker", str(orders.folder)],
            environment=orders.environment,
            log=log,
            status_path=orders.folder / "status.json",
            inherit=orders.inherited,
            afterwards=sweep_command(work.job.run.container_note) if orders.may_leave_containers else (),
        )


def _look_for_container(work: Work) -> None:
    """Warn of a container that the guardian could not end: it keeps memory, and a GPU that the next sort is given."""
    with suppress(IOStallError, OSError):
        if work.patiently(work.job.run.container_note.exists):
            work.remarks.append(remark("container-left", "the container of the sorter could not be removed"))


def _environment(work: Work, config: SortingPipelineConfig) -> dict[str, str]:
    sorter = get_backend(config.sorter.sorter_name).environment(config)
    plugins = plugin_environment(config.recording.hdf5_plugin_path)
    temporary = {"TMPDIR": str(work.job.run.fresh_scratch())}
    return {**host.worker_environment(work.n_threads), **temporary, **sorter, **plugins, RUN_COOKIE: work.run_id}


def _wait(worker: WorkerProcess, watch: Watch, work: Work) -> tuple[ExitStatus, Trip | None]:
    """Return how the worker ended and why it was stopped, if it was; tell the observer how far it is meanwhile."""
    throughput = Throughput(work.job.estimate.stages_s if work.job.estimate else {})
    while (exited := worker.wait(TICK_S)) is None:
        trip = None if work.stop.is_set() else watch.poll_when_due()
        if work.stop.is_set() or trip is not None:
            return _stop(worker, trip, work), trip
        _look_at_progress(work, throughput, watch)
    return exited, None


def _look_at_progress(work: Work, throughput: Throughput, watch: Watch) -> None:
    """Tell the observer how far the worker is, and everybody when it falls far behind the estimate."""
    is_due = throughput.is_due(time.monotonic())
    if work.observer is None and not is_due:
        return
    progress = work.progress()
    if progress is None:
        return
    if is_due and (lag := throughput.look(progress, time.monotonic())) is not None:
        _note_lag(work, lag)
    if work.observer is not None:
        said = f"{throughput.lag.times:.2g} times as long as estimated" if throughput.lag else None
        work.observer(work.job, replace(progress, warning=said), watch.use())


def _note_lag(work: Work, lag: Lag) -> None:
    found = (
        f"stage {lag.stage} takes at least {lag.expected_s:.0f} s at its pace, {lag.times:.2g} times the "
        f"{lag.estimated_s:.0f} s that were estimated"
    )
    work.remarks.append(remark("throughput", found))
    work.note("throughput_collapsed", stage=lag.stage, estimated_s=lag.estimated_s, expected_s=lag.expected_s)


def _stop(worker: WorkerProcess, trip: Trip | None, work: Work) -> ExitStatus:
    """Stop the worker for `trip`, or for the user, and write down who decided, why, and what it took."""
    started = time.monotonic()
    reason = {"reason": "the user"} if trip is None else {"reason": trip.sensor, "detail": trip.reading.detail}
    work.note("stopping", **reason)
    exited = worker.stop() if trip is None else stop_for(worker, trip)
    work.note("stopped", exit=exited.name, took_s=round(time.monotonic() - started, 3))
    return exited


def _set_aside(device: Device, error: SpikeSortingClassifiedError, work: Work) -> None:
    """Use the GPU no more in this batch: what hangs there would be in the way of every further recording."""
    work.resources.slots.set_aside(device, error)
    work.note("gpu_set_aside", gpu=device.index, gpu_key=device.key, reason=str(error))


def _failure_of(
    work: Work, phase: Phase, watch: Watch, exited: ExitStatus, trip: Trip | None, folder: Path
) -> Failure | None:
    """Return what a worker failed with: why it was stopped, what it said itself, or what its exit says."""
    if exited.returncode == 0 and not work.unfinished(phase):
        return None
    progress = _last_progress(work) or Progress(phase)
    if work.stop.is_set():
        return Failure(KeyboardInterrupt("stopped by the user"), progress.step)
    error = trip.error if trip is not None else _error_of_worker(work, watch, exited, progress, folder)
    # Where the disk fails or does not answer, what was seen in time is told without it.
    with suppress(IOStallError, OSError):
        error = work.patiently(lambda: with_evidence(error, work.job, watch))
    return Failure(error, progress.step, progress.stage)


def _last_progress(work: Work) -> Progress | None:
    """Return what the worker was at: the step decides which smaller settings help."""
    with suppress(IOStallError, OSError):
        return work.patiently(lambda: read_progress(work.job.run.progress))
    return None


def _error_of_worker(work: Work, watch: Watch, exited: ExitStatus, progress: Progress, folder: Path) -> Exception:
    """Return what a worker that ended by itself died of: its own word, or what the machine has to say of it."""
    said = work.patiently(lambda: _read_exit(folder))
    known = _rebuild_error(said) if said else None
    if known is not None and not isinstance(known, (SorterCrashedError, UnclassifiedSortError)):
        return known
    if watch.kernel_killed(exited, known):
        return kernel_out_of_memory(work.job, progress.stage)
    if known is not None:
        return known
    full = watch.full_folder((work.job.run.inter, work.job.run.results))
    if full is not None or exited.returncode == EXIT_DISK_FULL:
        return disk_full(full or work.job.run.inter, progress.stage)
    return _crash(work, exited, progress)


def _crash(work: Work, exited: ExitStatus, progress: Progress) -> SorterCrashedError:
    what = "ended without results" if exited.returncode == 0 else f"died ({exited.name})"
    step = f", {progress.step}" if progress.step else ""
    error = SorterCrashedError(
        f"the worker {what} in stage {progress.stage}{step}",
        sorter=work.job.config.sorter.sorter_name,
        exit_name=exited.name,
        log_path=str(work.job.run.log),
    )
    with suppress(IOStallError, OSError):
        error.log_tail = work.patiently(partial(log_tail, work.job.run.log))
    return error


def _read_exit(folder: Path) -> dict[str, Any]:
    path = folder / "exit.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _rebuild_error(said: Mapping[str, Any]) -> Exception:
    if said["classified"] is not None:
        return error_from_dict(said["classified"])
    return UnclassifiedSortError(said["message"], stage=said["stage"], remote_traceback=said["traceback"])


def _recorded(work: Work) -> dict[str, Any]:
    """Return what decides how a sort gets smaller: extent, length and size of the loaded recording."""
    marker = work.patiently(lambda: work.job.run.read_marker("load")) or {"summary": {}}
    width, height = marker["summary"].get("extent_um", (0.0, 0.0))
    return {
        "extent_um": (width, height),
        "duration_s": work.patiently(work.job.run.recorded_s),
        "n_values": work.patiently(work.job.run.recorded_values),
    }
