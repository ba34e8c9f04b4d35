"""Disks: whether one answers, and what fills one, for the report of a run that was stopped because it was full."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import IOStallError
from spikelab.spike_sorting.supervision.deadline import unanswered

GB = 1e9
MOST_CONSUMERS = 10
MOST_FILES = 50_000
MOST_SECONDS = 5.0
"""A walk over a share with millions of files ends here; what it has found by then is reported."""


def ask_disk(path: Path) -> None:
    """Ask the disk of `path` what it must answer itself: what the kernel remembers is no sign of life."""
    ask: Callable[[Path], object] = getattr(os, "statvfs", os.stat)
    with suppress(OSError):
        ask(path)


def stalls(
    groups: Sequence[Sequence[Path]], limit_s: float, *, ask: Callable[[Path], object] = ask_disk
) -> dict[int, IOStallError]:
    """Ask the disks of several groups of paths at once; return the failure of each group that does not answer.

    Parameters
    ----------
    groups : sequence of sequences of Path
        Paths that are needed together, such as those of one recording; they need not be there.
    limit_s : float
        How long a group may take (s).
    ask : callable, default ask_disk
        Returns, or raises, once the disk of a path has answered.

    Returns
    -------
    dict of int to IOStallError
        By the number of the group: the failure, which names the first path that gave no answer.
    """
    asked = {number: group[0] for number, group in enumerate(groups) if group}

    def ask_all(number: int) -> None:
        for path in groups[number]:
            asked[number] = path
            ask(path)

    silent = unanswered([partial(ask_all, number) for number in asked], limit_s)
    numbers = list(asked)
    return {numbers[index]: _stall(asked[numbers[index]], limit_s) for index in silent}


def _stall(path: Path, limit_s: float) -> IOStallError:
    msg = f"the disk of {path} does not answer within {limit_s:g} s"
    return IOStallError(msg, device=str(path), stall_s=limit_s)


def disk_report(
    folder: Path,
    free_gb: float,
    threshold: float,
    projected_need_gb: float | None,
    started_free_gb: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Return the content of ``disk_exhaustion_report.json``.

    Parameters
    ----------
    folder : Path
        Folder of the run on the full volume.
    free_gb : float
        Free space when the run was stopped (GB).
    threshold : float
        Limit below which it was (GB).
    projected_need_gb : float or None
        What the job was thought to need (GB), where known.
    started_free_gb : float or None
        Free space when the run began (GB), where known.
    clock : callable, default time.monotonic
        Monotonic time (s), which limits the search.
    """
    consumed = None if started_free_gb is None else max(0, round((started_free_gb - free_gb) * GB))
    return {
        "folder": str(folder),
        "free_gb_at_trip": free_gb,
        "abort_threshold_gb": threshold,
        "projected_need_gb": projected_need_gb,
        "bytes_consumed_during_sort": consumed,
        "top_consumers": top_consumers(folder, clock=clock),
        "suggested_actions": _suggestions(folder, free_gb, projected_need_gb, consumed),
    }


def top_consumers(folder: Path, *, clock: Callable[[], float] = time.monotonic) -> list[dict[str, Any]]:
    """Return the largest entries in `folder` and beside it, as {path, size_gb}, largest first."""
    give_up_s = clock() + MOST_SECONDS
    sizes: dict[Path, int] = {}
    counted = 0
    beside = [path for path in _entries(folder.parent) if path != folder]
    for entry in [*_entries(folder), *beside]:
        sizes[entry] = 0
        for n_bytes in _sizes_below(entry):
            counted += 1
            sizes[entry] += n_bytes
            if counted >= MOST_FILES or clock() > give_up_s:
                return _largest(sizes)
    return _largest(sizes)


def _largest(sizes: dict[Path, int]) -> list[dict[str, Any]]:
    largest = heapq.nlargest(MOST_CONSUMERS, sizes.items(), key=lambda item: item[1])
    return [{"path": str(path), "size_gb": round(n_bytes / GB, 6)} for path, n_bytes in largest if n_bytes]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _sizes_below(path: Path) -> Iterator[int]:
    """Yield what each file at or below `path` takes on the disk; links are not followed."""
    waiting = [path]
    while waiting:
        current = waiting.pop()
        try:
            stat = current.lstat()
            if current.is_dir() and not current.is_symlink():
                waiting += [Path(entry.path) for entry in os.scandir(current)]
        except OSError:
            continue
        # Files with holes take less than their size says.
        yield stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size


def _suggestions(folder: Path, free_gb: float, projected_need_gb: float | None, consumed: int | None) -> list[str]:
    actions = [
        "Delete what top_consumers lists and nobody needs; intermediate folders of finished sorts can always go.",
        f"Sort with intermediate_folders=... on another volume than that of {folder}.",
        "Set delete_inter=True to remove intermediate files after each success.",
    ]
    if projected_need_gb is not None:
        missing_gb = projected_need_gb - (consumed or 0) / GB - free_gb
        if missing_gb > 0:
            actions.insert(0, f"Free at least {missing_gb:.1f} GB more: the job was projected to need that.")
    if consumed is not None and consumed < 0.1 * GB:
        actions.insert(0, "This run wrote next to nothing: another program fills the disk.")
    return actions
