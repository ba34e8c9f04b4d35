"""The lock file of each GPU, which everybody on the machine shares.

The lock is that of `lock.py`: native, inherited by the worker, never unlinked, free exactly when the last process of
the sort is gone. Its folder is sticky and open to all, so that a lock file may be another user's: it is opened without
being created first, which such a folder forbids, and for reading alone where it may not be written.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure
from spikelab.spike_sorting.supervision import forks, host, lock

FOLDER_VARIABLE = "SPIKELAB_GPU_LOCKS"
"""Names the folder of the lock files where the machine's own is not shared, as between containers."""
_OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""In a folder that is open to all, somebody may have put a link or a pipe in the place of a lock file."""
_BEGIN, _END = "spikelab-", ".lock"


def lock_folder() -> Path:
    """Return the folder of the lock files: that of the machine, or the one that ``SPIKELAB_GPU_LOCKS`` names."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else host.shared_folder()


def lock_path(folder: Path, key: str) -> Path:
    """Return the lock file of the GPU that `key` tells from all others."""
    return folder / f"{_BEGIN}{lock_name(key)}{_END}"


def lock_name(key: str) -> str:
    """Return `key` as it stands in the name of a file."""
    name = key if key.startswith(("GPU-", "MIG-")) else f"GPU-{key}"
    return re.sub(r"[^A-Za-z0-9-]", "-", name)


def taken(path: Path, run_id: str) -> int | None:
    """Return a descriptor that holds the lock until `forks.close`, or None while somebody else does.

    Raises
    ------
    EnvironmentSortFailure
        The lock cannot be used.
    """
    descriptor = _opened(path)
    is_ours = False
    try:
        # Whoever cleans the folder up may have removed the file between the two: then it is nobody's lock.
        is_ours = lock.take(descriptor, path) and _is_still_there(descriptor, path)
        if is_ours:
            forks.keep_from_forks(descriptor)
            with suppress(OSError):  # another user's file: it keeps the name of its last writer
                lock.write_card(descriptor, run_id)
        return descriptor if is_ours else None
    finally:
        if not is_ours:
            os.close(descriptor)


def held_gpus(folder: Path | None = None) -> dict[str, str]:
    """Return who holds each GPU that is held now, by `lock_name`; nothing is left behind.

    It is found out by trying, which takes a lock for an instant. What cannot be looked at is left out: whoever needs
    that GPU is told why.

    Parameters
    ----------
    folder : Path or None, default None
        Folder of the lock files; None for `lock_folder`.
    """
    found = sorted((folder or lock_folder()).glob(f"{_BEGIN}[GM][PI][UG]-*{_END}"))
    names = {path: path.name.removeprefix(_BEGIN).removesuffix(_END) for path in found}
    return {name: holder(path, with_user=True) for path, name in names.items() if _is_held(path)}


def _is_held(path: Path) -> bool:
    try:
        descriptor = _opened(path)
    except EnvironmentSortFailure:
        return False
    try:
        return not lock.take(descriptor, path)
    except EnvironmentSortFailure:
        return False
    finally:
        os.close(descriptor)


def holder(path: Path, *, with_user: bool = False) -> str:
    """Return who holds the lock `path`, for people: "process 4711", where its card tells that."""
    card = lock.read_card(path)
    if not isinstance(card.get("pid"), int) or host.is_dead(card):
        return "another sort"
    if card.get("hostname") != host.host_name():
        return "a process of another container or machine"
    if card.get("pid") == os.getpid():
        return "this batch"
    return f"process {card['pid']}{_user(card) if with_user else ''}"


def _user(card: Mapping[str, Any]) -> str:
    name = host.user_of(card["pid"])
    return f" (user {name})" if name else ""


def _opened(path: Path) -> int:
    """Return a descriptor of the lock file, which whoever comes first makes."""
    try:
        try:
            descriptor = lock.opened(path, _OPEN_FLAGS)
        except FileNotFoundError:
            descriptor = _made(path)
    except OSError as error:
        raise _unusable(path, f"cannot be opened ({error})") from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
        return descriptor
    os.close(descriptor)
    raise _unusable(path, "is no file of its own, and another one would be written into")


def _made(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666)
    except FileExistsError:  # somebody else has just made it
        return lock.opened(path, _OPEN_FLAGS)
    if host.IS_POSIX:
        os.fchmod(descriptor, 0o666)  # whatever the umask: the next user leaves a name in it
    return descriptor


def _unusable(path: Path, why: str) -> EnvironmentSortFailure:
    msg = (
        f"the lock file {path}, by which sorts of all users share a GPU, {why}; "
        f"remove it, or have {FOLDER_VARIABLE} name another folder for everybody on this machine"
    )
    return EnvironmentSortFailure(msg)


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
