"""What a run uses: memory, processor, input and output, disk. Measures only; `sensors` judges.

Everything that cannot be read is an OSError here, whatever the library below calls it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spikelab.spike_sorting.supervision.cgroup import MemoryGroup, memory_group
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.progress import Progress, read_progress

if TYPE_CHECKING:
    import psutil

PROC = Path("/proc")

_LIST_EVERY = 1000
_PSS_EVERY = 300
"""A costly reading is repeated after so many times what it took: together under half a percent of a core."""
_LIST_AT_LEAST_S = 2.0
_PSS_AT_LEAST_S = 30.0


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
class TreeUse:
    """A process and all below it.

    Parameters
    ----------
    pids : frozenset of int
        Those alive; empty when the run has just ended.
    memory_bytes : int
        Memory, shared pages counted once where the system tells.
    cpu_s : float
        Processor time of those alive (s).
    io_bytes : int or None
        Bytes read and written, from the page cache too; None where the system does not count them.
    n_stopped : int
        How many are stopped by a signal.
    """

    pids: frozenset[int]
    memory_bytes: int
    cpu_s: float
    io_bytes: int | None
    n_stopped: int = 0


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
class Heartbeat:
    """The worker's progress file.

    Parameters
    ----------
    written_ns : int
        Its modification time, for comparison only.
    progress : Progress or None
        Its content.
    """

    written_ns: int
    progress: Progress | None


class Readings(Protocol):
    """What sensors ask; every method raises OSError where it cannot tell."""

    def memory(self) -> MemoryUse:
        """Return the memory of the machine, or of the tightest limit around this process."""

    def tree(self) -> TreeUse:
        """Return what the run's processes use."""

    def blocked(self) -> Mapping[int, str]:
        """Return the run's threads in uninterruptible sleep, with the place in the kernel where they wait."""

    def log_bytes(self) -> int:
        """Return the size of the log."""

    def heartbeat(self) -> Heartbeat | None:
        """Return the worker's last word, or None before the first."""

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
        Returns process ids of the run that are not below `pid`, such as those of a container.
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
        self._tree = _Tree(pid, more or tuple, clock)
        self._group = memory_group()
        self._limited = self._group.limited() if self._group else []
        # Later, when the run has been killed, the kernel no longer tells which group it was in.
        own = memory_group(pid)
        self._own_group = own if own != self._group else None
        self._files = Deadline(f"the disk of {log_path.parent}")
        self._disks: dict[Path, Deadline] = {}

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

    def log_bytes(self) -> int:
        """Return the size of the log; 0 before it is there."""
        stat = self._files.call(lambda: _stat(self._log_path))
        return 0 if stat is None else stat.st_size

    def heartbeat(self) -> Heartbeat | None:
        """Return the worker's last word, or None before the first."""
        return self._files.call(lambda: _heartbeat(self._progress_path))

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


def process_state(pid: int, *, proc: Path = PROC) -> tuple[str, str] | None:
    """Return the kernel's letter for the state of `pid` (``D``: hangs in the kernel) and where it waits.

    Returns
    -------
    tuple of (str, str) or None
        None when it is gone, or there is no /proc.
    """
    return _state(proc / str(pid))


# --------------------------------------------------------------------------------------------------- memory


def _machine_memory() -> MemoryUse:
    import psutil

    with _os_errors():
        memory = psutil.virtual_memory()
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


# ------------------------------------------------------------------------------------------ the run's processes


@dataclass(frozen=True)
class _Process:
    """What one process uses."""

    pid: int
    rss_bytes: int
    cpu_s: float
    io_bytes: int | None
    is_stopped: bool


