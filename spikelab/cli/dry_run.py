"""What a sort would do: recordings, streams, folders and settings, without writing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from spikelab.cli.output import ExitCode, counted, say, say_whole, short_path
from spikelab.cli.settings import changed_settings
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job


def tell_plan(jobs: Sequence[Job], config: SortingPipelineConfig, console: Console, *, as_json: bool) -> int:
    """Print what would be sorted and return the exit code; raise SorterNotInstalledError as the sort would.

    Parameters
    ----------
    jobs : sequence of Job
        The plan.
    config : SortingPipelineConfig
        The settings of all of them.
    console : Console
        Standard output.
    as_json : bool
        Print one JSON document instead of lines.
    """
    if as_json:
        say_whole(console, json.dumps(_document(jobs, config), indent=2, allow_nan=False))
    else:
        for line in _lines(jobs, config):
            say(console, line)
    get_backend(config.sorter.sorter_name).check_installed()
    return ExitCode.SOME_FAILED if any(job.problem for job in jobs) else ExitCode.DONE


def _lines(jobs: Sequence[Job], config: SortingPipelineConfig) -> list[Text]:
    sorter = config.sorter.sorter_name
    lines = [Text(f"Would sort {counted(len(jobs), 'recording')} with {sorter}; nothing is written now.")]
    for job in jobs:
        lines += _job_lines(job)
    changed = _shown_settings(jobs, config)
    heading = f"Settings that differ from the preset {sorter!r}:" if changed else f"Settings: the preset {sorter!r}."
    return [*lines, Text(heading), *(Text(f"  {name} = {json.dumps(value)}") for name, value in changed.items())]


def _job_lines(job: Job) -> list[Text]:
    lines = [
        Text(job.name, style="bold"),
        Text(f"  recording     {', '.join(short_path(file) for file in job.source.files)}"),
        *([Text(f"  stream        {job.source.stream_id}")] if job.source.stream_id else []),
        Text(f"  results       {short_path(job.run.results)}"),
        Text(f"  intermediate  {short_path(job.run.inter)}"),
    ]
    if job.problem is not None:
        lines.append(Text(f"  would fail    {job.problem}", style="red"))
    return lines


def _shown_settings(jobs: Sequence[Job], config: SortingPipelineConfig) -> dict[str, Any]:
    """Return the changed settings; a stream that is listed for each recording is not repeated."""
    changed = changed_settings(config)
    if any(job.source.stream_id for job in jobs):
        changed.pop("stream_id", None)
    return changed


def _document(jobs: Sequence[Job], config: SortingPipelineConfig) -> dict[str, Any]:
    recordings = [
        {
            "name": job.name,
            "files": list(job.source.files),
            "stream_id": job.source.stream_id,
            "results_folder": str(job.run.results),
            "intermediate_folder": str(job.run.inter),
            "problem": str(job.problem) if job.problem else None,
        }
        for job in jobs
    ]
    return {
        "sorter": config.sorter.sorter_name,
        "recordings": recordings,
        "changed_settings": changed_settings(config),
    }
