"""The one place that asks the operating system: clock, cores, memory, who we are.

Everything that depends on the platform goes through here, so that what is missing elsewhere than on Linux
degrades in one named place.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

IS_POSIX = os.name == "posix"
_QUIET_RELEASE = "ignore:resource_tracker:UserWarning"
"""A filter of warnings, by the first word of the one that would be the last line of the log."""
CUDA_ORDER: Mapping[str, str] = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Environment in which CUDA numbers its devices as the driver does; otherwise the fastest comes first."""


def utc_now() -> str:
    """Return the wall clock as ISO 8601 in UTC; for display only, never for durations."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def host_name() -> str:
    """Return the name by which this machine tells itself from others that share its folders."""
    return socket.gethostname()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_cores() -> int:
    """Return how many cores nobody uses now, at least 1, from a short look at them.

    The load average would still count the work that this batch has just finished.
    """
    import psutil

    busy = float(psutil.cpu_percent(interval=0.3)) / 100
    return max(1, round(usable_cores() * (1 - busy)))


def available_memory_bytes() -> int:
    """Return the memory that can be taken without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def total_memory_bytes() -> int:
    """Return the memory of the machine."""
    import psutil

    return int(psutil.virtual_memory().total)


def give_back_memory() -> None:
    """Return what this process has freed to the system, where its C library can be told to.

    A worker's allocator keeps it otherwise, see `worker_environment`.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def shared_folder() -> Path:
    """Return the folder in which every user of this machine may leave files for all others, whatever TMPDIR says."""
    return Path("/tmp") if IS_POSIX else Path(os.environ.get("PROGRAMDATA", tempfile.gettempdir()))


def process_card() -> dict[str, Any]:
    """Return who holds something: process, what tells it from a later owner of its number, host and time."""
    return {
        "pid": os.getpid(),
        "identity": process_identity(os.getpid()),
        "hostname": host_name(),
        "started_at": utc_now(),
    }


def process_identity(pid: int) -> str | None:
    """Return what tells the process `pid` from any other that ever has this number, or None when it is gone.

    On Linux that is the boot of the machine and the clock ticks from there to its start, which no change of the
    wall clock moves.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return _identity_without_proc(pid)
    return f"{boot} {ticks}"


def _identity_without_proc(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except (psutil.NoSuchProcess, ValueError):  # gone, or no number that a process can have
        return None


def user_of(pid: int) -> str | None:
    """Return whose the process `pid` is, or None where that is not told."""
    import psutil

    try:
        return str(psutil.Process(pid).username())
    except (psutil.Error, ValueError):
        return None


def is_dead(card: Mapping[str, Any]) -> bool:
    """Return whether the process of `card` is proven gone: only one of this machine can be."""
    if card.get("hostname") != host_name() or not isinstance(card.get("pid"), int):
        return False
    return process_identity(card["pid"]) != card.get("identity")


def worker_environment(n_threads: int) -> Mapping[str, str]:
    """Return the environment of a worker: this one, with thread pools that behave on a busy machine.

    OpenMP threads spin while they wait, which collapses when another job wants the core: they are told to
    sleep instead, and no pool is larger than the cores that were free at the start. The allocator keeps what was
    freed: returning large arrays to the kernel and taking them back costs Kilosort a fifth of its time. What releases
    the shared memory of a worker that was killed does not complain, as if that were why it ended.
    """
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        **os.environ,
        **{pool: str(n_threads) for pool in pools},
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        **CUDA_ORDER,
        "MPLBACKEND": "Agg",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _QUIET_RELEASE))),
    }


@contextmanager
def numbering_gpus_as_a_worker() -> Iterator[None]:
    """Have CUDA, if it is opened in the ``with`` block by this process, number its devices as it does for a worker."""
    before = {name: os.environ.get(name) for name in CUDA_ORDER}
    os.environ.update(CUDA_ORDER)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def wait_for_exit(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """Return the exit code of a child, or None when it still runs after `timeout_s` seconds.

    ``subprocess`` itself looks twenty times a second, which over a night is most of what watching costs: where the
    kernel can tell, it is asked to.
    """
    if process.poll() is None and (handle := _pidfd(process.pid)) is not None:
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll(1000 * timeout_s)
        finally:
            os.close(handle)
        return process.poll()
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _pidfd(pid: int) -> int | None:
    """Return a handle on our child `pid`, which is not reaped yet, or None where the system has none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox that does not allow it
        return None


def wall_clock_s() -> float:
    """Return seconds since the epoch, for libraries that ask for it; durations use the monotonic clock."""
    return datetime.now(timezone.utc).timestamp()


def waiting_in_kernel(pid: int) -> str | None:
    """Return where in the kernel the process or thread `pid` waits, where that can be read."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text(encoding="utf-8", errors="replace").strip("\0\n")
    except OSError:
        return None
    return place if place not in {"", "0"} else None  # the kernel says 0 for what it does not tell
