"""What the doctor finds in the folders of runs: who holds them, what a crash left, what only takes room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from spikelab.cli.checks import Finding
from spikelab.cli.facts import Facts
from spikelab.cli.output import bytes_text, counted
from spikelab.cli.runs import Run
from spikelab.spike_sorting.state import UNFINISHED

_WORTH_BYTES = 1_000_000
"""Less is not worth a word."""


def check_runs(facts: Facts) -> list[Finding]:
    """Return what there is to say of the sorts: one finding per subject, none where there is nothing."""
    checks: tuple[Callable[[Sequence[Run]], Finding | None], ...] = (_held, _left_alone, _leftovers, _unreadable)
    findings = [check(facts.runs) for check in checks]
    silent = [Finding("folders", why, "note", "Name the results folders themselves.") for why in facts.unseen.values()]
    return [finding for finding in findings if finding is not None] + silent


def _held(runs: Sequence[Run]) -> Finding | None:
    held = [run for run in runs if run.holder is not None]
    if not held:
        return None
    orphans = [run for run in held if run.is_orphan]
    named = "; ".join(f"{Path(run.folder).name}: {run.holder}" for run in (orphans or held)[:3])
    more = f" and {len(held) - 3} more" if len(orphans or held) > 3 else ""
    if orphans:
        advice = "That process is gone, and what it started lives on: the same sort again ends it and continues."
        return Finding(
            "locks", f"{counted(len(orphans), 'folder')} held by what a crash left: {named}{more}", "note", advice
        )
    return Finding("locks", f"{counted(len(held), 'recording')} being sorted: {named}{more}")


def _left_alone(runs: Sequence[Run]) -> Finding | None:
    stopped = [run for run in runs if run.status == UNFINISHED]
    if not stopped:
        return None
    named = ", ".join(Path(run.folder).name for run in stopped[:3]) + (" and more" if len(stopped) > 3 else "")
    advice = "Their process is gone: the same command continues where it stopped."
    return Finding("unfinished", f"{counted(len(stopped), 'sort')}: {named}", "note", advice)


def _leftovers(runs: Sequence[Run]) -> Finding | None:
    left = [run for run in runs if run.leftover_bytes]
    n_bytes = sum(run.leftover_bytes for run in left)
    if n_bytes < _WORTH_BYTES:
        return None
    found = f"{bytes_text(n_bytes)} that no result needs, in {counted(len(left), 'folder')}"
    lines = "\n".join(f"spikelab clean '{run.folder}'" for run in sorted(left, key=lambda run: -run.leftover_bytes)[:5])
    return Finding("leftovers", found, "note", f"Remove them:\n{lines}")


def _unreadable(runs: Sequence[Run]) -> Finding | None:
    hidden = [run for run in runs if run.problem is not None]
    if not hidden:
        return None
    found = f"{counted(len(hidden), 'results folder')} cannot be read: {hidden[0].problem}"
    return Finding("results", found, "note", "Ask the owner, or check the disk.")
