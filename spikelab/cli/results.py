"""Results folders, found on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.cli.output import UsageProblem
from spikelab.spike_sorting.roster import Roster, read_rosters
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.lock import LOCK_NAME


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Parameters
    ----------
    results : tuple of Path
        Results folders, the folder itself included.
    rosters : tuple of Roster
        Batches at work there, or that died there; of a results folder, those beside it.
    """

    results: tuple[Path, ...]
    rosters: tuple[Roster, ...]


def found_below(top: Path) -> Found:
    """Return the results folders and the batches in and below the folder `top`."""
    visited = list(_walk(top))
    results = tuple(folder for folder in visited if is_results(folder))
    rosters = [roster for folder in dict.fromkeys((top.parent, *visited)) for roster in read_rosters(folder)]
    return Found(results, tuple(rosters))


def find_results(folders: Sequence[Path]) -> list[Path]:
    """Return each of `folders` that is a results folder, and all below them, each once and in order.

    Raises
    ------
    UsageProblem
        One of them neither is nor holds any.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        below = list(_results_below(folder.absolute()))
        if not below:
            msg = f"{folder} neither is nor holds a results folder of spikelab"
            raise UsageProblem(msg, _advice(folder))
        found |= dict.fromkeys(below)
    return list(found)


def _advice(folder: Path) -> str:
    if (folder / LOCK_NAME).exists():
        return "That is an intermediate folder: name the results folder beside it, sorted_<sorter>/<recording>."
    return "Name sorted_<sorter>/<recording>, what was given to --results, or a folder above them."


def _results_below(top: Path) -> Iterator[Path]:
    return (folder for folder in _walk(top) if is_results(folder))


def _walk(top: Path) -> Iterator[Path]:
    """Go through the folders below `top` in which there may be results."""
    for name, folders, _ in os.walk(top):
        folder = Path(name)
        yield folder
        if (folder / LOCK_NAME).exists() and not is_results(folder):
            folders.clear()  # intermediate files: many, and none of them results
        folders[:] = sorted(_visible(folders))


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))


def is_results(folder: Path) -> bool:
    """Return whether spikelab has put results, or the report of a failure, into `folder`."""
    run = RunFolder(folder, folder)
    return run.claimed_inter() is not None or (run.journal.path.exists() and (folder / LOCK_NAME).exists())
