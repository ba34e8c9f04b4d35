"""Which of several runs is stopped when the machine runs out of memory: the largest, and only that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


def largest_first(sizes: dict[int, int]) -> int | None:
    """Return the key of the largest size, or None when there is none; of equals the later key."""
    return max(sizes, key=lambda key: (sizes[key], key)) if sizes else None


class MemoryArbiter:
    """Shared by the monitors of all runs in flight; safe to use from several threads.

    Once one run is chosen, no other is until that one has ended or the memory has recovered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._chosen: int | None = None

    @contextmanager
    def member(self, pid: int) -> Iterator[None]:
        """Take part with the run of the process `pid` until its end."""
        with self._lock:
            self._sizes[pid] = 0
        try:
            yield
        finally:
            with self._lock:
                self._sizes.pop(pid, None)
                if self._chosen == pid:
                    self._chosen = None

    def note(self, pid: int, n_bytes: int) -> None:
        """Say how large the run of `pid` is; of one that takes no part, nothing is kept."""
        with self._lock:
            if pid in self._sizes:
                self._sizes[pid] = n_bytes

    def total_bytes(self) -> int:
        """Return how large all runs in flight are together."""
        with self._lock:
            return sum(self._sizes.values())

    def claim(self, pid: int) -> bool:
        """Return whether the run of `pid` is the one to stop; one that takes no part decides for itself."""
        with self._lock:
            if pid not in self._sizes:
                return True
            if self._chosen is None:
                self._chosen = largest_first(self._sizes)
            return self._chosen == pid

    def release(self, pid: int) -> None:
        """Say that the run of `pid` sees no shortage any more."""
        with self._lock:
            if self._chosen == pid:
                self._chosen = None
