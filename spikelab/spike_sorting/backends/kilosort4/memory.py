"""How much memory spikes and their features may take before they are left on disk."""

from __future__ import annotations

import math

from spikelab.spike_sorting._settings import memory_bytes

_SHARE = 0.25
"""Part of the memory that these arrays may fill: some steps hold old ones and new ones, and parts of both."""


def in_memory_bytes(arrays_on_disk: bool | None, total_memory: str | int | None, free_bytes: int) -> float:
    """Return the size up to which the arrays that grow with the recording are held in memory.

    Parameters
    ----------
    arrays_on_disk : bool or None
        What the user or a shortage of memory asks for: always on disk, never, or (None) when they are large.
    total_memory : str or int or None
        The memory for one sort; None is half of what is free.
    free_bytes : int
        Memory that is free before the sort.
    """
    if arrays_on_disk is not None:
        return 0.0 if arrays_on_disk else math.inf
    # What a user allows cannot be had where it is not free.
    allowed = free_bytes // 2 if total_memory is None else min(memory_bytes(total_memory), free_bytes)
    return _SHARE * allowed
