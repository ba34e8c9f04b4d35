"""What is watched while a worker runs, and what counts as too much.

Each sensor judges one reading. Its defaults never stop healthy work: a compute-only phase burns processor time,
a page-cached read moves bytes, a quiet log is one sign of life of several, a small disk has a small limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from spikelab.spike_sorting._exceptions import (
    DiskExhaustionError,
    GpuLostError,
    GpuMemoryWatchdogError,
    GpuThermalWatchdogError,
    HostMemoryWatchdogError,
    IOStallError,
    ResourceSortFailure,
    SorterTimeoutError,
    SpikeSortingClassifiedError,
)
from spikelab.spike_sorting.supervision.gpu import HOT_REASONS, GpuReader, GpuSample
from spikelab.spike_sorting.supervision.monitor import Level, Reading, Sensor

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
    from spikelab.spike_sorting.supervision.readings import DiskUse, Heartbeat, MemoryUse, Readings, TreeUse

T = TypeVar("T")

GB = 1e9
LARGEST_DISK_SHARE = 0.1
"""No limit on free space is above this share of the volume."""
FEWEST_INODES = (1000, 100)
"""Free inodes below which to warn and to stop, at most `LARGEST_DISK_SHARE` of all."""
CPU_LIFE = 0.02
"""Use of a core that is a sign of life; an idle Java machine, as in MATLAB, uses up to 1 percent."""
IO_LIFE = 4096.0
"""Bytes per second that are a sign of life; idle event loops move some tens."""
GPU_LIFE_PCT = 5.0
LIFE_WINDOW_S = 10.0
"""Over how long these rates are measured."""
LOOK_EVERY_S = 5.0
"""How often threads are searched for one that hangs in the kernel."""


@dataclass(frozen=True)
class Watched:
    """The worker that is watched.

    Parameters
    ----------
    pid : int
        Its process, or the guardian above it.
    log_path, progress_path : Path
        Its log and its progress file.
    inter_folder, results_folder : Path
        Where it writes.
    sorter : str
        Name of the sorter.
    recording_min : float
        Length of the recording (min).
    gpu_index : int or None, default None
        GPU that it uses, as NVML counts; None: no GPU in this phase.
    phase : str, default ""
        What it does.
    """

    pid: int
    log_path: Path
    progress_path: Path
    inter_folder: Path
    results_folder: Path
    sorter: str
    recording_min: float
    gpu_index: int | None = None
    phase: str = ""


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
    sample = _sampler(use_gpu, watched.gpu_index)
    sensors: list[Sensor] = _memory_sensors(execution, watched, readings, tree, arbiter)
    if sample is not None and watched.gpu_index is not None:
        sensors += _gpu_sensors(execution, watched.gpu_index, sample, tree)
    sensors += _disk_sensors(execution, watched, readings)
    if execution.io_stall_watchdog:
        sensors.append(IOStall(execution.io_stall_s, tree, readings.blocked))
    if execution.sorter_inactivity_timeout:
        sensors += _life_sensors(execution, watched, readings, tree, sample)
    return sensors


def inactivity_limit_s(execution: ExecutionConfig, recording_min: float) -> float:
    """Return how long a worker may show no sign of life (s)."""
    return min(_scaled_s(execution, recording_min), execution.sorter_inactivity_max_s)


def step_limit_s(execution: ExecutionConfig, recording_min: float) -> float:
    """Return how long a step may report no progress although it is busy (s).

    A thread that spins looks busy for ever, and so does an honest step that reports rarely. The limit is
    therefore generous: the largest tolerance for silence, and more for recordings of more than a few hours.
    """
    return max(_scaled_s(execution, recording_min), execution.sorter_inactivity_max_s)


def _scaled_s(execution: ExecutionConfig, recording_min: float) -> float:
    return execution.sorter_inactivity_base_s + execution.sorter_inactivity_per_min_s * recording_min


class OncePerPoll(Generic[T]):
    """A measurement that several sensors share: taken once per poll.

    Parameters
    ----------
    measure : callable
        Takes it.
    """

    def __init__(self, measure: Callable[[], T]) -> None:
        self._measure = measure
        self._taken: tuple[float, T] | None = None

    def __call__(self, now_s: float) -> T:
        """Return the measurement at `now_s`."""
        if self._taken is None or self._taken[0] != now_s:
            self._taken = (now_s, self._measure())
        return self._taken[1]


@dataclass(frozen=True)
class Limits:
    """A soft and a hard limit.

    Parameters
    ----------
    warn, abort : float
        Where each begins.
    margin : float
        How far on the good side of `warn` a value must be for a warning to be given anew.
    falling : bool, default False
        Whether low values are the bad ones.
    """

    warn: float
    abort: float
    margin: float
    falling: bool = False

    def judge(self, value: float) -> tuple[Level, bool]:
        """Return how bad `value` is, and whether it is near the limit although OK."""
        sign = -1 if self.falling else 1
        if sign * value > sign * self.abort:
            return Level.ABORT, False
        if sign * value > sign * self.warn:
            return Level.WARN, False
        return Level.OK, sign * value > sign * self.warn - self.margin


# ------------------------------------------------------------------------------------------------ recorded only


@dataclass(frozen=True)
class Recorded:
    """A number for the resource curve, without a limit.

    Parameters
    ----------
    name : str
        Column of the curve.
    measure : callable
        Returns it at a time, or None.
    """

    name: str
    measure: Callable[[float], float | None]
    hold_s: float = 0.0
    falling: bool = False

    def read(self, now_s: float) -> Reading:
        """Return the number; where there is none, that is no blindness worth a word."""
        value = self.measure(now_s)
        return Reading(Level.OK, 0.0 if value is None else value, self.name)

    def error(self, reading: Reading) -> SpikeSortingClassifiedError:
        """Return the failure that never happens."""
        return ResourceSortFailure(reading.detail)


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

    def __call__(self, now_s: float) -> float | None:
        """Return the cores, or None at the first poll."""
        cpu_s = self._tree(now_s).cpu_s
        last, self._last = self._last, (now_s, cpu_s)
        if last is None or now_s <= last[0]:
            return None
        # The time of a process that has ended is gone from the sum.
        return max(0.0, (cpu_s - last[1]) / (now_s - last[0]))


# ------------------------------------------------------------------------------------------------------ memory


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
        """Return the share of memory in use; that is too much only for the largest run in flight."""
        use, own = self.measure(), self.run_bytes(now_s)
        detail = f"{use.percent:.1f} % of the {use.total_bytes / GB:.1f} GB of {use.of} in use, {own / GB:.1f} GB here"
        if self.limits is None:
            return Reading(Level.OK, use.percent, detail)
        level, near = self.limits.judge(use.percent)
        if self.arbiter is not None:
            self.arbiter.note(self.pid, own)
            if level is not Level.ABORT:
                self.arbiter.release(self.pid)
            elif not self.arbiter.claim(self.pid):
                return Reading(Level.WARN, use.percent, f"{detail}; a larger run is stopped first")
        return Reading(level, use.percent, f"{detail}; {_limits_text(self.limits, '%')}", near)

    def error(self, reading: Reading) -> HostMemoryWatchdogError:
        """Return the failure of a run that is stopped for this."""
        abort_pct = self.limits.abort if self.limits else None
        msg = f"memory ran short: {reading.detail}"
        return HostMemoryWatchdogError(msg, percent_at_trip=reading.value, abort_pct=abort_pct)


def _memory_sensors(
    execution: ExecutionConfig,
    watched: Watched,
    readings: Readings,
    tree: Callable[[float], TreeUse],
    arbiter: MemoryArbiter | None,
) -> list[Sensor]:
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


# --------------------------------------------------------------------------------------------------------- GPU


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
            f"{own / GB:.1f} GB here; {_limits_text(self.limits, '%')}"
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
        detail = f"GPU {self.index} at {sample.temperature_c:.0f} C; {_limits_text(self.limits, 'C')}"
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


def _sampler(gpu: GpuReader | None, index: int | None) -> OncePerPoll[GpuSample] | None:
    if gpu is None or index is None:
        return None
    reader, device = gpu, index
    return OncePerPoll(lambda: reader.sample(device))


def _gpu_sensors(
    execution: ExecutionConfig,
    index: int,
    sample: Callable[[float], GpuSample],
    tree: Callable[[float], TreeUse],
) -> list[Sensor]:
    memory = GpuMemory(Limits(execution.gpu_warn_pct, execution.gpu_abort_pct, margin=3.0), index, sample, tree)
    heat = GpuTemperature(Limits(execution.gpu_warn_temp_c, execution.gpu_abort_temp_c, margin=3.0), index, sample)
    return [
        GpuLost(index, sample),
        memory,
        heat,
        Recorded("gpu_own_gb", lambda now_s: memory.own_bytes(now_s) / GB),
        Recorded("gpu_util_pct", lambda now_s: sample(now_s).utilisation_pct),
    ]


# -------------------------------------------------------------------------------------------------------- disk


@dataclass
class DiskSpace:
    """Free space of a volume.

    Parameters
    ----------
    name : str
        Column of the curve.
    folder : Path
        Folder on it.
    limits : Limits or None
        In GB, scaled down on small volumes; None: only recorded.
    measure : callable
        Returns the volume of a folder.
    """

    name: str
    folder: Path
    limits: Limits | None
    measure: Callable[[Path], DiskUse]
    hold_s: float = 2.0
    falling: bool = True
    _abort_gb: float | None = field(default=None, init=False)

    def read(self, now_s: float) -> Reading:  # noqa: ARG002 - the disk has no history
        """Return the free space."""
        use = self.measure(self.folder)
        free_gb = use.free_bytes / GB
        detail = f"{free_gb:.3g} GB of {use.total_bytes / GB:.3g} GB free on the volume of {self.folder}"
        if self.limits is None:
            return Reading(Level.OK, free_gb, detail)
        limits = scaled_limits(self.limits, use.total_bytes / GB)
        self._abort_gb = limits.abort
        level, near = limits.judge(free_gb)
        return Reading(level, free_gb, f"{detail}; {_limits_text(limits, 'GB')}", near)

    def error(self, reading: Reading) -> DiskExhaustionError:
        """Return the failure of a run that is stopped for this."""
        return DiskExhaustionError(
            f"the disk is nearly full: {reading.detail}",
            folder=str(self.folder),
            free_gb_at_trip=reading.value,
            abort_threshold_gb=self._abort_gb,
        )


@dataclass(frozen=True)
class DiskInodes:
    """Free inodes of a volume: without one no file can be made, however much space there is.

    Parameters
    ----------
    name : str
        Name of the sensor.
    folder : Path
        Folder on it.
    measure : callable
        Returns the volume of a folder.
    """

    name: str
    folder: Path
    measure: Callable[[Path], DiskUse]
    hold_s: float = 2.0
    falling: bool = True

    def read(self, now_s: float) -> Reading:  # noqa: ARG002 - the disk has no history
        """Return the free inodes."""
        use = self.measure(self.folder)
        if use.free_inodes is None or use.total_inodes is None:
            return Reading(Level.OK, float("inf"), "no limit on inodes")
        warn, abort = FEWEST_INODES
        limits = scaled_limits(Limits(warn, abort, margin=warn / 10, falling=True), use.total_inodes)
        level, near = limits.judge(use.free_inodes)
        detail = f"{use.free_inodes} of {use.total_inodes} inodes free on the volume of {self.folder}"
        return Reading(level, use.free_inodes, f"{detail}; {_limits_text(limits, 'inodes')}", near)

    def error(self, reading: Reading) -> DiskExhaustionError:
        """Return the failure of a run that is stopped for this."""
        return DiskExhaustionError(
            f"the disk can hold hardly any more files: {reading.detail}", folder=str(self.folder)
        )


def scaled_limits(limits: Limits, total: float) -> Limits:
    """Return `limits` for a volume of the size `total`: both smaller by one factor where it is small."""
    factor = min(1.0, LARGEST_DISK_SHARE * total / limits.warn) if limits.warn > 0 else 1.0
    return Limits(limits.warn * factor, limits.abort * factor, limits.margin * factor, limits.falling)


def _disk_sensors(execution: ExecutionConfig, watched: Watched, readings: Readings) -> list[Sensor]:
    warn, abort = execution.disk_warn_free_gb, execution.disk_abort_free_gb
    limits = Limits(warn, abort, margin=warn / 10, falling=True) if execution.disk_watchdog else None
    one_volume = _same_volume(watched, readings)
    sensors: list[Sensor] = [
        DiskSpace("disk_free_inter_gb", watched.inter_folder, limits, readings.disk),
        DiskSpace("disk_free_results_gb", watched.results_folder, None if one_volume else limits, readings.disk),
    ]
    if limits is not None:
        sensors.append(DiskInodes("inodes_free_inter", watched.inter_folder, readings.disk))
        if not one_volume:
            sensors.append(DiskInodes("inodes_free_results", watched.results_folder, readings.disk))
    return sensors


def _same_volume(watched: Watched, readings: Readings) -> bool:
    """Return whether both folders are on one volume, so that it is told of once."""
    try:
        return readings.disk(watched.inter_folder).volume == readings.disk(watched.results_folder).volume
    except OSError:
        return False


# --------------------------------------------------------------------------------------------------- standstill


class Pulse:
    """Whether a counter moves fast enough to be a sign of life.

    Parameters
    ----------
    rate : float
        Slowest that counts (1/s), over `LIFE_WINDOW_S`.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._since: tuple[float, float] | None = None

    def beats(self, now_s: float, count: float) -> bool:
        """Take in the counter; return whether it has moved enough since it last had, or since the window began."""
        if self._since is None:
            self._since = (now_s, count)
            return True
        began_s, before = self._since
        # A sum over processes falls when one of them ends, which is a sign of life too.
        has_moved = abs(count - before) >= self._rate * LIFE_WINDOW_S
        if has_moved or now_s - began_s >= LIFE_WINDOW_S:
            self._since = (now_s, count)
        return has_moved


