"""One loop over small sensors: warns, waits, and says once that a worker must be stopped.

This module decides; it neither measures (``readings``, ``gpu``) nor stops anything (``process``). A monitor
belongs to one worker: the next recording gets a new one, so a trip never carries over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal, Protocol

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError

MAX_STEP_S = 10.0
"""Longest time between two polls that counts: while nobody watched (suspend, a stopped terminal), none passed."""


class Level(Enum):
    """How bad a reading is."""

    OK = 0
    WARN = 1
    ABORT = 2


@dataclass(frozen=True)
class Reading:
    """What a sensor saw.

    Parameters
    ----------
    level : Level
        How bad it is.
    value : float or None
        The number; None: the sensor is blind, it could not look.
    detail : str
        The number, its limit and its cause in words.
    near : bool, default False
        Whether an OK is so close to the limit that a warning given earlier still stands.
    """

    level: Level
    value: float | None
    detail: str
    near: bool = False


class Sensor(Protocol):
    """Looks at one resource: no thread, no killing, no logging."""

    @property
    def name(self) -> str:
        """Name in events, and of the column in the resource curve."""

    @property
    def hold_s(self) -> float:
        """How long ABORT must last before it counts (s)."""

    @property
    def falling(self) -> bool:
        """Whether low values are the bad ones."""

    def read(self, now_s: float) -> Reading:
        """Return what is there at `now_s`; raise OSError where it cannot be told, which makes it blind."""

    def error(self, reading: Reading) -> SpikeSortingClassifiedError:
        """Return the failure of a run that is stopped for `reading`."""


@dataclass(frozen=True)
class Trip:
    """Why a worker must be stopped.

    Parameters
    ----------
    sensor : str
        Name of the sensor.
    reading : Reading
        What it saw.
    error : SpikeSortingClassifiedError
        What the run failed with.
    at_s : float
        Watched time since the monitor began (s).
    """

    sensor: str
    reading: Reading
    error: SpikeSortingClassifiedError
    at_s: float


@dataclass(frozen=True)
class MonitorEvent:
    """Something worth telling, each at most once until the resource has clearly recovered.

    Parameters
    ----------
    kind : {"warned", "holding", "cleared", "blind", "tripped"}
        Above the soft limit; above the hard one, for a moment only so far; clearly below both again; cannot look;
        must be stopped.
    sensor : str
        Name of the sensor.
    reading : Reading
        What it saw.
    at_s : float
        Watched time since the monitor began (s).
    """

    kind: Literal["warned", "holding", "cleared", "blind", "tripped"]
    sensor: str
    reading: Reading
    at_s: float


@dataclass
class _Memory:
    """What the monitor remembers of one sensor."""

    told: set[Level] = field(default_factory=set)
    told_blind: bool = False
    abort_since_s: float | None = None


class Monitor:
    """Polls sensors, tells what changes, and trips once.

    Parameters
    ----------
    sensors : sequence of Sensor
        What to look at; the first that trips wins.
    clock : callable
        Monotonic time (s). Polls are expected every second or so; see `MAX_STEP_S`.
    on_event : callable
        Told of warnings, recoveries, blind sensors and the trip.
    curve : callable or None, default None
        Given the values by sensor after each poll, None where blind.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor],
        *,
        clock: Callable[[], float],
        on_event: Callable[[MonitorEvent], None],
        curve: Callable[[Mapping[str, float | None]], None] | None = None,
    ) -> None:
        self._watched = [(sensor, _Memory()) for sensor in sensors]
        self._clock = clock
        self._on_event = on_event
        self._curve = curve
        self._last_look: float | None = None
        self._now_s = 0.0
        self._trip: Trip | None = None
        self._told_blindness: set[str] = set()
        self._first: dict[str, float] = {}
        self._peaks: dict[str, float] = {}
        self._last: Mapping[str, float | None] = {}

    @property
    def first(self) -> Mapping[str, float]:
        """The first value of each sensor."""
        return MappingProxyType(self._first)

    @property
    def last(self) -> Mapping[str, float | None]:
        """The value of each sensor at the last poll, None where it saw nothing."""
        return MappingProxyType(self._last)

    @property
    def peaks(self) -> Mapping[str, float]:
        """The worst value of each sensor so far: the highest, or the lowest where low is bad."""
        return MappingProxyType(self._peaks)

    def poll(self) -> Trip | None:
        """Look at everything once; return why the worker must be stopped, or None.

        After a trip it looks no more and returns the same one.
        """
        if self._trip is not None:
            return self._trip
        self._advance()
        values: dict[str, float | None] = {}
        for sensor, memory in self._watched:
            reading = _read(sensor, self._now_s)
            values[sensor.name] = reading.value
            self._keep(sensor, reading.value)
            if self._trip is not None:
                continue  # the rest is for the curve
            if self._lasted(sensor, memory, reading):
                self._trip = Trip(sensor.name, reading, sensor.error(reading), self._now_s)
            else:
                self._tell_changes(sensor, memory, reading)
        self._last = values
        if self._curve is not None:
            self._curve(values)
        if self._trip is not None:
            self._tell("tripped", self._trip.sensor, self._trip.reading)
        return self._trip

    def _advance(self) -> None:
        now = self._clock()
        if self._last_look is not None:
            self._now_s += min(max(now - self._last_look, 0.0), MAX_STEP_S)
        self._last_look = now

    def _keep(self, sensor: Sensor, value: float | None) -> None:
        if value is None:
            return
        self._first.setdefault(sensor.name, value)
        worst = min if sensor.falling else max
        self._peaks[sensor.name] = worst(value, self._peaks.get(sensor.name, value))

    def _tell_changes(self, sensor: Sensor, memory: _Memory, reading: Reading) -> None:
        if reading.value is None:
            # Several sensors with one cause, such as a dead driver, are one thing to tell.
            if not memory.told_blind and reading.detail not in self._told_blindness:
                self._told_blindness.add(reading.detail)
                self._tell("blind", sensor.name, reading)
            memory.told_blind = True
        elif reading.level is Level.OK:
            if memory.told and not reading.near:
                memory.told.clear()
                self._tell("cleared", sensor.name, reading)
        elif reading.level not in memory.told:
            memory.told.add(reading.level)
            self._tell("warned" if reading.level is Level.WARN else "holding", sensor.name, reading)

    def _lasted(self, sensor: Sensor, memory: _Memory, reading: Reading) -> bool:
        """Return whether `reading` is the end of a stretch of ABORT that is long enough."""
        if reading.value is None or reading.level is not Level.ABORT:
            memory.abort_since_s = None
            return False
        if memory.abort_since_s is None:
            memory.abort_since_s = self._now_s
        return self._now_s - memory.abort_since_s >= sensor.hold_s

    def _tell(
        self, kind: Literal["warned", "holding", "cleared", "blind", "tripped"], sensor: str, reading: Reading
    ) -> None:
        self._on_event(MonitorEvent(kind, sensor, reading, self._now_s))


def _read(sensor: Sensor, now_s: float) -> Reading:
    try:
        return sensor.read(now_s)
    except OSError as error:
        return Reading(Level.OK, None, f"{type(error).__name__}: {error}")
