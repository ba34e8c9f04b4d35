"""The jobs of a call: checked together, run one after the other or side by side, one outcome each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Literal

from spikelab.spike_sorting._exceptions import BiologicalSortFailure, IOStallError, SpikeSortingClassifiedError
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.forecast.estimates import estimates_of
from spikelab.spike_sorting.forecast.history import runs_of_this_machine
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import SKIPPED, Outcome, RecordingResult, SortRunReport, describe_error
from spikelab.spike_sorting.pipeline import Observer, is_finished, run_recording
from spikelab.spike_sorting.preflight import Finding, error_from, findings_for, raise_for
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.run import findings_on
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.report import write_batch_report
from spikelab.spike_sorting.roster import announced
from spikelab.spike_sorting.schedule import look_ahead
from spikelab.spike_sorting.supervision.awake import stay_awake
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.disk import stalls
from spikelab.spike_sorting.supervision.resources import Resources
from spikelab.spike_sorting.supervision.slots import GpuSlots

_log = logging.getLogger(__name__)

_SIGNALS_S = 0.5
"""How long Ctrl-C may go unheard."""
_GLANCE_S = 10.0
"""Time for the report of a batch of which a disk does not answer (s)."""

OnError = Literal["raise", "continue"]


def run_jobs(
    jobs: Sequence[Job],
    *,
    on_error: OnError = "raise",
    max_parallel: int | None = None,
    out_report: SortRunReport | None = None,
    observer: Observer | None = None,
    on_outcome: Callable[[Job, Outcome], None] | None = None,
    on_findings: Callable[[list[Finding]], None] | None = None,
    slots: GpuSlots | None = None,
) -> list[Outcome]:
    """Check jobs, run them, and return one outcome each, in order.

    Parameters
    ----------
    jobs : sequence of Job
        From ``jobs.plan``.
    on_error : {"raise", "continue"}, default "raise"
        Whether the first failure ends the batch and is raised.
    max_parallel : int or None, default None
        Recordings in flight at once, as far as cores and memory allow. None: one more than there are GPUs, so that
        each GPU sorts while another recording is loaded or measured; 1 on the CPU.
    out_report : SortRunReport or None, default None
        Gets the records, for failures too.
    observer, on_outcome : callable or None, default None
        Told of progress, and of each outcome as it comes.
    on_findings : callable or None, default None
        Told what the checks before the start have found; None: the log is.
    slots : GpuSlots or None, default None
        The GPUs; None for those of this machine.
    """
    if on_error not in {"raise", "continue"}:
        msg = f"on_error must be 'raise' or 'continue', got {on_error!r}"
        raise ValueError(msg)
    if max_parallel is not None and max_parallel < 1:
        msg = f"max_parallel must be at least 1, got {max_parallel}"
        raise ValueError(msg)
    slots = slots or GpuSlots()
    report = out_report if out_report is not None else SortRunReport()
    try:
        jobs = _with_problems(jobs, on_error)
        flight, batch = look_ahead(jobs, max_parallel, slots, looked_at=_to_be_looked_at(jobs))
        jobs = _checked(jobs, batch, on_error, on_findings or _log_findings)
    except SpikeSortingClassifiedError as error:
        for job in jobs:
            report.add(not_started(job, error))
        raise
    keep_awake = any(job.config.execution.prevent_system_sleep for job in jobs)
    with stay_awake(keep_awake), announced(places_of(jobs), flight.n_parallel, flight.n_gpus), closing(slots.driver):
        resources = Resources.for_batch(slots, flight.n_parallel)
        outcomes = _SideBySide(resources, on_error, observer, on_outcome).run(jobs)
    for outcome in outcomes:
        report.add(outcome.result)
    report_batch(jobs, [outcome.result for outcome in outcomes])
    raise_first(outcomes, on_error)
    return outcomes


def run_one(
    job: Job,
    resources: Resources,
    *,
    stop: Event | None = None,
    run_id: str | None = None,
) -> Outcome:
    """Check and run one job of a batch that others announce and report; always return an outcome.

    Parameters
    ----------
    job : Job
        From ``jobs.plan``.
    resources : Resources
        What it shares with the other jobs of the batch on this machine. A GPU that one has lost is not used again.
    stop : Event or None, default None
        When set, the worker is stopped and the outcome is "interrupted".
    run_id : str or None, default None
        As in ``pipeline.run_recording``.
    """
    try:
        (job,) = _with_problems([job], "continue")
        n_parallel = resources.n_parallel
        _, batch = look_ahead([job], n_parallel, resources.slots, looked_at=_to_be_looked_at([job]))
        (job,) = _checked([job], replace(batch, n_parallel=n_parallel), "continue", _log_findings)
    except SpikeSortingClassifiedError as error:
        job = replace(job, problem=error)
    with stay_awake(job.config.execution.prevent_system_sleep):
        return run_recording(job, stop=stop, resources=resources, run_id=run_id)


def _with_problems(jobs: Sequence[Job], on_error: OnError) -> list[Job]:
    """Return the jobs, those that cannot begin marked as such; raise what speaks against all of them."""
    for config in dict.fromkeys(job.config for job in jobs):
        backend = get_backend(config.sorter.sorter_name)
        backend.check_params(config)
        backend.check_installed(config)
    jobs = _with_dead_disks_marked(jobs)
    if on_error == "raise":
        for job in jobs:
            if job.problem is not None:
                raise job.problem
    return jobs


def _to_be_looked_at(jobs: Sequence[Job]) -> list[Job]:
    return [
        job for job in jobs if job.config.execution.preflight and not _is_on_dead_disk(job) and not is_finished(job)
    ]


def _checked(
    jobs: Sequence[Job], batch: Batch, on_error: OnError, on_findings: Callable[[list[Finding]], None]
) -> list[Job]:
    """Return the jobs, those that cannot be sorted marked as such; raise what speaks against the whole batch."""
    findings = findings_on(batch) if batch.recordings else []
    estimates = estimates_of(batch, runs_of_this_machine()) if batch.recordings else {}
    on_findings(findings)
    strict = any(job.config.execution.preflight_strict for job in batch.jobs)
    if on_error == "raise":
        raise_for(findings, strict=strict)
    raise_for(findings_for(findings, None), strict=strict)
    known = [replace(job, estimate=estimates.get(job.run.results)) for job in jobs]
    return [_with_findings(job, findings_for(findings, job), strict=strict) for job in known]


def _with_dead_disks_marked(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs, those of which a disk does not answer with that as their problem: nobody waits for it twice."""
    limit_s = max((job.config.execution.io_stall_s for job in jobs), default=0.0)
    dead = stalls([job.places for job in jobs], limit_s)
    return [replace(job, problem=dead.get(number, job.problem)) for number, job in enumerate(jobs)]