class IOStall:
    """A disk or share that no longer answers: no byte moves, and a thread hangs in the kernel all the while.

    Parameters
    ----------
    limit_s : float
        How long that is tolerated (s).
    tree : callable
        Returns the run's processes at a time.
    blocked : callable
        Returns the threads that hang, and where.
    """

    name = "io_stall_s"
    hold_s = 0.0
    falling = False

    def __init__(
        self, limit_s: float, tree: Callable[[float], TreeUse], blocked: Callable[[], Mapping[int, str]]
    ) -> None:
        self._limit_s = limit_s
        self._tree = tree
        self._blocked = blocked
        self._pulse = Pulse(IO_LIFE)
        self._looked_s: float | None = None
        self._stuck: dict[int, tuple[float, str]] = {}

    def read(self, now_s: float) -> Reading:
        """Return for how long the oldest hanging thread has hung without a byte moving."""
        io_bytes = self._tree(now_s).io_bytes
        if io_bytes is None:
            return Reading(Level.OK, None, "this system does not count the bytes that a process moves")
        if self._pulse.beats(now_s, io_bytes):
            self._stuck.clear()
        elif self._looked_s is None or now_s - self._looked_s >= min(LOOK_EVERY_S, self._limit_s / 4):
            self._looked_s = now_s
            self._stuck = {task: self._stuck.get(task, (now_s, place)) for task, place in self._blocked().items()}
        return self._judge(now_s)

    def _judge(self, now_s: float) -> Reading:
        if not self._stuck:
            return Reading(Level.OK, 0.0, "no thread hangs in the kernel")
        task, (since_s, place) = min(self._stuck.items(), key=lambda item: item[1][0])
        stall_s = now_s - since_s
        detail = f"thread {task} hangs in {place} for {stall_s:.0f} s, no byte moves; stop at {self._limit_s:g} s"
        level = Level.ABORT if stall_s >= self._limit_s else Level.WARN if stall_s >= self._limit_s / 2 else Level.OK
        return Reading(level, stall_s, detail)

    def error(self, reading: Reading) -> IOStallError:
        """Return the failure of a run that is stopped for this."""
        places = ", ".join(sorted({place for _, place in self._stuck.values()}))
        return IOStallError(f"input and output stand still: {reading.detail}", device=places, stall_s=reading.value)


