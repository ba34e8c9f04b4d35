"""Memory of the machine and of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikelab.spike_sorting._exceptions import HostMemoryWatchdogError
from spikelab.spike_sorting.supervision.monitor import Level, Reading, Sensor
from spikelab.spike_sorting.supervision.sensors.common import GB, Limits, Recorded, Watched

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
    from spikelab.spike_sorting.supervision.readings import MemoryUse, Readings
    from spikelab.spike_sorting.supervision.tree import TreeUse


def memory_sensors(
    execution: ExecutionConfig,
    watched: Watched,
    readings: Readings,
    tree: Callable[[float], TreeUse],
    arbiter: MemoryArbiter | None,
) -> list[Sensor]:
    """Return the sensors of memory, and the one of processor time that is only recorded."""
    limits = Limits(execution.host_ram_warn_pct, execution.host_ram_abort_pct, margin=3.0)
    return [
        HostMemory(
            limits if execution.host_ram_watchdog else None,
            readings.memory,
            lambda now_s: tree(now_s).memory_bytes,
            watched.pid,
            arbiter,
        ),
        Recorded("run_ram_gb", lambda now_s: tree(now_s).memory_bytes / GB),
        Recorded("run_cpu_cores", CpuCores(tree)),
    ]


@dataclass(frozen=True)
class HostMemory:
    """Memory of the machine, or of the container or job around us.

    Parameters
    ----------
    limits : Limits or None
        In percent; None: only recorded.
    measure : callable
        Returns the memory.
    run_bytes : callable
        Returns the run's own at a time.
    pid : int
        The run, for the arbiter.
    arbiter : MemoryArbiter or None
        Decides which run is stopped.
    """

    limits: Limits | None
    measure: Callable[[], MemoryUse]
    run_bytes: Callable[[float], int]
    pid: int
    arbiter: MemoryArbiter | None
    name: str = "host_ram_pct"
    hold_s: float = 2.0
    falling: bool = False

    def read(self, now_s: float) -> Reading:
        """Return the share of memory in use; that is too much only for the largest run in flight.

        Where other programs hold so much that stopping all runs would not bring it below the limit, none is stopped.
        """
        use, own = self.measure(), self._own_bytes(now_s)
        here = "an unknown part of it" if own is None else f"{own / GB:.1f} GB"
        detail = f"{use.percent:.1f} % of the {use.total_bytes / GB:.1f} GB of {use.of} in use, {here} here"
        if self.limits is None:
            return Reading(Level.OK, use.percent, detail)
        level, near = self.limits.judge(use.percent)
        if self.arbiter is not None:
            self.arbiter.note(self.pid, own or 0)
        if level is Level.ABORT and own is not None and not self._would_help(use, own):
            level, detail = Level.WARN, f"{detail}; other programs hold most of it"
        if self.arbiter is not None:
            if level is not Level.ABORT:
                self.arbiter.release(self.pid)
            elif not self.arbiter.claim(self.pid):
                return Reading(Level.WARN, use.percent, f"{detail}; a larger run is stopped first")
        return Reading(level, use.percent, f"{detail}; {self.limits} %", near)

    def _own_bytes(self, now_s: float) -> int | None:
        """Return the run's memory, or None where that cannot be told: the machine is watched all the same."""
        try:
            return self.run_bytes(now_s)
        except OSError:
            return None

    def _would_help(self, use: MemoryUse, own: int) -> bool:
        """Return whether the memory of all runs is more than what is in use beyond the hard limit."""
        limit_pct = self.limits.abort if self.limits else 100.0
        ours = max(own, self.arbiter.total_bytes()) if self.arbiter is not None else own
        return ours >= (use.percent - limit_pct) / 100 * use.total_bytes

    def error(self, reading: Reading) -> HostMemoryWatchdogError:
        """Return the failure of a run that is stopped for this."""
        abort_pct = self.limits.abort if self.limits else None
        msg = f"memory ran short: {reading.detail}"
        return HostMemoryWatchdogError(msg, percent_at_trip=reading.value, abort_pct=abort_pct)


class CpuCores:
    """How many cores the run keeps busy, since the last poll.

    Parameters
    ----------
    tree : callable
        Returns the run's processes at a time.
    """

    def __init__(self, tree: Callable[[float], TreeUse]) -> None:
        self._tree = tree
        self._last: tuple[float, float] | None = None

    def __call__(self, now_s: float) -> float:
        """Return the cores; 0 at the first poll."""
        cpu_s = self._tree(now_s).cpu_s
        last, self._last = self._last, (now_s, cpu_s)
        if last is None or now_s <= last[0]:
            return 0.0
        # The time of a process that has ended is gone from the sum.
        return max(0.0, (cpu_s - last[1]) / (now_s - last[0]))
