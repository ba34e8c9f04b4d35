"""Memory, temperature and presence of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spikelab.spike_sorting._exceptions import GpuLostError, GpuMemoryWatchdogError, GpuThermalWatchdogError
from spikelab.spike_sorting.supervision.gpu import HOT_REASONS, GpuReader, GpuSample
from spikelab.spike_sorting.supervision.monitor import Level, Reading, Sensor
from spikelab.spike_sorting.supervision.sensors.common import GB, Limits, OncePerPoll, Recorded

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.tree import TreeUse


def gpu_sensors(
    execution: ExecutionConfig,
    index: int,
    sample: Callable[[float], GpuSample],
    tree: Callable[[float], TreeUse],
) -> list[Sensor]:
    """Return the sensors of the GPU `index`, whose state `sample` returns at a time."""
    memory = GpuMemory(Limits(execution.gpu_warn_pct, execution.gpu_abort_pct, margin=3.0), index, sample, tree)
    heat = GpuTemperature(Limits(execution.gpu_warn_temp_c, execution.gpu_abort_temp_c, margin=3.0), index, sample)
    return [
        GpuLost(index, sample),
        memory,
        heat,
        Recorded("gpu_own_gb", lambda now_s: memory.own_bytes(now_s) / GB),
        Recorded("gpu_util_pct", lambda now_s: sample(now_s).utilisation_pct),
    ]


def sampler(gpu: GpuReader | None, index: int | None) -> OncePerPoll[GpuSample] | None:
    """Return what samples the GPU `index` once per poll, or None without a GPU."""
    if gpu is None or index is None:
        return None
    reader, device = gpu, index
    return OncePerPoll(lambda: reader.sample(device))


@dataclass
class GpuMemory:
    """Memory of the GPU; counts only when the run holds at least as much as all others together.

    Parameters
    ----------
    limits : Limits
        In percent.
    index : int
        The GPU.
    sample : callable
        Returns its state at a time.
    tree : callable
        Returns the run's processes at a time.
    """

    limits: Limits
    index: int
    sample: Callable[[float], GpuSample]
    tree: Callable[[float], TreeUse]
    name: str = "gpu_used_pct"
    # The allocator of torch frees its cache and tries again when it hits the end; that takes a moment.
    hold_s: float = 10.0
    falling: bool = False
    _before_bytes: int | None = field(default=None, init=False)

    def read(self, now_s: float) -> Reading:
        """Return the share of memory in use."""
        sample = self.sample(now_s)
        if sample.used_bytes is None or not sample.total_bytes:
            return Reading(Level.OK, None, f"GPU {self.index} does not tell its memory")
        own = self.own_bytes(now_s)
        percent = 100 * sample.used_bytes / sample.total_bytes
        detail = (
            f"{percent:.1f} % of the {sample.total_bytes / GB:.1f} GB of GPU {self.index} in use, "
            f"{own / GB:.1f} GB here; {self.limits} %"
        )
        level, near = self.limits.judge(percent)
        if level is Level.ABORT and 2 * own < sample.used_bytes:
            return Reading(Level.WARN, percent, f"{detail}; other programs hold most of it")
        return Reading(level, percent, detail, near)

    def own_bytes(self, now_s: float) -> int:
        """Return what the run holds; where the driver does not say whose memory it is, what came since the start."""
        sample = self.sample(now_s)
        used = sample.used_bytes or 0
        if self._before_bytes is None:
            self._before_bytes = used
        own = sample.own_bytes(self.tree(now_s).pids) if sample.processes else None
        return max(0, used - self._before_bytes) if own is None else own

    def error(self, reading: Reading) -> GpuMemoryWatchdogError:
        """Return the failure of a run that is stopped for this."""
        return GpuMemoryWatchdogError(
            f"GPU memory ran short: {reading.detail}",
            device_index=self.index,
            used_pct_at_trip=reading.value,
            abort_pct=self.limits.abort,
        )


@dataclass(frozen=True)
class GpuTemperature:
    """Temperature of the GPU, and whether it slows down for it.

    Parameters
    ----------
    limits : Limits
        In degrees Celsius.
    index : int
        The GPU.
    sample : callable
        Returns its state at a time.
    """

    limits: Limits
    index: int
    sample: Callable[[float], GpuSample]
    name: str = "gpu_temp_c"
    hold_s: float = 30.0
    falling: bool = False

    def read(self, now_s: float) -> Reading:
        """Return the temperature; slowing down for heat is a warning at any."""
        sample = self.sample(now_s)
        if sample.temperature_c is None:
            return Reading(Level.OK, None, f"GPU {self.index} does not tell its temperature")
        level, near = self.limits.judge(sample.temperature_c)
        detail = f"GPU {self.index} at {sample.temperature_c:.0f} C; {self.limits} C"
        hot = [reason for reason in sample.throttling if reason in HOT_REASONS]
        if hot and level is Level.OK:
            level = Level.WARN
        return Reading(level, sample.temperature_c, "; ".join([detail, *hot]), near)

    def error(self, reading: Reading) -> GpuThermalWatchdogError:
        """Return the failure of a run that is stopped for this."""
        return GpuThermalWatchdogError(
            f"the GPU stayed too hot for {self.hold_s:.0f} s: {reading.detail}",
            device_index=self.index,
            temperature_c_at_trip=reading.value,
            abort_temp_c=self.limits.abort,
        )


@dataclass(frozen=True)
class GpuLost:
    """Whether the GPU is still there.

    Parameters
    ----------
    index : int
        The GPU.
    sample : callable
        Returns its state at a time.
    """

    index: int
    sample: Callable[[float], GpuSample]
    name: str = "gpu_lost"
    hold_s: float = 0.0
    falling: bool = False

    def read(self, now_s: float) -> Reading:
        """Return 1 when the driver says that the GPU is lost, 0 otherwise."""
        if self.sample(now_s).is_lost:
            return Reading(Level.ABORT, 1.0, f"the driver says that GPU {self.index} is lost")
        return Reading(Level.OK, 0.0, f"GPU {self.index} answers")

    def error(self, reading: Reading) -> GpuLostError:
        """Return the failure of a run that is stopped for this."""
        return GpuLostError(reading.detail, device_index=self.index)
