"""What came of a recording, and of a batch, in words."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from spikelab.cli.output import counted, seconds_text, short_path
from spikelab.spike_sorting._exceptions import PreflightError
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import FAILED, INTERRUPTED, SKIPPED, Outcome, RecordingResult, SortRunReport
from spikelab.spike_sorting.report.batch import NAME, common_folder
from spikelab.spike_sorting.run_folder import RunFolder


def outcome_lines(label: str, job: Job, outcome: Outcome) -> list[Text]:
    """Return one line for a sorted recording; for a failed one, why, what to do and where the report lies."""
    result = outcome.result
    report = f"report: {report_path(job)}"
    if result.succeeded:
        line = Text.assemble(f"{label}: ", (found_text(result), "green"), f", {_how(job, result)}; {report}")
        return [line, *remark_lines(result)]
    if result.status in {INTERRUPTED, SKIPPED}:
        return [Text(f"{label}: {result.status}", style="yellow")]
    if isinstance(outcome.error, PreflightError):
        return [Text.assemble(f"{label}: ", (_as_found(job, outcome.error), "red")), Text(f"    {report}")]
    lines = [Text.assemble(f"{label}: ", (failed_text(result), "red"))]
    if result.advice:
        lines.append(Text(f"    what to do: {result.advice}"))
    return [*lines, *remark_lines(result), Text(f"    {report}")]


def remark_lines(result: RecordingResult) -> list[Text]:
    """Return what deserves a look, each with its code: what came out first, then what was found on the way."""
    looks = [Text(f"    look at this: {one}", style="yellow") for one in dict.fromkeys(result.suspicions)]
    return [*looks, *(Text(f"    warning: {one}", style="yellow") for one in dict.fromkeys(result.warnings))]


def _as_found(job: Job, error: PreflightError) -> str:
    """Return which findings, told in full before the start, speak against `job`."""
    fatal = {"error", "warning"} if job.config.execution.preflight_strict else {"error"}
    codes = dict.fromkeys(finding["code"] for finding in error.findings or () if finding["level"] in fatal)
    return f"failed ({error.status}): {', '.join(codes)}, as found before the start"


def found_text(result: RecordingResult) -> str:
    """Return "16 units found, 14 kept"."""
    return f"{counted(result.n_units or 0, 'unit')} found, {result.n_curated_units} kept"


def failed_text(result: RecordingResult) -> str:
    """Return "failed (saturated_signal): 8 of 8 channels clip"; a failure that nobody knows has no such name."""
    status = "" if result.status == FAILED else f" ({result.status})"
    return f"failed{status}: {result.error_message}"


def report_path(job: Job) -> str:
    """Return where a person reads what happened: the page, the note, or at least the folder."""
    return short_path(page_of(job.run) or job.run.results)


def page_of(run: RunFolder) -> Path | None:
    """Return the page or the note that says what happened, or None where there is none."""
    return next((page for page in (run.report_html, run.report_markdown) if page.is_file()), None)


def summary_lines(report: SortRunReport, seconds: float) -> list[Text]:
    """Return what came of the whole batch."""
    n_sorted, n_total = len(report.succeeded), len(report.records)
    units = sum(record.n_units or 0 for record in report.succeeded)
    kept = sum(record.n_curated_units or 0 for record in report.succeeded)
    line = f"{n_sorted} of {counted(n_total, 'recording')} sorted in {seconds_text(seconds)}"
    if n_sorted:
        line += f": {counted(units, 'unit')} found, {kept} kept"
    style = "green" if report.all_succeeded else "yellow"
    lines = [Text(line, style=f"bold {style}")]
    lines += [Text(f"  {count} {status}") for status, count in _unsorted(report).items()]
    page = _batch_page(report)
    if page is not None:
        lines.append(Text(f"report of all: {short_path(page)}"))
    if report.failed:
        lines.append(Text("The same command tries again what is not sorted, and continues where it stopped."))
    return lines


def _batch_page(report: SortRunReport) -> Path | None:
    folder = common_folder(report.records) if len(report.records) > 1 else None
    page = None if folder is None else folder / f"{NAME}.html"
    return page if page is not None and page.is_file() else None


def _how(job: Job, result: RecordingResult) -> str:
    """Return how long it took; a finished recording that is only looked up starts no worker."""
    looked_up = not result.attempts and job.config.execution.runner == "process"
    return "sorted before" if looked_up else seconds_text(result.wall_time_s)


def _unsorted(report: SortRunReport) -> dict[str, int]:
    statuses = [record.status for record in report.failed]
    return {status: statuses.count(status) for status in dict.fromkeys(statuses)}
