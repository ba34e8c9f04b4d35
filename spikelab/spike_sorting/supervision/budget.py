"""Cores and memory that recordings in flight share: a phase begins when what it needs is left, or when it is alone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LOOK_S = 0.5
"""Time between two looks at whether the user wants to stop (s)."""


@dataclass(frozen=True)
class Need:
    """What a phase takes of the machine.

    Parameters
    ----------
    cores : int, default 1
        Cores that it keeps busy.
    ram_bytes : float, default 0
        Memory, as far as it can be told beforehand.
    """

    cores: int = 1
    ram_bytes: float = 0.0


class Budget:
    """What there is to share; safe to use from several threads.

    Parameters
    ----------
    cores : float, default infinity
        Cores for all phases together.
    ram_bytes : float, default infinity
        Memory for all phases together.
    """

    def __init__(self, cores: float = math.inf, ram_bytes: float = math.inf) -> None:
        self.cores, self.ram_bytes = cores, ram_bytes
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._in_use: list[Need] = []
        self._n_tickets = 0

    @contextmanager
    def hold(
        self, need: Need, rank: int, stop: threading.Event, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Wait until `need` is left, and hold it for the ``with`` block.

        What needs more than there is begins when nothing else is in flight: it never waits for ever.

        Parameters
        ----------
        need : Need
            What it takes.
        rank : int
            Of those that wait, the lowest comes first, and of equals the earliest. Nobody overtakes it: what needs
            much would wait for ever behind what needs little.
        stop : Event
            Ends the wait.
        on_wait : callable, optional
            Called once when there is a wait.

        Raises
        ------
        KeyboardInterrupt
            `stop` was set.
        """
        self._begin(need, rank, stop, on_wait)
        try:
            yield
        finally:
            with self._changed:
                self._in_use.remove(need)
                self._changed.notify_all()

    def _begin(self, need: Need, rank: int, stop: threading.Event, on_wait: Callable[[], None]) -> None:
        with self._changed:
            self._n_tickets += 1
            ticket = (rank, self._n_tickets)
            self._waiting.append(ticket)
            must_wait = not self._is_turn(ticket, need)
        try:
            if must_wait:
                on_wait()  # without the lock: a slow disk on which that is told must not hold up the others
            with self._changed:
                while not self._is_turn(ticket, need):
                    if stop.is_set():
                        msg = "stopped by the user"
                        raise KeyboardInterrupt(msg)
                    self._changed.wait(_LOOK_S)
                self._in_use.append(need)
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _is_turn(self, ticket: tuple[int, int], need: Need) -> bool:
        return ticket == min(self._waiting) and (not self._in_use or self._fits(need))

    def _fits(self, need: Need) -> bool:
        cores = need.cores + sum(one.cores for one in self._in_use)
        ram_bytes = need.ram_bytes + sum(one.ram_bytes for one in self._in_use)
        return cores <= self.cores and ram_bytes <= self.ram_bytes
