"""What a Dask worker does: one recording, as it would be sorted on a machine of its own.

The worker's process is the orchestrator: it holds the locks and starts guardian and sorter as any caller does. If it
dies, the guardian ends the sorter. If its recording is no longer wanted, or is another's by now, the sorter is stopped
in the way of Ctrl-C.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import (
    ConcurrentSortError,
    IOStallError,
    SpikeSortingClassifiedError,
    UnclassifiedSortError,
    error_from_dict,
)
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.batch import run_one
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import INTERRUPTED, Outcome, RecordingResult
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.schedule import devices_for
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.deadline import Deadline, NoAnswerError
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, is_earlier_try, read_card
from spikelab.spike_sorting.supervision.resources import Resources
from spikelab.spike_sorting.supervision.slots import GpuSlots

GPU = "GPU"
"""The resource of a Dask worker that stands for one GPU."""
_LOOK_S = 0.5
"""Time between two looks at whether the recording is still wanted (s)."""
_LOOP_S = 60.0
"""Time for the loop of a worker, which ends with it, to answer (s)."""


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker says of its machine before anything is sorted there.

    Parameters
    ----------
    host : str
        Name of the machine.
    version : str
        Version of spikelab.
    gpus : float
        GPUs that the worker advertises.
    missing : tuple of str
        Files and folders that do not exist there.
    lacks : str or None
        Why it cannot sort; None where it can.
    threads : int
        Recordings that it sorts at once where none takes a GPU.
    """

    host: str
    version: str
    gpus: float
    missing: tuple[str, ...]
    lacks: str | None
    threads: int


async def look_around(
    configs: Sequence[Mapping[str, Any]], places: Sequence[str], disks_s: float, dask_worker: Any
) -> dict[str, Any]:
    """Return the `WorkerFacts` of this worker as plain values.

    Parameters
    ----------
    configs : sequence of mapping
        Settings of the sorts.
    places : sequence of str
        What must be there.
    disks_s : float
        Time for the disks of the machine to say whether it is (s).
    dask_worker : Worker
        Given by Dask, which goes by the name.

    Raises
    ------
    IOStallError
        A disk hangs.
    """
    from spikelab import __version__

    state = dask_worker.state
    gpus = float(state.total_resources.get(GPU, 0))
    # Beside the loop of the worker, which must go on answering.
    lacks = await asyncio.to_thread(_lack, configs)
    missing = await asyncio.to_thread(_missing_within, places, disks_s)
    return asdict(WorkerFacts(host.host_name(), __version__, gpus, missing, lacks, state.nthreads))


def _lack(configs: Sequence[Mapping[str, Any]]) -> str | None:
    try:
        for values in configs:
            config = SortingPipelineConfig.from_dict(values)
            get_backend(config.sorter.sorter_name).check_installed(config)
    except (SpikeSortingClassifiedError, ValueError) as error:
        return str(error)
    return None


def _missing_within(places: Sequence[str], limit_s: float) -> tuple[str, ...]:
    try:
        return Deadline("a disk of the recordings", limit_s).call(partial(_missing, places))
    except NoAnswerError as error:
        raise IOStallError(str(error), stall_s=limit_s) from None


def _missing(places: Sequence[str]) -> tuple[str, ...]:
    return tuple(place for place in places if not Path(place).exists())


def sort_one(described: Mapping[str, Any], batch: str, number: int, on_gpu: bool) -> dict[str, Any]:
    """Sort a recording on the worker that runs this, and return what came of it as plain values.

    Those are the "outcome" (from `tell`), and where the worker is "spent", having lost the GPUs that the recording may
    have, its address and the error that says so. A worker that was spent before has no outcome.

    Parameters
    ----------
    described : mapping
        The job, from ``Job.to_dict``.
    batch : str
        Id of the batch.
    number : int
        Number of the job in it: with the batch the id of the run, the same in every try of it.
    on_gpu : bool
        Whether the job has asked for a GPU of the worker.
    """
    from distributed import Reschedule, get_worker

    worker = get_worker()
    job, run_id = Job.from_dict(described), f"{batch}-{number}.{uuid.uuid4().hex}"
    resources = resources_of(worker, batch, on_gpu=on_gpu)
    if (spent := _spent(worker, resources.slots, job)) is not None:
        return {"outcome": None, "spent": spent}
    before = read_card(job.run.results / LOCK_NAME)
    if is_earlier_try(before, run_id):
        found = f"the worker on {before.get('hostname')} was lost; this one continued from what was finished"
        job = replace(job, remarks=(remark("worker-lost", found),))
    with _stopped_when_unwanted(worker, job, run_id) as stop:
        outcome = run_one(job, resources, stop=stop, run_id=run_id)
    if stop.is_set() and _is_ending(worker):
        # The time of the worker is over, not that of the recording: another one continues.
        raise Reschedule
    return {"outcome": tell(outcome), "spent": _spent(worker, resources.slots, job)}


