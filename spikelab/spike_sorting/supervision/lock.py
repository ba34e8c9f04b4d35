"""One run per folder, kept by the kernel: the lock is free exactly when the last process of the run is gone.

The lock is native (flock on Unix, LockFileEx on Windows) on a descriptor that we own and that workers
inherit. It is never unlinked and released only by closing, so there is nothing stale to reclaim: after a
crash the kernel has already freed it. The file's content is for the message to the second run only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision import host

LOCK_NAME = ".spikelab.lock"


@contextmanager
def hold(folders: Sequence[Path]) -> Iterator[tuple[int, ...]]:
    """Hold the locks of `folders` and yield their descriptors, for workers to inherit.

    Raises
    ------
    ConcurrentSortError
        Another run holds one of them; names the holder. Then none of them is held.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_hold_one(folder)) for folder in dict.fromkeys(folders))


@contextmanager
def _hold_one(folder: Path) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if not lock_descriptor(descriptor, blocking=False):
            raise _held_by_another(path)
        _write_card(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_card(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(host.process_card()).encode())


def _held_by_another(path: Path) -> ConcurrentSortError:
    card = read_card(path)
    holder = f"process {card.get('pid')} on {card.get('hostname')} since {card.get('started_at')}"
    return ConcurrentSortError(
        f"{path.parent} is being sorted by another run ({holder if card else 'holder unknown'})",
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
