"""When the spikes of Kilosort4 stay in memory, and when on disk."""

from __future__ import annotations

import math
import sys

import pytest

from spikelab.spike_sorting.backends.kilosort4.memory import free_memory_bytes, in_memory_bytes
from spikelab.spike_sorting.supervision import host

GB = 10**9


@pytest.mark.parametrize(
    "arrays_on_disk, total_memory, free_bytes, expected",
    [
        (True, None, 64 * GB, 0.0),
        (True, "32G", 64 * GB, 0.0),
        (False, None, 1, math.inf),
        (False, "1G", 64 * GB, math.inf),
        (None, None, 64 * GB, 8 * GB),
        (None, "16G", 64 * GB, 4 * GB),
        (None, 16 * GB, 64 * GB, 4 * GB),
        (None, "64G", 8 * GB, 2 * GB),
        (None, None, 0, 0.0),
    ],
)
def test_arrays_stay_in_memory_while_they_are_small_beside_it(
    arrays_on_disk: bool | None, total_memory: str | int | None, free_bytes: int, expected: float
) -> None:
    """A quarter of total_memory, or of half of what is free, and never of more than is free; a wish comes first."""
    assert in_memory_bytes(arrays_on_disk, total_memory, free_bytes) == expected


def test_free_memory_is_that_of_the_tightest_limit() -> None:
    """What is free around this process is some memory, and not more than the machine has left."""
    assert 0 < free_memory_bytes() <= 1.1 * host.available_memory_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_freed_memory_goes_back() -> None:
    """What a worker frees is the system's again, though its allocator is told to keep it."""
    import subprocess

    code = """
import psutil
from spikelab.spike_sorting.supervision import host
blocks = [bytearray(1 << 20) for _ in range(200)]
last = bytearray(1 << 20)
before = psutil.Process().memory_info().rss
del blocks
host.give_back_memory()
print(before - psutil.Process().memory_info().rss)
"""
    environment = dict(host.worker_environment(1))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 150 << 20
