"""What all sensors share: the worker that is watched, limits, and measurements taken once per poll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from spikelab.spike_sorting._exceptions import ResourceSortFailure, SpikeSortingClassifiedError
from spikelab.spike_sorting.supervision.monitor import Level, Reading

T = TypeVar("T")

GB = 1e9


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

    def __str__(self) -> str:
        side = "below" if self.falling else "above"
        return f"warn {side} {self.warn:.3g}, stop {side} {self.abort:.3g}"


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
        """Return the number."""
        value = self.measure(now_s)
        return Reading(Level.OK, value, self.name if value is not None else f"{self.name} is not told")

    def error(self, reading: Reading) -> SpikeSortingClassifiedError:
        """Return the failure that never happens."""
        return ResourceSortFailure(reading.detail)
