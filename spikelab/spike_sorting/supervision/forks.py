"""Descriptors of locks, which a process that is forked from this one would hold as well, for as long as it lives.

Programs that are started get them only where they are meant to; a fork, as by ``multiprocessing``, gets everything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache


def keep_from_forks(descriptor: int) -> None:
    """Have processes that are forked from now on close `descriptor`, until `close` does."""
    _kept().add(descriptor)


def close(descriptor: int) -> None:
    """Close `descriptor`, and leave its number alone in forks from now on."""
    _kept().discard(descriptor)
    os.close(descriptor)


@cache
def _kept() -> set[int]:
    """Return the descriptors of this process that forks close: one set, since what forks call is never unregistered."""
    kept: set[int] = set()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _close_all(kept))
    return kept


def _close_all(kept: set[int]) -> None:
    while kept:
        with suppress(OSError):  # a thread of the parent was about to close it
            os.close(kept.pop())