class Inactivity:
    """A worker without any sign of life: log, processor, input and output, progress and GPU all still.

    Parameters
    ----------
    limit_s : float
        How long that is tolerated (s).
    watched : Watched
        The worker.
    readings : Readings
        Where log and progress come from.
    tree : callable
        Returns the run's processes at a time.
    gpu_is_busy : callable
        Returns whether the run uses the GPU at a time.
    """

    name = "inactive_s"
    hold_s = 0.0
    falling = False

    def __init__(
        self,
        limit_s: float,
        watched: Watched,
        readings: Readings,
        tree: Callable[[float], TreeUse],
        gpu_is_busy: Callable[[float], bool],
    ) -> None:
        self._limit_s = limit_s
        self._watched = watched
        self._readings = readings
        self._tree = tree
        self._gpu_is_busy = gpu_is_busy
        self._cpu, self._io = Pulse(CPU_LIFE), Pulse(IO_LIFE)
        self._said: object = None
        self._alive_s: float | None = None

    def read(self, now_s: float) -> Reading:
        """Return for how long nothing has moved."""
        tree = self._tree(now_s)
        said = (_log_bytes(self._readings), _heartbeat(self._readings))
        signs = [
            said != self._said,
            self._cpu.beats(now_s, tree.cpu_s),
            tree.io_bytes is not None and self._io.beats(now_s, tree.io_bytes),
            self._gpu_is_busy(now_s),
        ]
        self._said = said
        if self._alive_s is None or any(signs):
            self._alive_s = now_s
        return self._judge(now_s - self._alive_s, tree.n_stopped)

    def _judge(self, still_s: float, n_stopped: int) -> Reading:
        stopped = f"; {n_stopped} of its processes are stopped by a signal" if n_stopped else ""
        detail = (
            f"log, processor, input and output and progress of {self._watched.sorter} stand still for "
            f"{still_s:.0f} s; stop at {self._limit_s:g} s{stopped}"
        )
        return Reading(_standstill_level(still_s, self._limit_s), still_s, detail)

    def error(self, reading: Reading) -> SorterTimeoutError:
        """Return the failure of a run that is stopped for this."""
        return _timeout(self._watched, f"no sign of life: {reading.detail}", reading.value)


