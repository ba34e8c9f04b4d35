"""What a run uses: memory, processor, input and output, disk. Measures only; `sensors` judges.

Everything that cannot be read is an OSError here, whatever the library below calls it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spikelab.spike_sorting.supervision.cgroup import MemoryGroup, memory_group
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.progress import Progress, read_progress
from spikelab.spike_sorting.supervision.tree import PROC, Tree, TreeUse


@dataclass(frozen=True)
class MemoryUse:
    """Memory of the machine, or of the container or job that this process is confined to.

    Parameters
    ----------
    percent : float
        Share that cannot be had any more.
    total_bytes : int
        All of it.
    of : str
        "the machine" or "the control group".
    """

    percent: float
    total_bytes: int
    of: str = "the machine"


@dataclass(frozen=True)
class DiskUse:
    """A volume.

    Parameters
    ----------
    free_bytes, total_bytes : int
        What this user may still write, and its size.
    free_inodes, total_inodes : int or None
        Likewise for files; None where there is no limit.
    volume : int
        Tells one volume from another.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int | None = None
    total_inodes: int | None = None
    volume: int = 0


@dataclass(frozen=True)
class Words:
    """What the worker has said so far.

    Parameters
    ----------
    log_bytes : int
        Size of its log.
    progress_ns : int, default 0
        When its progress file was written, for comparison only; 0 before the first time.
    progress : Progress or None, default None
        Content of that file.
    """

    log_bytes: int
    progress_ns: int = 0
    progress: Progress | None = None


class Readings(Protocol):
    """What sensors ask; every method raises OSError where it cannot tell."""

    def memory(self) -> MemoryUse:
        """Return the memory of the machine, or of the tightest limit around this process."""

    def tree(self) -> TreeUse:
        """Return what the run's processes use."""

    def blocked(self) -> Mapping[int, str]:
        """Return the run's threads in uninterruptible sleep, with the place in the kernel where they wait."""

    def words(self) -> Words:
        """Return what the worker has said in its log and its progress file."""

    def disk(self, folder: Path) -> DiskUse:
        """Return the volume that `folder` is on."""

    def oom_kills(self) -> int | None:
        """Return how often the kernel has killed for lack of memory; None where it does not count."""


class SystemReadings:
    """The readings of a run on this machine. For one thread.

    Parameters
    ----------
    pid : int
        The run's process; all below it belong to the run.
    log_path, progress_path : Path
        Its log and its progress file.
    clock : callable, default time.monotonic
        Monotonic time (s).
    more : callable or None, default None
        Returns process ids of the run that are not below `pid`, such as those of a container; it may fail or hang.
    """

    def __init__(
        self,
        pid: int,
        log_path: Path,
        progress_path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        more: Callable[[], Iterable[int]] | None = None,
    ) -> None:
        self._log_path = log_path
        self._progress_path = progress_path
        self._more = more or tuple
        self._known: tuple[int, ...] = ()
        self._told = Deadline(f"the disk of {progress_path.parent}")
        self._tree = Tree(pid, self._further, clock)
        self._group = memory_group()
        self._limited = self._group.limited() if self._group else []
        # Later, when the run has been killed, the kernel no longer tells which group it was in.
        own = memory_group(pid)
        self._own_group = own if own != self._group else None
        self._files = Deadline(f"the disk of {log_path.parent}")
        self._disks: dict[Path, Deadline] = {}

    def _further(self) -> Iterable[int]:
        """Return what else belongs to the run; where the disk that tells of it does not answer, as it was."""
        with suppress(OSError):
            self._known = tuple(self._told.call(self._more))
        return self._known

    def memory(self) -> MemoryUse:
        """Return the memory of the machine, or of the tightest limit around this process."""
        return max([_machine_memory(), *map(_group_memory, self._limited)], key=lambda use: use.percent)

    def tree(self) -> TreeUse:
        """Return what the run's processes use."""
        use = self._tree.use()
        if self._own_group is None:
            return use
        return TreeUse(use.pids, self._own_group.used_bytes(), use.cpu_s, use.io_bytes, use.n_stopped)

    def blocked(self) -> Mapping[int, str]:
        """Return the run's threads in uninterruptible sleep, with the place in the kernel where they wait."""
        return dict(self._tree.blocked())

    def words(self) -> Words:
        """Return what the worker has said in its log and its progress file."""
        return self._files.call(lambda: _words(self._log_path, self._progress_path))

    def disk(self, folder: Path) -> DiskUse:
        """Return the volume that `folder` is on."""
        deadline = self._disks.setdefault(folder, Deadline(f"the disk of {folder}"))
        return deadline.call(lambda: disk_use(folder))

    def oom_kills(self) -> int | None:
        """Return how often the kernel has killed in the run's control group, or else anywhere."""
        return oom_kills(self._own_group or self._group)


def disk_use(folder: Path) -> DiskUse:
    """Return the volume that `folder` is on."""
    if not hasattr(os, "statvfs"):
        usage = shutil.disk_usage(folder)
        return DiskUse(usage.free, usage.total, volume=folder.stat().st_dev)
    found = os.statvfs(folder)
    return DiskUse(
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
        # Btrfs and some network file systems make inodes as they go, and say so with 0.
        free_inodes=found.f_favail if found.f_files else None,
        total_inodes=found.f_files or None,
        volume=folder.stat().st_dev,
    )


def oom_kills(group: MemoryGroup | None = None, *, proc: Path = PROC) -> int | None:
    """Return how often the kernel has killed a process for lack of memory.

    Parameters
    ----------
    group : MemoryGroup or None, default None
        Where to count; None, or a group that does not count: on the whole machine.
    proc : Path, default Path("/proc")
        Where the kernel shows its counters.

    Returns
    -------
    int or None
        Compare it before and after; None where the kernel does not count.
    """
    counted = group.oom_kills() if group else None
    if counted is not None:
        return counted
    try:
        lines = (proc / "vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def has_killed(before: int | None, after: int | None) -> bool:
    """Return whether the kernel has killed between two counts of `oom_kills`; never where it does not count."""
    return before is not None and after is not None and after > before


def _machine_memory() -> MemoryUse:
    import psutil

    try:
        memory = psutil.virtual_memory()
    except psutil.Error as error:
        raise OSError(str(error)) from error
    available = min(memory.total, memory.available + _zfs_cache_bytes())
    return MemoryUse(100 * (1 - available / memory.total), memory.total)


def _zfs_cache_bytes(proc: Path = PROC) -> int:
    """Return what ZFS would give back: it keeps its page cache where the kernel does not count it as such."""
    try:
        lines = (proc / "spl/kstat/zfs/arcstats").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    values = {fields[0]: int(fields[2]) for fields in map(str.split, lines) if len(fields) == 3 and fields[2].isdigit()}
    return max(0, values.get("size", 0) - values.get("c_min", 0))


def _group_memory(group: MemoryGroup) -> MemoryUse:
    limit = group.limit_bytes()
    if not limit:
        return MemoryUse(0.0, 0)
    return MemoryUse(100 * group.used_bytes() / limit, limit, "the control group")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _words(log_path: Path, progress_path: Path) -> Words:
    log, progress = _stat(log_path), _stat(progress_path)
    return Words(
        log_bytes=log.st_size if log else 0,
        progress_ns=progress.st_mtime_ns if progress else 0,
        progress=read_progress(progress_path) if progress else None,
    )
