"""Memory that a process can have: of the machine, and within every limit around it."""

from __future__ import annotations

import math

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.cgroup import MemoryGroup, memory_group


def free_memory_bytes() -> int:
    """Return the memory that this process can have: of the machine, and within every limit around it."""
    group = memory_group()
    limited = group.limited() if group is not None else []
    return max(0, int(min([host.available_memory_bytes(), *map(_left_bytes, limited)])))


def _left_bytes(group: MemoryGroup) -> float:
    try:
        limit = group.limit_bytes()
        return math.inf if limit is None else limit - group.used_bytes()
    except OSError:  # it was taken away, or may not be looked into
        return math.inf
