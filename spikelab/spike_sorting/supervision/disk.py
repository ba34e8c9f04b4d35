"""Disks: whether one answers, and what fills one, for the report of a run that was stopped because it was full."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import IOStallError
from spikelab.spike_sorting.supervision.deadline import unanswered

GB = 1e9
_ROOM_GB = 1.0
"""More free space than this is not what stopped a write."""
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


@dataclass(frozen=True)
class FullDisk:
    """A volume on which a run could write no more, as far as it was measured.

    Parameters
    ----------
    folders : tuple of Path
        Folders of the run on it; the first is the one that was found full.
    free_gb : float or None
        Free space when the run was stopped (GB).
    threshold_gb : float or None
        Limit on free space that was crossed (GB); None: it was none that ended the run, but a write that failed, or the
        number of files.
    projected_need_gb : float or None
        What the run was thought to need there (GB).
    started_free_gb : float or None
        Free space when the worker began (GB).
    """

    folders: tuple[Path, ...]
    free_gb: float | None = None
    threshold_gb: float | None = None
    projected_need_gb: float | None = None
    started_free_gb: float | None = None

    @property
    def consumed_bytes(self) -> int | None:
        """What went while the worker ran, whoever wrote it."""
        if self.started_free_gb is None or self.free_gb is None:
            return None
        return max(0, round((self.started_free_gb - self.free_gb) * GB))


def disk_report(full: FullDisk, *, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """Return the content of ``disk_exhaustion_report.json``; None for what was not measured.

    Parameters
    ----------
    full : FullDisk
        What is known of the volume.
    clock : callable, default time.monotonic
        Monotonic time (s), which limits the search.
    """
    return {
        "folder": str(full.folders[0]),
        "free_gb_at_trip": full.free_gb,
        "abort_threshold_gb": full.threshold_gb,
        "projected_need_gb": full.projected_need_gb,
        "bytes_consumed_during_sort": full.consumed_bytes,
        "top_consumers": top_consumers(full.folders[0], clock=clock),
        "suggested_actions": _suggestions(full, _bytes_in(full.folders, clock)),
    }


def top_consumers(folder: Path, *, clock: Callable[[], float] = time.monotonic) -> list[dict[str, Any]]:
    """Return the largest entries in `folder` and beside it, as {path, size_gb}, largest first."""
    give_up_s = clock() + MOST_SECONDS
    sizes: dict[Path, int] = {}
    counted = 0
    beside = [path for path in _entries(folder.parent) if path != folder]
    for entry in [*_entries(folder), *beside]:
        sizes[entry] = 0
        for n_bytes in sizes_below(entry):
            counted += 1
            sizes[entry] += n_bytes
            if counted >= MOST_FILES or clock() > give_up_s:
                return _largest(sizes)
    return _largest(sizes)


def _bytes_in(folders: Iterable[Path], clock: Callable[[], float]) -> int | None:
    """Return what all files in `folders` take, or None where they are too many to count."""
    give_up_s = clock() + MOST_SECONDS
    total = 0
    for counted, n_bytes in enumerate(size for folder in folders for size in sizes_below(folder)):
        if counted >= MOST_FILES or clock() > give_up_s:
            return None
        total += n_bytes
    return total


def _largest(sizes: dict[Path, int]) -> list[dict[str, Any]]:
    largest = heapq.nlargest(MOST_CONSUMERS, sizes.items(), key=lambda item: item[1])
    return [{"path": str(path), "size_gb": round(n_bytes / GB, 6)} for path, n_bytes in largest if n_bytes]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def sizes_below(path: Path) -> Iterator[int]:
    """Yield what each file and folder at or below `path` takes on the disk (bytes); links are not followed."""
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


def _suggestions(full: FullDisk, written: int | None) -> list[str]:
    """Return what to do, given what the run has `written` in its folders (bytes), where that is known."""
    actions = [
        "Delete what top_consumers lists and nobody needs; intermediate folders of finished sorts can always go.",
        f"Sort with intermediate_folders=... on another volume than that of {full.folders[0]}.",
        "Set delete_inter=True to remove intermediate files after each success.",
    ]
    if (missing_gb := _missing_gb(full, written)) > 0:
        actions.insert(0, f"Free at least {missing_gb:.1f} GB more: the job was projected to need that.")
    if full.threshold_gb is None and full.free_gb is not None and full.free_gb > _ROOM_GB:
        room = f"The volume itself has {full.free_gb:.3g} GB free"
        actions.insert(0, f"{room}: look for a quota, or for too many files (quota -s, df -i).")
    elif max(full.consumed_bytes or 0, written or 0) < 0.1 * GB and None not in {full.consumed_bytes, written}:
        actions.insert(0, "This run wrote next to nothing: another program fills the disk.")
    return actions


def _missing_gb(full: FullDisk, written: int | None) -> float:
    """Return what is missing at least (GB): of what went, all may be the run's own; 0 where that is not known."""
    if full.projected_need_gb is None or full.free_gb is None or (written is None and full.consumed_bytes is None):
        return 0.0
    return full.projected_need_gb - max(full.consumed_bytes or 0, written or 0) / GB - full.free_gb
