"""What a sort would do: recordings, streams, folders and settings, without writing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from spikelab.cli.findings import count_text, tell_findings
from spikelab.cli.output import ExitCode, counted, make_console, say, say_whole, short_path
from spikelab.cli.preflight import Examination, examine, job_document, need_text, planned, together, verdict
from spikelab.cli.settings import changed_settings
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job


def tell_plan_elsewhere(jobs: Sequence[Job], config: SortingPipelineConfig, *, as_json: bool) -> int:
    """Print what would be sorted on a cluster, of which this machine tells nothing, and return the exit code."""
    plan, console = planned(jobs), make_console()
    if as_json:
        say_whole(console, json.dumps(_document(plan, config), indent=2, allow_nan=False))
    else:
        for line in _lines(plan, config, where=" on a cluster"):
            say(console, line)
        say(
            console,
            "Nothing is checked here: each worker looks at itself, its disks and the recording when it begins one.",
        )
    return ExitCode.SOME_FAILED if plan.stopped else ExitCode.DONE


def tell_plan(jobs: Sequence[Job], config: SortingPipelineConfig, parallel: int | None, *, as_json: bool) -> int:
    """Print what would be sorted and return the exit code; raise SorterNotInstalledError as the sort would.

    Parameters
    ----------
    jobs : sequence of Job
        The plan.
    config : SortingPipelineConfig
        The settings of all of them.
    parallel : int or None
        Recordings in flight at once; None for as many as a sort takes by itself.
    as_json : bool
        Print one JSON document instead of lines.
    """
    with make_console(stderr=as_json).status("Checking the machine and the recordings"):
        examination = examine(jobs, parallel)
    if not config.execution.preflight:  # then the sort does not look at them either
        examination = replace(examination, findings=())
    console = make_console()
    if as_json:
        say_whole(console, json.dumps(_document(examination, config), indent=2, allow_nan=False))
    else:
        _tell(examination, config, console)
    if not config.execution.preflight:
        get_backend(config.sorter.sorter_name).check_installed(config)
    if examination.stops_all:
        return ExitCode.ENVIRONMENT
    return ExitCode.SOME_FAILED if examination.stopped else ExitCode.DONE


def _tell(examination: Examination, config: SortingPipelineConfig, console: Console) -> None:
    for line in _lines(examination, config):
        say(console, line)
    told = [job.problem for job in examination.jobs if job.problem is not None]
    findings = [finding for finding in examination.findings if finding.error not in told]
    if findings:
        say(console, f"Findings: {count_text(findings)}.", style="bold")
        tell_findings(console, findings, len(examination.unsorted))
    say(console, verdict(examination))


def _lines(examination: Examination, config: SortingPipelineConfig, *, where: str = "") -> list[Text]:
    jobs, sorter = examination.jobs, config.sorter.sorter_name
    lines = [Text(f"Would sort {counted(len(jobs), 'recording')} with {sorter}{where}; nothing is written now.")]
    for job in jobs:
        lines += _job_lines(job, examination)
    changed = _shown_settings(jobs, config)
    heading = f"Settings that differ from the preset {sorter!r}:" if changed else f"Settings: the preset {sorter!r}."
    settings = [Text(f"  {name} = {json.dumps(value)}") for name, value in changed.items()]
    return [*lines, *map(Text, together(examination)), Text(heading), *settings]


def _job_lines(job: Job, examination: Examination) -> list[Text]:
    projection, estimate = examination.needs(job)
    lines = [
        Text(job.name, style="bold"),
        Text(f"  recording     {', '.join(short_path(file) for file in job.source.files)}"),
        *([Text(f"  stream        {job.source.stream_id}")] if job.source.stream_id else []),
        Text(f"  results       {short_path(job.run.results)}"),
        Text(f"  intermediate  {short_path(job.run.inter)}"),
        *([Text(f"  would take    {need_text(projection, estimate)}")] if projection else []),
    ]
    if job.run.results in examination.finished:
        lines.append(Text("  sorted        already: it would only be looked up"))
    if examination.stops(job):
        lines.append(Text(f"  would fail    {job.problem or 'see below'}", style="red"))
    return lines


def _shown_settings(jobs: Sequence[Job], config: SortingPipelineConfig) -> dict[str, Any]:
    """Return the changed settings; a stream that is listed for each recording is not repeated."""
    changed = changed_settings(config)
    if any(job.source.stream_id for job in jobs):
        changed.pop("stream_id", None)
    return changed


def _document(examination: Examination, config: SortingPipelineConfig) -> dict[str, Any]:
    return {
        "sorter": config.sorter.sorter_name,
        "recordings": [job_document(job, examination) for job in examination.jobs],
        "changed_settings": changed_settings(config),
        "findings": [finding.to_dict() for finding in examination.findings],
    }
