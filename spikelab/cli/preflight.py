"""``spikelab preflight``: what speaks against a start, and what the sorts will take, without sorting."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikelab.cli.findings import count_text, tell_findings
from spikelab.cli.output import ExitCode, bytes_text, counted, make_console, say, say_table, say_whole
from spikelab.spike_sorting.costs import Estimate, Range
from spikelab.spike_sorting.forecast.estimates import PROBE_S, estimates_of
from spikelab.spike_sorting.forecast.history import runs_of_this_machine
from spikelab.spike_sorting.forecast.model import SORT
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.pipeline import is_finished
from spikelab.spike_sorting.preflight import Finding, Machine, error_from, findings_for
from spikelab.spike_sorting.preflight.projection import Projection
from spikelab.spike_sorting.preflight.run import findings_on
from spikelab.spike_sorting.schedule import Flight, look_ahead
from spikelab.spike_sorting.supervision.slots import GpuSlots

GB = 1e9


@dataclass(frozen=True)
class Examination:
    """What is known of a batch before it starts.

    Parameters
    ----------
    jobs : tuple of Job
        The batch.
    finished : frozenset of Path
        Results folders of what is sorted already; there is nothing to check.
    findings : tuple of Finding
        What was found of the others.
    projections : mapping of Path to Projection
        What each job will take at most, by results folder; without recordings that cannot be opened.
    flight : Flight
        How many recordings are in flight at once, and on how many GPUs.
    estimates : mapping of Path to Estimate
        What each job is expected to take, time included.
    """

    jobs: tuple[Job, ...]
    finished: frozenset[Path]
    findings: tuple[Finding, ...]
    projections: Mapping[Path, Projection]
    flight: Flight
    estimates: Mapping[Path, Estimate] = field(default_factory=dict)

    @property
    def is_strict(self) -> bool:
        """Whether warnings count as errors."""
        return any(job.config.execution.preflight_strict for job in self.jobs)

    @property
    def stops_all(self) -> bool:
        """Whether nothing can be sorted here."""
        return error_from(findings_for(self.findings, None), strict=self.is_strict) is not None

    def stops(self, job: Job) -> bool:
        """Return whether something speaks against the recording of `job` itself."""
        return (
            job.problem is not None or error_from(findings_for(self.findings, job), strict=self.is_strict) is not None
        )

    @property
    def stopped(self) -> list[Job]:
        """The jobs against which something of their own speaks."""
        return [job for job in self.jobs if self.stops(job)]

    @property
    def unsorted(self) -> list[Job]:
        """The jobs that are not sorted yet."""
        return [job for job in self.jobs if job.run.results not in self.finished]

    def needs(self, job: Job) -> tuple[Projection | None, Estimate | None]:
        """Return what `job` will take at most, and what it is expected to take; None where that is not known."""
        return self.projections.get(job.run.results), self.estimates.get(job.run.results)

    def wall_time_s(self) -> Range:
        """Return what the batch takes (s)."""
        estimates = list(self.estimates.values())
        low, likely, high = (self._together_s(estimates, read) for read in _ENDS)
        return Range(low, likely, high)

    def _together_s(self, estimates: Sequence[Estimate], read: Callable[[Range], float]) -> float:
        times = [read(one.wall_time_s) for one in estimates]
        on_gpus_s = sum(_on_gpu_s(one, read) for one in estimates)
        return self.flight.together_s(times, on_gpus_s)

    def most_disk_gb(self) -> float:
        """Return the most that the batch has on disks at one time, when every recording succeeds (GB)."""
        projections = self.projections.values()
        kept = sum(one.disk_inter_gb + one.disk_results_gb - one.transient_gb for one in projections)
        return kept + sum(sorted((one.transient_gb for one in projections), reverse=True)[: self.flight.n_parallel])


_ENDS: tuple[Callable[[Range], float], ...] = (lambda one: one.low, lambda one: one.likely, lambda one: one.high)


def _on_gpu_s(estimate: Estimate, read: Callable[[Range], float]) -> float:
    """Return how long a sort has a GPU for itself (s), at an end of its range."""
    whole = estimate.wall_time_s
    if estimate.workload.device == "cpu" or not whole.likely:
        return 0.0
    return estimate.stages_s.get(SORT, 0.0) * read(whole) / whole.likely


def examine(
    jobs: Sequence[Job], parallel: int | None, slots: GpuSlots | None = None, machine: Machine | None = None
) -> Examination:
    """Check what is not sorted yet, as the sort itself does before it starts, and project what it takes.

    Parameters
    ----------
    jobs : sequence of Job
        The batch.
    parallel : int or None
        Recordings in flight at once; None for as many as a sort takes by itself.
    slots : GpuSlots or None, default None
        The GPUs; None for those of this machine.
    machine : Machine or None, default None
        Where the checks get their readings from; None for this machine.
    """
    finished = _finished(jobs)
    unfinished = [job for job in jobs if job.run.results not in finished]
    flight, batch = look_ahead(jobs, parallel, slots, looked_at=unfinished, machine=machine, probe_s=PROBE_S)
    if not unfinished:
        return Examination(tuple(jobs), finished, (), {}, flight)
    estimates = estimates_of(batch, runs_of_this_machine())
    return Examination(tuple(jobs), finished, tuple(findings_on(batch)), batch.projections, flight, estimates)


def planned(jobs: Sequence[Job]) -> Examination:
    """Return what is known of a batch that is sorted elsewhere: this machine says nothing of it."""
    return Examination(tuple(jobs), _finished(jobs), (), {}, Flight(1))


def _finished(jobs: Sequence[Job]) -> frozenset[Path]:
    return frozenset(job.run.results for job in jobs if is_finished(job))


def tell_preflight(jobs: Sequence[Job], parallel: int | None, *, as_json: bool) -> int:
    """Check, print what was found and what the sorts will take, and return the exit code."""
    with make_console(stderr=as_json).status("Checking the machine and the recordings"):
        examination = examine(jobs, parallel)
    if as_json:
        say_whole(make_console(), json.dumps(_document(examination), indent=2, allow_nan=False))
    else:
        _tell(examination, make_console())
    return ExitCode.ENVIRONMENT if examination.stops_all or examination.stopped else ExitCode.DONE


def _document(examination: Examination) -> dict[str, Any]:
    return {
        "ready": not (examination.stops_all or examination.stopped),
        "findings": [finding.to_dict() for finding in examination.findings],
        "recordings": [job_document(job, examination) for job in examination.jobs],
    }


def job_document(job: Job, examination: Examination) -> dict[str, Any]:
    """Return plain JSON values on one recording: where it is, where everything goes, and what it will take."""
    projection, estimate = examination.needs(job)
    return {
        "name": job.name,
        "files": list(job.source.files),
        "stream_id": job.source.stream_id,
        "results_folder": str(job.run.results),
        "intermediate_folder": str(job.run.inter),
        "problem": str(job.problem) if job.problem else None,
        "sorted_before": job.run.results in examination.finished,
        "projected": asdict(projection) if projection else None,
        "estimate": estimate.to_dict() if estimate else None,
    }


# ------------------------------------------------------------------------------------------------- for people


def _tell(examination: Examination, console: Console) -> None:
    if examination.projections:
        say_table(console, _needs(examination))
        about = "Disk and memory are rather too high; times are those of a machine that does nothing else."
        say(console, Text("\n".join([about, *together(examination)]), style="dim"))
        say(console, "")
    n_checked = len(examination.unsorted)
    tell_findings(console, examination.findings, n_checked)
    if examination.finished:
        say(console, f"{counted(len(examination.finished), 'recording')} sorted already: nothing to check there.")
    say(console, verdict(examination))


def _needs(examination: Examination) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    for heading in ("time", "intermediate", "results", "memory", "on a GPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for job in examination.unsorted:
        projection, estimate = examination.needs(job)
        time = estimate.wall_time_s.as_time() if estimate else "unknown"
        table.add_row(Text(job.name), time, *(_sizes(projection) if projection else ["unknown"] * 4))
    return table


def _sizes(projection: Projection) -> list[str]:
    sizes_gb = (projection.disk_inter_gb, projection.disk_results_gb, projection.ram_gb, projection.vram_gb)
    return [bytes_text(GB * size_gb) for size_gb in sizes_gb]


def need_text(projection: Projection, estimate: Estimate | None) -> str:
    """Return what one recording will take, on one line."""
    inter, results, memory, _ = _sizes(projection)
    time = f"{estimate.wall_time_s.as_time()}, " if estimate else ""
    return f"{time}{inter} intermediate, {results} of results, {memory} of memory"


def together(examination: Examination) -> list[str]:
    """Return what several recordings will take together, or nothing for one."""
    if len(examination.projections) < 2:
        return []
    most, time = bytes_text(GB * examination.most_disk_gb()), examination.wall_time_s().as_time()
    n_parallel = examination.flight.n_parallel
    at_once = f", {n_parallel} at a time" if n_parallel > 1 else ""
    return [f"All together {time}, and at most {most} of disk at one time, when every recording succeeds{at_once}."]


def verdict(examination: Examination) -> Text:
    """Return in one sentence what a sort would come to."""
    counted_levels = count_text(finding for finding in examination.findings if finding.level != "info")
    counts = f" ({counted_levels})" if counted_levels else ""
    if examination.stops_all:
        return Text(f"Nothing can be sorted here yet{counts}.", style="bold red")
    if n_stopped := len(examination.stopped):
        n_checked = len(examination.unsorted)
        some = n_stopped < n_checked
        of = f"{n_stopped} of {counted(n_checked, 'recording')}"
        text = f"{of} cannot be sorted{counts}{'; the rest can' if some else ''}."
        return Text(text, style="bold yellow" if some else "bold red")
    doubts = f", but look at what was found{counts}" if counts else ""
    return Text(f"Nothing speaks against a start{doubts}.", style="bold yellow" if counts else "bold green")
