"""Control groups of the kernel (version 1), each below the one that we are in: a limit of memory, and a freezer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nemesis


def memory_limited(n_bytes: int) -> AbstractContextManager[None]:
    """Give this process, and what it starts, only so much memory; the kernel kills what takes more."""
    return _limited("memory", "memory.limit_in_bytes", n_bytes)


def processes_limited(n: int) -> AbstractContextManager[None]:
    """Let this process, and what it starts, be only so many processes and threads; a further one is refused."""
    return _limited("pids", "pids.max", n)


@contextmanager
def _limited(controller: str, file: str, limit: int) -> Iterator[None]:
    before = _ours(controller)
    place = before / _name()
    place.mkdir()
    try:
        (place / file).write_text(str(limit))
        (place / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        _remove(place)


@contextmanager
def freezer() -> Iterator[Callable[[int], None]]:
    """Yield a function that freezes a process, so that nothing reaches it; in the end it is thawed and killed."""
    place = _ours("freezer") / _name()
    place.mkdir()

    def freeze(pid: int) -> None:
        (place / "cgroup.procs").write_text(str(pid))
        (place / "freezer.state").write_text("FROZEN")
        nemesis.wait_until(lambda: (place / "freezer.state").read_text() == "FROZEN\n", 5, "the frost")

    try:
        yield freeze
    finally:
        (place / "freezer.state").write_text("THAWED")
        _remove(place)


def _ours(controller: str) -> Path:
    """Return the group of this process; where there is none, as under version 2, making one below it fails."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path("/sys/fs/cgroup", controller, path.lstrip("/"))
    msg = f"this kernel has no {controller} controller of version 1"
    raise OSError(msg)


def _name() -> str:
    return f"spikelab-faults-{time.monotonic_ns()}"


def _remove(place: Path) -> None:
    nemesis.kill_the_rest()
    nemesis.wait_until(lambda: not (place / "cgroup.procs").read_text(), 5, "an empty group")
    place.rmdir()
