"""Cores and memory that recordings in flight share."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.spike_sorting.supervision.budget import Budget, Need

NEVER = threading.Event()
needs = st.builds(Need, st.integers(1, 6), st.integers(0, 12))


@given(st.lists(st.tuples(needs, st.integers(0, 2)), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_budget_is_never_exceeded_and_everybody_has_a_turn(wanted: list[tuple[Need, int]]) -> None:
    """Whatever is asked for by whom: what is in flight together fits, or is alone; and all of it ends."""
    budget, at_once, flying, seen = Budget(cores=4, ram_bytes=8), threading.Lock(), [], []

    def work(need: Need, rank: int) -> None:
        with budget.hold(need, rank, NEVER):
            with at_once:
                flying.append(need)
                seen.append(list(flying))
            time.sleep(0.0005)
            with at_once:
                flying.remove(need)

    threads = [threading.Thread(target=work, args=one) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == len(wanted)
    for together in seen:
        fits = sum(n.cores for n in together) <= 4 and sum(n.ram_bytes for n in together) <= 8
        assert fits or len(together) == 1


def test_a_sort_comes_before_what_began_to_wait_earlier() -> None:
    """The lowest rank is next, and of equals the first; what needs little does not overtake what needs much."""
    budget, order = Budget(cores=2), []

    def work(name: str, cores: int, rank: int) -> None:
        with budget.hold(Need(cores), rank, NEVER):
            order.append(name)

    with budget.hold(Need(2), 0, NEVER):
        threads = []
        for one in (("prepare", 1, 2), ("large finish", 2, 1), ("finish", 1, 1), ("sort", 2, 0)):
            threads.append(threading.Thread(target=work, args=one))
            threads[-1].start()
            while len(budget._waiting) < len(threads):
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order[:2] == ["sort", "large finish"]
    assert sorted(order[2:]) == ["finish", "prepare"]


def test_who_stops_waits_no_longer() -> None:
    """Ctrl-C ends the wait of a phase that has not begun, and leaves the budget as it was."""
    budget, stop, told = Budget(cores=1), threading.Event(), []
    with budget.hold(Need(), 0, NEVER):
        with pytest.raises(KeyboardInterrupt), budget.hold(Need(), 1, stop, lambda: (told.append("waits"), stop.set())):
            pass
        assert told == ["waits"]
    with suppress(ZeroDivisionError), budget.hold(Need(), 0, NEVER):
        _ = 1 / 0
    with budget.hold(Need(), 0, stop):
        assert not budget._waiting


def test_a_wait_that_is_told_slowly_holds_up_nobody() -> None:
    """While one recording writes down that it waits, on a disk that hangs, the others end their phases."""
    budget, telling, told = Budget(cores=1), threading.Event(), threading.Event()
    held = budget.hold(Need(), 0, NEVER)
    held.__enter__()

    def wait() -> None:
        with budget.hold(Need(), 0, NEVER, lambda: (telling.set(), told.wait(60))):
            pass

    threads = [threading.Thread(target=wait), threading.Thread(target=held.__exit__, args=(None, None, None))]
    threads[0].start()
    assert telling.wait(20)
    threads[1].start()
    threads[1].join(20)
    is_held_up = threads[1].is_alive()
    told.set()
    for thread in threads:
        thread.join(20)
    assert not is_held_up
