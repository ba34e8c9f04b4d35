"""Jobs on the workers of a cluster: handed out, watched through their folders, and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError, error_from_dict
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.batch import (
    OnError,
    not_started,
    places_of,
    raise_first,
    report_batch,
    result_without_run,
    skipped,
)
from spikelab.spike_sorting.cluster.link import Link
from spikelab.spike_sorting.cluster.task import WorkerFacts, told
from spikelab.spike_sorting.cluster.workers import can_take, check_workers, no_workers
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import INTERRUPTED, Outcome, SortRunReport, describe_error
from spikelab.spike_sorting.pipeline import Observer, run_recording
from spikelab.spike_sorting.preflight.batch import wanted_device
from spikelab.spike_sorting.roster import announced
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.lock import holder_of
from spikelab.spike_sorting.supervision.progress import Progress, read_progress
from spikelab.spike_sorting.work import Use

LOOK_S = 0.5
"""Time between two looks at the jobs (s)."""
_COUNT_S = 5.0
"""Most time between two looks at whether there are workers (s)."""
_STOP_S = 60.0
"""Time for sorters to stop (s)."""


def run_jobs_on(
    client: Any,
    jobs: Sequence[Job],
    *,
    on_error: OnError = "raise",
    out_report: SortRunReport | None = None,
    observer: Observer | None = None,
    on_outcome: Callable[[Job, Outcome], None] | None = None,
    on_started: Callable[[], None] | None = None,
    wait_s: float = 60.0,
) -> list[Outcome]:
    """Run jobs on the workers of a cluster, and return one outcome each, in order.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    jobs : sequence of Job
        From ``jobs.plan``.
    on_error : {"raise", "continue"}, default "raise"
        Whether the first failure stops all others and is raised.
    out_report : SortRunReport or None, default None
        Gets the records, for failures too.
    observer, on_outcome : callable or None, default None
        Told of progress, and of each outcome as it comes.
    on_started : callable or None, default None
        Called when the workers have been looked at.
    wait_s : float, default 60
        How long the cluster may be without a worker that can take what is left, or not answer (s).

    Raises
    ------
    EnvironmentSortFailure
        The cluster has no workers, or some that cannot sort.
    """
    if on_error not in {"raise", "continue"}:
        msg = f"on_error must be 'raise' or 'continue', got {on_error!r}"
        raise ValueError(msg)
    _refuse_in_memory(jobs)
    for config in dict.fromkeys(job.config for job in jobs):
        get_backend(config.sorter.sorter_name).check_params(config)
    report, link = out_report if out_report is not None else SortRunReport(), Link(client)
    try:
        facts = check_workers(link, jobs, wait_s)
    except SpikeSortingClassifiedError as error:
        for job in jobs:
            report.add(not_started(job, error))
        raise
    if on_started is not None:
        on_started()
    flight = _Flight(link, jobs, on_error, observer, on_outcome, wait_s)
    with announced(places_of(jobs), n_at_once(facts)):
        outcomes = flight.run(with_gpus=any(one.gpus for one in facts))
    for outcome in outcomes:
        report.add(outcome.result)
    report_batch(jobs, [outcome.result for outcome in outcomes])
    raise_first(outcomes, on_error)
    return outcomes


def n_at_once(facts: Sequence[WorkerFacts]) -> int:
    """Return how many recordings a cluster has in flight: one on each of its GPUs, else one in each thread."""
    return max(1, int(sum(one.gpus for one in facts)) or sum(one.threads for one in facts))


def _refuse_in_memory(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.in_memory is not None:
            msg = f"{job.name} lives in this process alone, and other machines cannot see it; save it to a file first"
            raise ValueError(msg)


@dataclass(frozen=True)
class _Spent:
    """Of a worker that has lost its GPU: the `error` that says so, and the `numbers` of the jobs that told it."""

    error: SpikeSortingClassifiedError
    numbers: tuple[int, ...] = ()


class _Flight:
    """The recordings of a batch on a cluster.

    Parameters
    ----------
    link : Link
        To the cluster.
    jobs : sequence of Job
        What is sorted.
    on_error : {"raise", "continue"}
        Whether the first failure stops all others.
    observer, on_outcome : callable or None
        Told of progress, and of each outcome as it comes.
    wait_s : float
        How long there may be no worker (s).
    """

    def __init__(
        self,
        link: Link,
        jobs: Sequence[Job],
        on_error: OnError,
        observer: Observer | None,
        on_outcome: Callable[[Job, Outcome], None] | None,
        wait_s: float,
    ) -> None:
        self._link, self._jobs, self._on_error = link, jobs, on_error
        self._observer, self._on_outcome, self._wait_s = observer, on_outcome, wait_s
        self._outcomes: dict[int, Outcome] = {}
        self._glances = [Deadline(f"the disk of {job.run.progress}") for job in jobs]
        self._said = [self._progress(number) for number in range(len(jobs))]
        self._on_gpu: set[int] = set()
        self._last_worker = dict.fromkeys((False, True), time.monotonic())
        self._why_none: dict[bool, SpikeSortingClassifiedError] = {}
        self._next_count = 0.0

    def run(self, *, with_gpus: bool) -> list[Outcome]:
        """Return one outcome per job, in order."""
        try:
            # Before anything runs elsewhere: what is no job for a worker needs a report alone.
            for number, job in enumerate(self._jobs):
                if job.problem is not None:
                    self._take(number, run_recording(job))
            if not self._is_to_end():
                self._hand_out(with_gpus=with_gpus)
            while len(self._outcomes) < len(self._jobs) and not self._is_to_end():
                self._look()
                time.sleep(LOOK_S)
            self._stop()
        except BaseException as error:
            # A signal that raises: sorters stop on all machines before it goes on.
            self._stop()
            if not isinstance(error, KeyboardInterrupt):
                raise
            self._outcomes = {number: replace(one, error=error) for number, one in self._outcomes.items()}
        return [self._outcomes[number] for number in range(len(self._jobs))]

    def _hand_out(self, *, with_gpus: bool) -> None:
        jobs = {number: job for number, job in enumerate(self._jobs) if number not in self._outcomes}
        self._on_gpu = {number for number, job in jobs.items() if with_gpus and wanted_device(job.config) != "cpu"}
        self._link.hand_out(jobs, self._on_gpu)

    def _is_to_end(self) -> bool:
        return self._on_error == "raise" and any(one.error is not None for one in self._outcomes.values())

    # ------------------------------------------------------------------------------------------ while it runs

    def _look(self) -> None:
        """Take in what has come back, and tell how far the rest is."""
        for address, spent in self._take_in().items():
            self._do_without(address, spent)
        for number in self._link.numbers:
            self._tell_progress(number)
        self._count_workers()

    def _take_in(self) -> dict[str, _Spent]:
        """Take in what has come back; return the workers, by address, that can do no more."""
        spent: dict[str, _Spent] = {}
        for number, came in self._link.arrived():
            if isinstance(came, Exception):
                self._take(number, self._failed(number, came))
                continue
            if came["outcome"] is not None:
                self._take(number, told(came["outcome"]))
            if came["spent"] is not None:
                address, error = came["spent"]["address"], error_from_dict(came["spent"]["error"])
                known = spent.get(address, _Spent(error))
                spent[address] = replace(known, numbers=(*known.numbers, number))
        return spent

    def _do_without(self, address: str, spent: _Spent) -> None:
        """Replace a worker that has lost its GPU by the others, or by those that are still to come."""
        self._link.send_away(address)
        there = self._link.workers()
        undone = [number for number in spent.numbers if number not in self._outcomes]
        if there is not None and address in there:  # it cannot go: it holds what somebody needs
            for number in undone:
                self._take(number, self._failed(number, spent.error))
            return
        self._link.hand_out({number: self._jobs[number] for number in undone}, self._on_gpu)
        self._why_none.update({number in self._on_gpu: spent.error for number in spent.numbers})

    def _failed(self, number: int, error: Exception) -> Outcome:
        return Outcome(result_without_run(self._jobs[number], **describe_error(error)), error)

    def _take(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome
        if self._on_outcome is not None:
            self._on_outcome(self._jobs[number], outcome)

    def _tell_progress(self, number: int) -> None:
        if self._observer is None:
            return
        said = self._progress(number)
        # What an earlier run has left there says nothing of this one.
        if said is not None and said != self._said[number]:
            self._said[number] = None
            self._observer(self._jobs[number], said, Use())

    def _progress(self, number: int) -> Progress | None:
        with suppress(OSError):
            return self._glances[number].call(lambda: read_progress(self._jobs[number].run.progress))
        return None

    def _count_workers(self) -> None:
        """Give up what no worker could have taken for too long."""
        now = time.monotonic()
        if now < self._next_count:
            return
        self._next_count = now + min(_COUNT_S, self._wait_s)
        there = self._link.workers()
        for on_gpu, last in self._last_worker.items():
            if _anybody(there or {}, on_gpu=on_gpu):
                self._last_worker[on_gpu] = now
                self._why_none.pop(on_gpu, None)
            elif now - last > self._wait_s:
                none = no_workers(self._link, there, self._wait_s, on_gpu=on_gpu)
                self._lose(on_gpu, none if there is None else self._why_none.get(on_gpu, none))

    def _lose(self, on_gpu: bool, error: SpikeSortingClassifiedError) -> None:
        """Give up the recordings that would be sorted on a GPU, or those that would not."""
        lost = [number for number in self._link.numbers if (number in self._on_gpu) == on_gpu]
        self._link.cancel(lost)
        for number in lost:
            self._take(number, self._failed(number, error))

    # ------------------------------------------------------------------------------------------------- the end

    def _stop(self) -> None:
        """Have what still runs stopped on all machines, and find out how far it came."""
        self._take_in()
        open_numbers = [number for number in range(len(self._jobs)) if number not in self._outcomes]
        there = set(self._link.numbers)
        self._link.cancel(there)
        begun = [number for number in open_numbers if number in there and self._is_held(number)]
        until = time.monotonic() + _STOP_S
        while any(map(self._is_held, begun)) and time.monotonic() < until:
            time.sleep(LOOK_S)
        for number in open_numbers:
            self._take(number, self._interrupted(number) if number in begun else skipped(self._jobs[number]))

    def _interrupted(self, number: int) -> Outcome:
        job = self._jobs[number]
        described = describe_error(KeyboardInterrupt())
        found = result_without_run(job, **{**described, "status": INTERRUPTED, "log_path": str(job.run.log)})
        return Outcome(found, KeyboardInterrupt("stopped"))

    def _is_held(self, number: int) -> bool:
        with suppress(OSError):
            return bool(self._glances[number].call(lambda: holder_of(self._jobs[number].run.results)))
        return False


def _anybody(there: Mapping[str, Mapping[str, float]], *, on_gpu: bool) -> bool:
    return any(can_take(resources, on_gpu=on_gpu) for resources in there.values())
