"""Find what an earlier run left running, by the cookie in its environment, and end it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from spikelab.spike_sorting.supervision.guardian import Process, kill_all, living_processes

RUN_COOKIE = "SPIKELAB_RUN_ID"
"""Environment variable by which the processes of a run are known, wherever they end up."""

_SWEEP_S = 3.0


def kill_by_cookie(variable: str, value: str) -> int:
    """Kill every process, of this user or visible to it, that carries ``variable=value``; return how many there were.

    Nothing else is ever touched: a cookie is unique to a run, and this process is left out.
    """
    found: set[int] = set()

    def look() -> list[Process]:
        living = list(with_cookie(variable, value))
        found.update(process.pid for process in living)
        return living

    kill_all(look, _SWEEP_S)
    return len(found)


def with_cookie(variable: str, value: str) -> Iterator[Process]:
    """Yield the living processes whose environment holds ``variable=value``, but this one."""
    for process in living_processes():
        if process.pid != os.getpid() and has_cookie(process.pid, variable, value):
            yield process


def has_cookie(pid: int, variable: str, value: str) -> bool:
    """Return whether the process `pid` lives, visible to us, and carries ``variable=value``."""
    return f"{variable}={value}".encode() in _environment(pid)


def _environment(pid: int) -> list[bytes]:
    """Return the environment with which a process was started; empty where that cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - no Path: /proc only
            return file.read().split(b"\0")
    except OSError:
        return []