class Standstill:
    """A step that is busy and gets nowhere: its progress has not changed, however much processor time it burns.

    A step that does not count how far it is has its log for a heartbeat.

    Parameters
    ----------
    limit_s : float
        How long that is tolerated (s).
    watched : Watched
        The worker.
    readings : Readings
        Where log and progress come from.
    """

    name = "heartbeat_age_s"
    hold_s = 0.0
    falling = False

    def __init__(self, limit_s: float, watched: Watched, readings: Readings) -> None:
        self._limit_s = limit_s
        self._watched = watched
        self._readings = readings
        self._last: object = None
        self._moved_s: float | None = None

    def read(self, now_s: float) -> Reading:
        """Return for how long the progress has been the same."""
        heartbeat = self._readings.heartbeat()
        progress = heartbeat.progress if heartbeat else None
        counts = progress is not None and progress.fraction is not None
        current = (progress, None if counts else _log_bytes(self._readings))
        if self._moved_s is None or current != self._last:
            self._moved_s = now_s
        self._last = current
        age_s = now_s - self._moved_s
        where = f"{progress.stage} {progress.step}".strip() if progress else self._watched.phase
        detail = f"no progress in {where or 'the worker'} for {age_s:.0f} s; stop at {self._limit_s:g} s"
        return Reading(_standstill_level(age_s, self._limit_s), age_s, detail)

    def error(self, reading: Reading) -> SorterTimeoutError:
        """Return the failure of a run that is stopped for this."""
        return _timeout(self._watched, f"busy without progress: {reading.detail}", reading.value)


