"""Signs of life: a disk that hangs, a worker that is silent, a step that gets nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from spikelab.spike_sorting._exceptions import IOStallError, SorterTimeoutError
from spikelab.spike_sorting.supervision.gpu import GpuSample
from spikelab.spike_sorting.supervision.monitor import Level, Reading, Sensor
from spikelab.spike_sorting.supervision.sensors.common import OncePerPoll, Watched

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.readings import Readings, Words
    from spikelab.spike_sorting.supervision.tree import TreeUse

CPU_LIFE = 0.02
"""Use of a core that is a sign of life; an idle Java machine, as in MATLAB, uses up to 1 percent."""
IO_LIFE = 4096.0
"""Bytes per second that are a sign of life; idle event loops move some tens."""
GPU_LIFE_PCT = 5.0
LIFE_WINDOW_S = 10.0
"""Over how long these rates are measured."""
LOOK_EVERY_S = 15.0
"""How often threads are searched for one that hangs in the kernel."""


def life_sensors(
    execution: ExecutionConfig,
    watched: Watched,
    readings: Readings,
    tree: Callable[[float], TreeUse],
    sample: Callable[[float], GpuSample] | None,
) -> list[Sensor]:
    """Return the sensors of silence and of standstill."""
    words = OncePerPoll(readings.words)
    silence_s = inactivity_limit_s(execution, watched.recording_min)
    step_s = step_limit_s(execution, watched.recording_min)
    return [
        Inactivity(silence_s, watched, words, tree, lambda now_s: _is_busy(sample, tree, now_s)),
        Standstill(step_s, watched, words),
    ]


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
        tree = self._tree(now_s)
        if not tree.pids:
            return Reading(Level.OK, 0.0, "the run has ended")
        if tree.io_bytes is None:
            return Reading(Level.OK, None, "this system does not count the bytes that a process moves")
        if self._pulse.beats(now_s, tree.io_bytes):
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
        return Reading(_standstill_level(stall_s, self._limit_s), stall_s, detail)

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
    words : callable
        Returns what it has said at a time.
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
        words: Callable[[float], Words],
        tree: Callable[[float], TreeUse],
        gpu_is_busy: Callable[[float], bool],
    ) -> None:
        self._limit_s = limit_s
        self._watched = watched
        self._words = words
        self._tree = tree
        self._gpu_is_busy = gpu_is_busy
        self._cpu, self._io = Pulse(CPU_LIFE), Pulse(IO_LIFE)
        self._said: Words | None = None
        self._alive_s: float | None = None

    def read(self, now_s: float) -> Reading:
        """Return for how long nothing has moved."""
        tree = self._tree(now_s)
        said = _heard(self._words, now_s)
        signs = [
            said is not None and said != self._said,
            self._cpu.beats(now_s, tree.cpu_s),
            tree.io_bytes is not None and self._io.beats(now_s, tree.io_bytes),
            self._gpu_is_busy(now_s),
        ]
        self._said = said or self._said
        if self._alive_s is None or any(signs):
            self._alive_s = now_s
        return self._judge(now_s - self._alive_s, tree.n_stopped)

    def _judge(self, still_s: float, n_stopped: int) -> Reading:
        stopped = f"; processes stopped by a signal: {n_stopped}" if n_stopped else ""
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
    words : callable
        Returns what it has said at a time.
    """

    name = "heartbeat_age_s"
    hold_s = 0.0
    falling = False

    def __init__(self, limit_s: float, watched: Watched, words: Callable[[float], Words]) -> None:
        self._limit_s = limit_s
        self._watched = watched
        self._words = words
        self._last: object = None
        self._moved_s: float | None = None

    def read(self, now_s: float) -> Reading:
        """Return for how long the progress has been the same."""
        words = self._words(now_s)
        progress = words.progress
        counts = progress is not None and progress.fraction is not None
        current = (progress, None if counts else words.log_bytes)
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


def _heard(words: Callable[[float], Words], now_s: float) -> Words | None:
    """Return what the worker has said, or None where its disk does not answer, which is no sign of life."""
    try:
        return words(now_s)
    except OSError:
        return None


def _standstill_level(still_s: float, limit_s: float) -> Level:
    if still_s >= limit_s:
        return Level.ABORT
    return Level.WARN if still_s >= limit_s / 2 else Level.OK


def _timeout(watched: Watched, msg: str, seconds: float | None) -> SorterTimeoutError:
    return SorterTimeoutError(msg, sorter=watched.sorter, inactivity_s=seconds, log_path=str(watched.log_path))
