"""``spikelab estimate``: what sorts will take on this machine, with the uncertainty of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikelab.cli.output import ExitCode, counted, make_console, say, say_table, say_whole
from spikelab.cli.preflight import Examination, together
from spikelab.spike_sorting.costs import Estimate
from spikelab.spike_sorting.forecast.estimates import PROBE_S, estimates_of
from spikelab.spike_sorting.forecast.history import runs_of_this_machine
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.schedule import look_ahead


def tell_estimates(jobs: Sequence[Job], parallel: int | None, *, as_json: bool) -> int:
    """Print what each of `jobs` will take, as if nothing of it were sorted yet; return the exit code."""
    with make_console(stderr=as_json).status(f"Reading {PROBE_S:.0f} s of each recording"):
        flight, batch = look_ahead(jobs, parallel, probe_s=PROBE_S)
        estimates = estimates_of(batch, runs_of_this_machine())
    problems = {facts.job.run.results: str(facts.error) for facts in batch.recordings if facts.error is not None}
    console = make_console()
    if as_json:
        say_whole(console, json.dumps(_document(jobs, estimates, problems), indent=2, allow_nan=False))
    else:
        _tell(Examination(tuple(jobs), frozenset(), (), batch.projections, flight, estimates), problems, console)
    return ExitCode.DONE if len(estimates) == len(jobs) else ExitCode.SOME_FAILED


def _document(
    jobs: Sequence[Job], estimates: Mapping[Path, Estimate], problems: Mapping[Path, str]
) -> list[dict[str, object]]:
    return [
        estimates[job.run.results].to_dict()
        if job.run.results in estimates
        else {"name": job.name, "results_folder": str(job.run.results), "problem": problems.get(job.run.results)}
        for job in jobs
    ]


def _tell(examination: Examination, problems: Mapping[Path, str], console: Console) -> None:
    estimates = examination.estimates
    if estimates:
        say_table(console, _table(examination.jobs, estimates))
        say(console, "")
        say(console, Text("\n".join([_basis(list(estimates.values())), *together(examination)]), style="dim"))
    for job in examination.jobs:
        if job.run.results not in estimates:
            say(console, Text(f"{job.name}: {problems.get(job.run.results, 'nothing to sort')}", style="red"))


def _table(jobs: Sequence[Job], estimates: Mapping[Path, Estimate]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    for heading in ("time", "disk", "memory", "on a GPU", "spikes/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for job in jobs:
        if (one := estimates.get(job.run.results)) is not None:
            on_gpu = one.vram_gb.as_size() if one.vram_gb else "none"
            sizes = (one.disk_inter_gb.as_size(), one.ram_gb.as_size(), on_gpu)
            table.add_row(Text(job.name), one.wall_time_s.as_time(), *sizes, f"{one.workload.spikes_Hz:.0f}")
    return table


def _basis(estimates: Sequence[Estimate]) -> str:
    """Return by what the times were judged."""
    n_runs, probe_s = max(one.n_former_runs for one in estimates), max(one.probe_s for one in estimates)
    seen = (
        "Four of five sorts are within the ranges, on a machine that does nothing else; spikes were counted in "
        f"{probe_s:.0f} s."
    )
    if n_runs:
        return f"{seen} Times go by {counted(n_runs, 'former sort')} on this machine."
    return f"{seen} Nothing was sorted here yet: times go by benchmarks of another machine."