class _Tree:
    """A process and all below it, listed now and then and read each time."""

    def __init__(self, pid: int, more: Callable[[], Iterable[int]], clock: Callable[[], float]) -> None:
        self._pid = pid
        self._more = more
        self._clock = clock
        self._members: dict[int, psutil.Process] = {}
        self._list_at_s = -float("inf")
        self._pss_at_s = -float("inf")
        self._counted_twice = 0
        self._smaps = Deadline("the kernel's account of shared memory")

    def use(self) -> TreeUse:
        self._list_when_due()
        found = [use for use in map(_use_of, self._members.values()) if use is not None]
        rss_bytes = sum(use.rss_bytes for use in found)
        if len(found) > 1:
            self._compare_shared_when_due(rss_bytes)
        counts = [use.io_bytes for use in found if use.io_bytes is not None]
        return TreeUse(
            pids=frozenset(use.pid for use in found),
            memory_bytes=max(rss_bytes - self._counted_twice, 0) if len(found) > 1 else rss_bytes,
            cpu_s=sum(use.cpu_s for use in found),
            io_bytes=sum(counts) if counts else None,
            n_stopped=sum(use.is_stopped for use in found),
        )

    def blocked(self) -> Iterator[tuple[int, str]]:
        self._list_when_due()
        for pid in self._members:
            for task in _tasks(pid):
                state = _state(task)
                if state is not None and state[0] == "D":
                    yield int(task.name), state[1]

    def _list_when_due(self) -> None:
        started_s = self._clock()
        if started_s < self._list_at_s:
            return
        processes = _descendants([self._pid, *self._more()])
        # A known process is kept with what psutil has learnt of it.
        self._members = {process.pid: self._members.get(process.pid, process) for process in processes}
        self._list_at_s = started_s + max(_LIST_AT_LEAST_S, _LIST_EVERY * (self._clock() - started_s))

    def _compare_shared_when_due(self, rss_bytes: int) -> None:
        """Learn how much of the sum of resident memory is shared pages, counted once for each process."""
        started_s = self._clock()
        if started_s < self._pss_at_s:
            return
        members = list(self._members.values())
        try:
            pss_bytes = self._smaps.call(lambda: _pss_bytes(members))
        except OSError:
            pss_bytes = None
        if pss_bytes is not None:
            self._counted_twice = max(0, rss_bytes - pss_bytes)
        self._pss_at_s = started_s + max(_PSS_AT_LEAST_S, _PSS_EVERY * (self._clock() - started_s))


def _descendants(pids: Iterable[int]) -> Iterator[psutil.Process]:
    import psutil

    for pid in pids:
        try:
            process = psutil.Process(pid)
            yield process
            yield from process.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        except psutil.Error as error:
            raise OSError(str(error)) from error


def _use_of(process: psutil.Process) -> _Process | None:
    """Return what a process uses, or None when it has ended."""
    import psutil

    try:
        with process.oneshot():
            status = process.status()
            if status == psutil.STATUS_ZOMBIE:
                return None
            times = process.cpu_times()
            return _Process(
                process.pid,
                process.memory_info().rss,
                times.user + times.system,
                _io_bytes(process),
                is_stopped=status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP},
            )
    except psutil.NoSuchProcess:
        return None
    except psutil.Error as error:
        raise OSError(str(error)) from error


def _io_bytes(process: psutil.Process) -> int | None:
    """Return the bytes that a process moved: by calls, from the page cache too, and by faults on mapped files."""
    import psutil

    if not hasattr(process, "io_counters"):  # macOS
        return None
    try:
        io = process.io_counters()
    except psutil.AccessDenied:
        return None
    moved = getattr(io, "read_chars", 0) + getattr(io, "write_chars", 0)
    return int(moved + io.read_bytes + io.write_bytes)


def _pss_bytes(processes: Iterable[psutil.Process]) -> int | None:
    """Return the memory of processes with shared pages counted once, or None where the kernel does not tell."""
    import psutil

    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, AttributeError):  # only Linux has it
            return None
    return total


def _tasks(pid: int) -> list[Path]:
    """Return the folders of the threads of `pid`; none when it is gone or there is no /proc."""
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _state(folder: Path) -> tuple[str, str] | None:
    """Return state letter and place of waiting of the process or thread that `folder` shows."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        letter = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    try:
        place = (folder / "wchan").read_text(encoding="utf-8", errors="replace").strip("\0\n")
    except OSError:
        place = ""
    return letter, place if place not in {"", "0"} else "an unknown place"


@contextmanager
def _os_errors() -> Iterator[None]:
    import psutil

    try:
        yield
    except psutil.Error as error:
        raise OSError(str(error)) from error


# ---------------------------------------------------------------------------------------------------- files


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _heartbeat(path: Path) -> Heartbeat | None:
    stat = _stat(path)
    return None if stat is None else Heartbeat(stat.st_mtime_ns, read_progress(path))