def places_of(jobs: Sequence[Job]) -> list[Path]:
    """Return the results folders to announce: none is made for recordings alone that cannot be sorted."""
    made = {job.run.results.parent for job in jobs if job.problem is None}
    return [job.run.results for job in jobs if job.run.results.parent in made]


def _is_on_dead_disk(job: Job) -> bool:
    return isinstance(job.problem, IOStallError)


def _with_findings(job: Job, findings: list[Finding], *, strict: bool) -> Job:
    """Return the job with what speaks against it, or else with what its report should mention."""
    problem = job.problem or error_from(findings, strict=strict)
    remarks = tuple(Remark(one.code, one.message, one.advice) for one in findings if one.level == "warning")
    return replace(job, problem=problem, remarks=(*job.remarks, *remarks))


def _log_findings(findings: list[Finding]) -> None:
    levels = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}
    for finding in findings:
        _log.log(levels[finding.level], "%s: %s %s", finding.subject, finding.message, finding.advice)


class _SideBySide:
    """The recordings of a batch, side by side; what becomes of one touches no other.

    Parameters
    ----------
    resources : Resources
        What they share.
    on_error : {"raise", "continue"}
        Whether none begins any more after the first failure.
    observer, on_outcome : callable or None
        Told of progress, and of each outcome as it comes.
    """

    def __init__(
        self,
        resources: Resources,
        on_error: OnError,
        observer: Observer | None,
        on_outcome: Callable[[Job, Outcome], None] | None,
    ) -> None:
        self._resources, self._on_error = resources, on_error
        self._observer, self._on_outcome = observer, on_outcome
        self._stop, self._ended = Event(), Event()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Return one outcome per job, in order."""
        with ThreadPoolExecutor(max_workers=self._resources.n_parallel, thread_name_prefix="spikelab") as pool:
            futures: list[Future[Outcome]] = []
            try:
                futures += [pool.submit(self._one, job) for job in jobs]
                # Not for ever: a signal that another thread takes wakes nobody who waits for a lock.
                while wait(futures, timeout=_SIGNALS_S).not_done:
                    pass
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                # Workers are stopped by their own threads; what is finished stays finished.
                self._stop.set()
                return [_interrupted(future) for future in futures]
            except BaseException:
                # Something else, such as a signal that raises SystemExit: it does not wait for the night.
                self._stop.set()
                raise

    def _one(self, job: Job) -> Outcome:
        if self._ended.is_set() or self._stop.is_set():
            return skipped(job)
        outcome = run_recording(job, observer=self._observer, stop=self._stop, resources=self._resources)
        if outcome.error is not None and self._on_error == "raise":
            self._ended.set()
        if self._on_outcome is not None:
            self._on_outcome(job, outcome)
        return outcome


def _interrupted(future: Future[Outcome]) -> Outcome:
    return replace(future.result(), error=KeyboardInterrupt())


def skipped(job: Job) -> Outcome:
    """Return the outcome of a job that did not begin."""
    return Outcome(result_without_run(job, status=SKIPPED))


def not_started(job: Job, error: SpikeSortingClassifiedError) -> RecordingResult:
    """Return the record of a job in a batch that `error` kept from starting: failed where it is the job's own."""
    if job.problem is not None:
        return result_without_run(job, **describe_error(job.problem))
    if isinstance(error, BiologicalSortFailure):
        return result_without_run(job, status=SKIPPED)
    return result_without_run(job, **{**describe_error(error), "status": SKIPPED})


def result_without_run(job: Job, **fields: Any) -> RecordingResult:
    """Return the record of a job of which there was no run, with `fields` as they are."""
    return RecordingResult(rec_name=job.name, rec_path=job.path, results_folder=str(job.run.results), **fields)


def report_batch(jobs: Sequence[Job], records: Sequence[RecordingResult]) -> None:
    """Write the report of the batch; one that cannot be written costs neither a result nor its error."""
    limit_s = max((job.config.execution.io_stall_s for job in jobs), default=0.0)
    if any(record.status == IOStallError.status for record in records):
        limit_s = min(limit_s, _GLANCE_S)  # a disk is known to be dead: nobody waits for it twice
    with_pages = any(job.config.execution.generate_sorting_report for job in jobs)
    try:
        Deadline("the disk of the batch's report", limit_s).call(
            partial(write_batch_report, records, with_pages=with_pages)
        )
    except Exception:  # noqa: BLE001 - told in the log
        _log.exception("the report of the batch could not be written")


def raise_first(outcomes: Sequence[Outcome], on_error: OnError) -> None:
    """Raise the first error, as `on_error` says; a Ctrl-C always."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for error in errors:
        if on_error == "raise" or isinstance(error, KeyboardInterrupt):
            raise error