def resources_of(worker: Any, batch: str, *, on_gpu: bool) -> Resources:
    """Return what the recordings of a batch share on a worker, those on its GPUs or the others.

    It lasts as long as the worker: what one recording takes, others wait for, and a GPU that one has lost, none uses
    again.
    """
    from distributed.utils import sync

    n_parallel = worker.state.nthreads
    if on_gpu:
        n_parallel = min(n_parallel, int(worker.state.total_resources.get(GPU, 1)))

    async def look_up() -> Resources:
        name = f"spikelab-{batch}-{'gpu' if on_gpu else 'cpu'}"
        if name not in worker.plugins:
            worker.plugins[name] = Resources.for_batch(GpuSlots(), max(1, n_parallel))
        found: Resources = worker.plugins[name]
        return found

    # In the loop of the worker, which looks through its plugins at any time.
    return sync(worker.loop, look_up, callback_timeout=_LOOP_S)  # type: ignore[no-any-return]


def _spent(worker: Any, slots: GpuSlots, job: Job) -> dict[str, Any] | None:
    """Return the address of the worker, and why it can sort this job no more; None where it can."""
    try:
        slots.usable(devices_for(slots, "sort", job.config))
    except SpikeSortingClassifiedError as error:
        return {"address": worker.address, "error": error.to_dict()}
    return None


@contextmanager
def _stopped_when_unwanted(worker: Any, job: Job, run_id: str) -> Iterator[threading.Event]:
    """Yield what is set when nobody waits for the recording any more, or another run has its folders."""
    stop, done, key = threading.Event(), threading.Event(), worker.get_current_task()

    def look() -> None:
        was_ours = False
        while not (_is_ending(worker) or not _is_wanted(worker, key)):
            is_ours = _is_ours(job, run_id)
            # Before the run has taken them over, the folders are those of an earlier try.
            if was_ours and not is_ours:
                break
            was_ours = is_ours
            if done.wait(_LOOK_S):
                return
        stop.set()

    # A daemon: a disk that hangs must not keep the process.
    threading.Thread(target=look, name="spikelab-cluster", daemon=True).start()
    try:
        yield stop
    finally:
        done.set()


def _is_wanted(worker: Any, key: Any) -> bool:
    """Return whether the scheduler still waits for the task `key`: it forgets those of a client that has gone."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"


def _is_ending(worker: Any) -> bool:
    return worker.status.name in {"closing", "closed", "failed", "stopping", "stopped"}


def _is_ours(job: Job, run_id: str) -> bool:
    try:
        job.run.check_still_ours(run_id)
    except ConcurrentSortError:
        return False
    return True


# ------------------------------------------------------------------------------------------- between machines


def tell(outcome: Outcome) -> dict[str, Any]:
    """Return `outcome` as plain values, for another machine."""
    error = outcome.error
    classified = error.to_dict() if isinstance(error, SpikeSortingClassifiedError) else None
    unexpected = _unexpected(error) if isinstance(error, UnclassifiedSortError) else None
    return {"result": outcome.result.to_dict(), "classified": classified, "unexpected": unexpected}


def _unexpected(error: UnclassifiedSortError) -> dict[str, str]:
    """Return what makes the error again beside its stage, which its text names by itself."""
    return {"message": str(error.args[0]), "remote_traceback": error.remote_traceback}


def told(values: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `values` (from `tell`) describe."""
    result = RecordingResult.from_dict(values["result"])
    if result.succeeded:
        return Outcome(result)
    if result.status == INTERRUPTED:
        return Outcome(result, KeyboardInterrupt("stopped"))
    if values["classified"] is not None:
        return Outcome(result, error_from_dict(values["classified"]))
    unexpected = values["unexpected"] or {"message": result.error_message or result.status}
    return Outcome(result, UnclassifiedSortError(stage=result.stage, **unexpected))
