"""When memory is short, one run goes and the others go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter, largest_first


def test_the_largest_is_first():
    """The largest size is chosen, of equals one for sure, of none nobody."""
    assert largest_first({1: 5, 2: 9, 3: 7}) == 2
    assert largest_first({1: 5, 2: 5}) == 2
    assert largest_first({}) is None


def test_only_the_largest_run_is_stopped():
    """However often they ask, only the largest is chosen, until it has ended."""
    arbiter = MemoryArbiter()
    with arbiter.member(1), arbiter.member(3):
        with arbiter.member(2):
            for pid, size in ((1, 10), (2, 50), (3, 20)):
                arbiter.note(pid, size)
            assert [arbiter.claim(pid) for pid in (1, 2, 3)] == [False, True, False]
            arbiter.note(1, 90)
            assert not arbiter.claim(1)
        assert [arbiter.claim(pid) for pid in (1, 3)] == [True, False]
        arbiter.release(3)
        assert arbiter.claim(1)
        arbiter.release(1)
        arbiter.note(3, 100)
        assert [arbiter.claim(pid) for pid in (1, 3)] == [False, True]


def test_who_takes_no_part_decides_alone():
    """A run that did not join is not held back, nor does it hold back others."""
    arbiter = MemoryArbiter()
    arbiter.note(9, 10**12)
    assert arbiter.claim(9)
    with arbiter.member(1):
        assert arbiter.claim(1)


def test_threads_agree():
    """Asked by many threads at once, exactly one run is chosen."""
    arbiter = MemoryArbiter()
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        for pid in range(8):
            stack.enter_context(arbiter.member(pid))
        chosen = list(pool.map(lambda n: (arbiter.note(n % 8, n % 8), arbiter.claim(n % 8))[1], range(2000)))
    assert len({n % 8 for n, is_chosen in enumerate(chosen) if is_chosen}) == 1
