"""One run per folder, kept by the kernel: the lock is free exactly when the last process of the run is gone.

The lock is native (flock on Unix, LockFileEx on Windows) on a descriptor that we own and that workers
inherit. It is never unlinked and released only by closing, so there is nothing stale to reclaim: after a
crash the kernel has already freed it, unless a process of the crashed run lives on. Such a process is known by
the run's cookie and is ended. The file's content is for that, for the message to the second run, and for tries.

A run may have several tries, on several machines, one after the other: their ids are ``RUN.TRY``. A later try writes
its card over that of an earlier one, which was thought lost. Should that one live, it is told by the card that the
folder is no longer its own: it publishes nothing more and stops. That holds, too, where a file system keeps locks on
each machine for itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from spikelab.spike_sorting._exceptions import ConcurrentSortError, EnvironmentSortFailure
from spikelab.spike_sorting.supervision import forks, host, sweep
from spikelab.spike_sorting.supervision.deadline import Deadline, NoAnswerError

LOCK_NAME = ".spikelab.lock"
_SURVIVORS_END_S = 5.0
_GLANCE_S = 0.2
"""A lock that is held for longer is a run's; `holder_of` holds it for an instant only."""
_POLL_S = 0.02
_RELEASE_S = 5.0
_HANDOVER_S = 150.0
"""Time for an earlier try to stop; a server of files forgets the locks of a dead machine after 90 s."""
_NOTICE_S = 5.0
"""Time for an earlier try on another machine, whose lock is not seen here, to read that it has lost."""


@contextmanager
def hold(folders: Sequence[Path], run_id: str | None = None) -> Iterator[tuple[int, ...]]:
    """Hold the locks of `folders` and yield their descriptors, for workers to inherit.

    Parameters
    ----------
    folders : sequence of Path
        Created where they are missing.
    run_id : str or None, default None
        Cookie that the run's processes carry, by which survivors of a crash are found.

    Raises
    ------
    ConcurrentSortError
        Another run holds one of them; names the holder. Then none of them is held.
    EnvironmentSortFailure
        The file system keeps no locks.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_hold_one(folder, run_id)) for folder in dict.fromkeys(folders))


@contextmanager
def _hold_one(folder: Path, run_id: str | None) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    forks.keep_from_forks(descriptor)
    try:
        if not (
            _locked_within(descriptor, path, _GLANCE_S)
            or _taken_from_the_dead(descriptor, path)
            or _handed_over(descriptor, path, run_id)
        ):
            raise _held_by_another(path)
        before = read_card(path)
        _end_survivors(before)
        write_card(descriptor, run_id)
        if is_earlier_try(before, run_id) and before.get("hostname") != host.host_name():
            time.sleep(_NOTICE_S)
        yield descriptor
    finally:
        release(descriptor, path)


def release(descriptor: int, path: Path, *, close: Callable[[int], None] = forks.close) -> None:
    """Close a lock, once; on a disk that does not answer that is left to the kernel, which does it when it can.

    Parameters
    ----------
    descriptor : int
        Of the lock.
    path : Path
        Of the lock, for the name of its disk.
    close : callable, default forks.close
        Closes it. A share may tell only then that it could not write the card; the lock is free all the same, and its
        number is the next file's.
    """

    def closed() -> None:
        with suppress(OSError):
            close(descriptor)

    try:
        Deadline(f"the disk of {path}", _RELEASE_S).call(closed)
    except NoAnswerError:
        return
    except OSError:  # no further thread is to be had
        closed()


def _taken_from_the_dead(descriptor: int, path: Path) -> bool:
    """Take a lock that only survivors of a crashed run hold, by ending them; return whether it is ours now."""
    return _end_survivors(read_card(path)) and _locked_within(descriptor, path, _SURVIVORS_END_S)


def _handed_over(descriptor: int, path: Path, run_id: str | None) -> bool:
    """Have an earlier try of the same run give the lock back; return whether it is ours now."""
    if not is_earlier_try(read_card(path), run_id):
        return False
    write_card(descriptor, run_id)
    return _locked_within(descriptor, path, _HANDOVER_S)


def is_earlier_try(card: Mapping[str, Any], run_id: str | None) -> bool:
    """Return whether `card` is that of another try of the run of which `run_id`, ``RUN.TRY``, is one."""
    run, _, own = (run_id or "").partition(".")
    before, _, theirs = str(card.get("run_id") or "").partition(".")
    return bool(own and theirs) and run == before and own != theirs


def check_still_ours(folders: Sequence[Path], run_id: str) -> None:
    """Raise ConcurrentSortError where another run has taken over one of `folders` from `run_id`."""
    for folder in folders:
        path = folder / LOCK_NAME
        card = read_card(path)
        # One that cannot be read is just being written: the next look tells.
        if card.get("run_id") not in {None, run_id}:
            raise _error(path, card, "was taken over by another run, as this one was thought lost; it stops here")


def _end_survivors(card: Mapping[str, Any]) -> bool:
    """End what a crashed run left running; return whether `card` is that of a crashed run.

    A survivor need not hold the lock: a sorter may start programs that do not inherit it.
    """
    if not card.get("run_id") or not host.is_dead(card):
        return False
    sweep.kill_by_cookie(sweep.RUN_COOKIE, card["run_id"])
    return True


def _locked_within(descriptor: int, path: Path, seconds: float) -> bool:
    """Try to take the lock for so long; return whether it is ours."""
    waited = 0.0
    while not take(descriptor, path):
        if waited >= seconds:
            return False
        time.sleep(_POLL_S)
        waited += _POLL_S
    return True


def take(descriptor: int, path: Path) -> bool:
    """Take the lock `path`, open as `descriptor`, if nobody holds it; return whether it is ours.

    Raises
    ------
    EnvironmentSortFailure
        The file system keeps no locks.
    """
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        msg = (
            f"{path.parent} cannot be locked ({error}), so that two runs would not see each other there; "
            "put results and intermediate files on a local disk"
        )
        raise EnvironmentSortFailure(msg) from error


def holder_of(folder: Path) -> dict[str, Any] | None:
    """Return who holds `folder` now, or None when nobody does.

    It is found out by trying, which takes the lock for an instant.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = opened(path)
    except FileNotFoundError:
        return None
    try:
        return None if lock_descriptor(descriptor, blocking=False) else read_card(path)
    finally:
        os.close(descriptor)


def opened(path: Path, flags: int = 0) -> int:
    """Return a descriptor of a lock file that exists, also of one that only others may write."""
    try:
        return os.open(path, os.O_RDWR | flags)
    except PermissionError:  # a colleague's: it can be looked at, where the file system locks what is only read
        return os.open(path, os.O_RDONLY | flags)


def write_card(descriptor: int, run_id: str | None) -> None:
    """Write into the lock file who holds it; only for its holder."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps({**host.process_card(), "run_id": run_id}).encode())


def _held_by_another(path: Path) -> ConcurrentSortError:
    return _error(path, read_card(path), "is being sorted by another run")


def _error(path: Path, card: Mapping[str, Any], what: str) -> ConcurrentSortError:
    holder = f"process {card.get('pid')} on {card.get('hostname')} since {card.get('started_at')}"
    return ConcurrentSortError(
        f"{path.parent} {what} ({holder if card else 'holder unknown'})",
        lock_path=str(path),
        holder_pid=card.get("pid"),
        holder_hostname=card.get("hostname"),
        started_at=card.get("started_at"),
    )


def read_card(path: Path) -> dict[str, Any]:
    """Return who wrote the lock file `path` last; empty when nobody did, or it cannot be read."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}
