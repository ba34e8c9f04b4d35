"""The one place that asks the operating system: clock, cores, memory, who we are.

Everything that depends on the platform goes through here, so that what is missing elsewhere than on Linux
degrades in one named place.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any


def utc_now() -> str:
    """Return the wall clock as ISO 8601 in UTC; for display only, never for durations."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_cores() -> int:
    """Return how many cores are idle now, at least 1, judged by the load of the last minute."""
    if not hasattr(os, "getloadavg"):
        return usable_cores()
    return max(1, round(usable_cores() - os.getloadavg()[0]))


def available_memory_bytes() -> int:
    """Return the memory that can be taken without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def process_card() -> dict[str, Any]:
    """Return who holds something: pid, start time of that pid, host and time, for messages."""
    import psutil

    return {
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "hostname": socket.gethostname(),
        "started_at": utc_now(),
    }


def worker_environment(n_threads: int) -> Mapping[str, str]:
    """Return the environment of a worker: this one, with thread pools that behave on a busy machine.

    OpenMP threads spin while they wait, which collapses when another job wants the core: they are told to
    sleep instead, and no pool is larger than the cores that were free at the start.
    """
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        **os.environ,
        **{pool: str(n_threads) for pool in pools},
        "OMP_WAIT_POLICY": "PASSIVE",
        "MPLBACKEND": "Agg",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def wall_clock_s() -> float:
    """Return seconds since the epoch, for libraries that ask for it; durations use the monotonic clock."""
    return datetime.now(timezone.utc).timestamp()
