"""What recordings in flight together share of a machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.budget import Budget
from spikelab.spike_sorting.supervision.memory import free_memory_bytes
from spikelab.spike_sorting.supervision.slots import GpuSlots

_FREE_FRAC = 0.08
"""Share of all memory that stays free: above that use of it, workers are stopped."""


@dataclass(frozen=True)
class Resources:
    """What recordings in flight together share; the default is what one alone has.

    Parameters
    ----------
    slots : GpuSlots
        The GPUs, for one sort at a time each.
    arbiter : MemoryArbiter or None
        Decides whose worker is stopped when memory is short; None: one alone needs none.
    budget : Budget
        Cores and memory, of which each phase takes what it needs.
    n_parallel : int
        Recordings in flight.
    n_threads : int or None
        Threads of each worker; None: as many as cores are free when its recording begins.
    """

    slots: GpuSlots = field(default_factory=GpuSlots)
    arbiter: MemoryArbiter | None = None
    budget: Budget = field(default_factory=Budget)
    n_parallel: int = 1
    n_threads: int | None = None

    @classmethod
    def for_batch(cls, slots: GpuSlots, n_parallel: int) -> Resources:
        """Return those of a batch on this machine, with `n_parallel` recordings in flight."""
        if n_parallel == 1:
            return cls(slots, MemoryArbiter())
        free_bytes = free_memory_bytes() - _FREE_FRAC * host.total_memory_bytes()
        budget = Budget(host.usable_cores(), max(0.0, free_bytes))
        return cls(slots, MemoryArbiter(), budget, n_parallel, max(1, host.free_cores() // n_parallel))

    @property
    def cores_each(self) -> int:
        """Cores of a recording when all are busy."""
        return max(1, host.usable_cores() // self.n_parallel)

    @property
    def ram_bytes_each(self) -> float:
        """Memory of a recording when all take the same."""
        return self.budget.ram_bytes / self.n_parallel
