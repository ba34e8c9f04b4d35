"""A process and all below it: what they use, and which of their threads hang in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.deadline import Deadline

if TYPE_CHECKING:
    import psutil

PROC = Path("/proc")

_LIST_EVERY = 1000
_PSS_EVERY = 300
"""A costly reading is repeated after so many times what it took: together under half a percent of a core."""
_SHARED_MATTERS = 0.05
"""Share of resident memory below which it does not matter whether pages are counted twice."""
_LIST_AT_LEAST_S, _LIST_AT_MOST_S = 5.0, 60.0
_PSS_AT_LEAST_S = 30.0


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


class Tree:
    """A process and all below it, listed now and then and read each time.

    Parameters
    ----------
    pid : int
        The process.
    more : callable
        Returns further processes that belong to it.
    clock : callable
        Monotonic time (s).
    """

    def __init__(self, pid: int, more: Callable[[], Iterable[int]], clock: Callable[[], float]) -> None:
        self._pid = pid
        self._more = more
        self._clock = clock
        self._members: list[psutil.Process] = []
        self._list_at_s = -float("inf")
        self._pss_at_s = -float("inf")
        self._counted_twice = 0
        self._smaps = Deadline("the kernel's account of shared memory")

    def use(self) -> TreeUse:
        """Return what they use together."""
        self._list_when_due()
        found = [use for use in map(_use_of, self._members) if use is not None]
        rss_bytes = sum(use.rss_bytes for use in found)
        # No more can be counted twice than what the smaller processes hold.
        smaller_bytes = rss_bytes - max((use.rss_bytes for use in found), default=0)
        if smaller_bytes > _SHARED_MATTERS * rss_bytes:
            self._compare_shared_when_due(rss_bytes)
        counts = [use.io_bytes for use in found if use.io_bytes is not None]
        return TreeUse(
            pids=frozenset(use.pid for use in found),
            memory_bytes=rss_bytes - min(self._counted_twice, smaller_bytes),
            cpu_s=sum(use.cpu_s for use in found),
            io_bytes=sum(counts) if counts else None,
            n_stopped=sum(use.is_stopped for use in found),
        )

    def blocked(self) -> Iterator[tuple[int, str]]:
        """Yield the threads in uninterruptible sleep, with the place in the kernel where they wait."""
        self._list_when_due()
        for process in self._members:
            for task in _tasks(process.pid):
                if _letter(task) == "D":
                    number = int(task.name)
                    yield number, host.waiting_in_kernel(number) or "an unknown place"

    def _list_when_due(self) -> None:
        started_s = self._clock()
        if started_s < self._list_at_s:
            return
        self._members = [process for pid in (self._pid, *self._more()) for process in _with_descendants(pid)]
        took_s = self._clock() - started_s
        self._list_at_s = started_s + min(max(_LIST_AT_LEAST_S, _LIST_EVERY * took_s), _LIST_AT_MOST_S)

    def _compare_shared_when_due(self, rss_bytes: int) -> None:
        """Learn how much of the sum of resident memory is shared pages, counted once for each process."""
        started_s = self._clock()
        if started_s < self._pss_at_s:
            return
        members = list(self._members)
        try:
            pss_bytes = self._smaps.call(lambda: sum(map(_pss_bytes, members)))
        except OSError:
            self._counted_twice = 0
        else:
            self._counted_twice = max(0, rss_bytes - pss_bytes)
        self._pss_at_s = started_s + max(_PSS_AT_LEAST_S, _PSS_EVERY * (self._clock() - started_s))


@dataclass(frozen=True)
class _Process:
    """What one process uses."""

    pid: int
    rss_bytes: int
    cpu_s: float
    io_bytes: int | None
    is_stopped: bool


def _with_descendants(pid: int) -> list[psutil.Process]:
    """Return the process `pid` and all below it; none when it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
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


def _pss_bytes(process: psutil.Process) -> int:
    """Return the memory of a process, with its share of the pages that it shares; 0 when it has ended."""
    import psutil

    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
    except (psutil.AccessDenied, AttributeError) as error:  # only Linux has it
        msg = f"shared memory cannot be told: {error}"
        raise OSError(msg) from error


def _tasks(pid: int) -> list[Path]:
    """Return the folders of the threads of `pid`; none when it is gone or there is no /proc."""
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _letter(task: Path) -> str | None:
    """Return the letter for the state of the thread with the folder `task`; None when it is gone."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        return (task / "stat").read_bytes().rpartition(b") ")[2][:1].decode() or None
    except OSError:
        return None
