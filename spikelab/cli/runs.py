"""The sorts below some folders, as the doctor sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spikelab.cli.clean import size_bytes, would_go
from spikelab.cli.results import found_below
from spikelab.cli.status import Standing, standing_of
from spikelab.spike_sorting.state import NOT_STARTED, RUNNING, UNFINISHED, run_of
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.deadline import Deadline

_SEARCH_S = 20.0


@dataclass(frozen=True)
class Run:
    """A results folder, as the doctor sees it.

    Parameters
    ----------
    folder : str
        Results folder.
    status : str
        Where its run stands.
    holder : str or None
        Who holds it now.
    is_orphan : bool
        Whether only what a dead run has left behind holds it.
    leftover_bytes : int
        What `spikelab clean` would free of a run that has ended.
    problem : str or None
        Why it cannot be told.
    """

    folder: str
    status: str
    holder: str | None = None
    is_orphan: bool = False
    leftover_bytes: int = 0
    problem: str | None = None


def runs_below(folders: Sequence[Path], limit_s: float = _SEARCH_S) -> tuple[tuple[Run, ...], dict[str, str]]:
    """Return the runs in and below `folders`, and why some of those could not be looked through."""
    runs: dict[str, Run] = {}
    unseen: dict[str, str] = {}
    for folder in folders:
        top = folder.absolute()
        try:
            runs |= Deadline(f"the disk of {top}", limit_s).call(partial(_runs_in, top))
        except OSError as error:
            unseen[str(top)] = str(error)
    return tuple(runs.values()), unseen


def _runs_in(top: Path) -> dict[str, Run]:
    return {str(results): _run(results) for results in found_below(top).results}


def _run(results: Path) -> Run:
    standing = standing_of(results)
    holder = standing.state.holder
    told = None
    if holder is not None:
        told = f"process {holder.get('pid')} on {holder.get('hostname')} since {holder.get('started_at')}"
    return Run(
        str(results),
        standing.state.status,
        told,
        holder is not None and host.is_dead(holder),
        _leftover_bytes(standing),
        standing.problem,
    )


def _leftover_bytes(standing: Standing) -> int:
    if standing.problem is not None or standing.state.status in {RUNNING, UNFINISHED, NOT_STARTED}:
        return 0
    try:
        return sum(map(size_bytes, would_go(run_of(standing.folder))))
    except FileNotFoundError:  # the report of a recording that could not be read: nothing else was made
        return 0