def _life_sensors(
    execution: ExecutionConfig,
    watched: Watched,
    readings: Readings,
    tree: Callable[[float], TreeUse],
    sample: Callable[[float], GpuSample] | None,
) -> list[Sensor]:
    minutes = watched.recording_min
    return [
        Inactivity(
            inactivity_limit_s(execution, minutes), watched, readings, tree, lambda now_s: _is_busy(sample, tree, now_s)
        ),
        Standstill(step_limit_s(execution, minutes), watched, readings),
    ]


def _is_busy(sample: Callable[[float], GpuSample] | None, tree: Callable[[float], TreeUse], now_s: float) -> bool:
    """Return whether the run works on its GPU; one that does not answer is no sign of life."""
    if sample is None:
        return False
    try:
        state = sample(now_s)
    except OSError:
        return False
    is_ours = not state.processes or bool(tree(now_s).pids & state.processes.keys())
    return is_ours and (state.utilisation_pct or 0.0) >= GPU_LIFE_PCT


def _log_bytes(readings: Readings) -> int | None:
    """Return the size of the log; a disk that does not answer is no sign of life."""
    try:
        return readings.log_bytes()
    except OSError:
        return None


def _heartbeat(readings: Readings) -> Heartbeat | None:
    try:
        return readings.heartbeat()
    except OSError:
        return None


def _standstill_level(still_s: float, limit_s: float) -> Level:
    if still_s >= limit_s:
        return Level.ABORT
    return Level.WARN if still_s >= limit_s / 2 else Level.OK


def _timeout(watched: Watched, msg: str, seconds: float | None) -> SorterTimeoutError:
    return SorterTimeoutError(msg, sorter=watched.sorter, inactivity_s=seconds, log_path=str(watched.log_path))


def _limits_text(limits: Limits, unit: str) -> str:
    word = "below" if limits.falling else "above"
    return f"warn {word} {limits.warn:.3g} {unit}, stop {word} {limits.abort:.3g} {unit}"
