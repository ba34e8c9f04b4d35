"""What is watched while a worker runs, and what counts as too much.

Each sensor judges one reading. Its defaults never stop healthy work: a compute-only phase burns processor time,
a page-cached read moves bytes, a quiet log is one sign of life of several, a small disk has a small limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab.spike_sorting.supervision.gpu import GpuReader
from spikelab.spike_sorting.supervision.monitor import Sensor
from spikelab.spike_sorting.supervision.sensors.common import OncePerPoll, Watched
from spikelab.spike_sorting.supervision.sensors.disk import disk_sensors
from spikelab.spike_sorting.supervision.sensors.gpu import gpu_sensors, sampler
from spikelab.spike_sorting.supervision.sensors.life import IOStall, inactivity_limit_s, life_sensors, step_limit_s
from spikelab.spike_sorting.supervision.sensors.memory import memory_sensors

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
    from spikelab.spike_sorting.supervision.readings import Readings

__all__ = ["Watched", "build_sensors", "inactivity_limit_s", "step_limit_s"]


def build_sensors(
    execution: ExecutionConfig,
    watched: Watched,
    readings: Readings,
    gpu: GpuReader | None,
    *,
    arbiter: MemoryArbiter | None = None,
) -> list[Sensor]:
    """Return the sensors of a worker; what the user does not want watched is recorded where that is free.

    Parameters
    ----------
    execution : ExecutionConfig
        Limits, and what to watch.
    watched : Watched
        The worker.
    readings : Readings
        Where its numbers come from.
    gpu : GpuReader or None
        Where those of the GPU come from; None: there is none.
    arbiter : MemoryArbiter or None, default None
        Decides between the runs in flight when memory is short.
    """
    tree = OncePerPoll(readings.tree)
    use_gpu = gpu if execution.gpu_watchdog else None
    sample = sampler(use_gpu, watched.gpu_index)
    sensors = memory_sensors(execution, watched, readings, tree, arbiter)
    if sample is not None and watched.gpu_index is not None:
        sensors += gpu_sensors(execution, watched.gpu_index, sample, tree)
    sensors += disk_sensors(execution, watched, readings)
    if execution.io_stall_watchdog:
        sensors.append(IOStall(execution.io_stall_s, tree, readings.blocked))
    if execution.sorter_inactivity_timeout:
        sensors += life_sensors(execution, watched, readings, tree, sample)
    return sensors
