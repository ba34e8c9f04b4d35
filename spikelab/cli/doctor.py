"""``spikelab doctor``: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikelab.cli.checks import (
    Finding,
    check_cores,
    check_disk,
    check_docker,
    check_hdf5,
    check_kilosort,
    check_kilosort2,
    check_memory,
    check_numpy,
    check_probeinterface,
    check_python,
    check_spikeinterface,
    check_spikelab,
    check_torch,
)
from spikelab.cli.facts import Facts
from spikelab.cli.gpu_check import check_gpu, check_gpu_locks, has_foreign_gpu, name_of_gpu
from spikelab.cli.output import ExitCode, counted, make_console, say, say_table, say_whole
from spikelab.cli.runs_check import check_runs

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def examine(facts: Facts) -> list[Finding]:
    """Return what every check says of `facts`."""
    locks = check_gpu_locks(facts)
    return [*(check(facts) for check in CHECKS), *([locks] if locks else []), *check_runs(facts)]


def can_sort(facts: Facts) -> bool:
    """Return whether a sort with Kilosort4 can run, on a GPU or on the CPU."""
    needed = (check_python, check_spikeinterface, check_numpy, check_torch, check_kilosort)
    findings = [check(facts) for check in needed]
    return all(finding.level != "problem" for finding in findings) and not has_foreign_gpu(facts)


def tell_health(facts: Facts, console: Console) -> int:
    """Print the findings, then what to do, and return the exit code."""
    findings = examine(facts)
    say_table(console, _table(findings))
    advised = [finding for finding in findings if finding.advice]
    if advised:
        say(console, "\nWhat to do", style="bold")
    for finding in advised:
        sentence, *commands = finding.advice.splitlines()
        say(console, Text.assemble((f"{finding.name}: ", _STYLES[finding.level]), sentence))
        for command in commands:
            say_whole(console, f"    {command}")
    say(console, Text.assemble("\n", verdict(facts)))
    return ExitCode.DONE if can_sort(facts) else ExitCode.ENVIRONMENT


def bundle_up(facts: Facts, console: Console) -> None:
    """Write the bundle for a bug report into the current folder, and say where it is."""
    from spikelab.cli.bundle import MOST_RUNS, write_bundle

    told = make_console()
    told.file = StringIO()
    tell_health(facts, told)
    path = write_bundle(Path.cwd(), facts, told.file.getvalue())
    say(console, f"\nFor a bug report: {path.name}, with {counted(min(len(facts.runs), MOST_RUNS), 'sort')}.")
    say(console, "Look through it before you send it: names of recordings and of folders are in it.")


def verdict(facts: Facts) -> Text:
    """Return in one sentence whether Kilosort4 can sort here, and on what."""
    if not can_sort(facts):
        return Text("Kilosort4 cannot sort here yet: see the problems above.", style="bold red")
    if (name := name_of_gpu(facts)) is not None:
        return Text(f"Kilosort4 can sort here, on the GPU ({name}).", style="bold green")
    if facts.driver is not None and facts.driver.gpus:
        return Text("Kilosort4 can sort here, but on the CPU alone: the GPU lies idle, see above.", style="bold yellow")
    return Text("Kilosort4 can sort here, on the CPU.", style="bold green")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "found", "verdict"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.name), Text(finding.found), Text(finding.level, style=_STYLES[finding.level]))
    return table


CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    check_python,
    check_spikelab,
    check_numpy,
    check_spikeinterface,
    check_probeinterface,
    check_kilosort,
    check_torch,
    check_gpu,
    check_hdf5,
    check_docker,
    check_kilosort2,
    check_disk,
    check_memory,
    check_cores,
)
