"""The monitor warns, waits and trips as told, whatever the clocks do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from spikelab.spike_sorting._exceptions import GpuLostError, ResourceSortFailure, SpikeSortingClassifiedError
from spikelab.spike_sorting.supervision.monitor import MAX_STEP_S, Level, Monitor, MonitorEvent, Reading
from spikelab.spike_sorting.supervision.sensors.common import Limits

LIMITS = Limits(warn=85, abort=92, margin=3)


@dataclass
class Clock:
    """A clock that stands where it is put."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ScriptedSensor:
    """Reads what its script says next; the last line again and again."""

    script: list[float | Exception | None]
    name: str = "ram"
    hold_s: float = 0.0
    falling: bool = False
    seen_s: list[float] = field(default_factory=list)

    def read(self, now_s: float) -> Reading:
        self.seen_s.append(now_s)
        value = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(value, Exception):
            raise value
        if value is None:
            return Reading(Level.OK, None, "cannot look")
        level, near = LIMITS.judge(value)
        return Reading(level, value, f"{value:g} %", near)

    def error(self, reading: Reading) -> SpikeSortingClassifiedError:
        return GpuLostError(reading.detail)


@dataclass
class Watch:
    """A monitor with all that was told, and a clock."""

    monitor: Monitor
    clock: Clock
    events: list[MonitorEvent]
    curve: list[dict[str, float | None]]

    def polls(self, n: int, every_s: float = 1.0) -> list[bool]:
        tripped = []
        for _ in range(n):
            tripped.append(self.monitor.poll() is not None)
            self.clock.now += every_s
        return tripped

    @property
    def told(self) -> list[tuple[str, float | None]]:
        return [(event.kind, event.reading.value) for event in self.events]


def watch(*sensors: ScriptedSensor) -> Watch:
    clock, events, curve = Clock(), [], []
    monitor = Monitor(sensors, clock=clock, on_event=events.append, curve=lambda values: curve.append(dict(values)))
    return Watch(monitor, clock, events, curve)


def sensor(values: Iterable[float | Exception | None], **options: object) -> ScriptedSensor:
    return ScriptedSensor(list(values), **options)


def test_a_warning_is_given_once_per_level_and_the_trip_once():
    """A value that stays bad is told once: as a warning, and then as the trip."""
    seen = watch(sensor([10, 88, 89, 90, 95, 99]))
    assert seen.polls(6) == [False, False, False, False, True, True]
    assert seen.told == [("warned", 88), ("tripped", 95)]


def test_a_value_that_flutters_about_the_limit_is_told_once():
    """A warning is given again only after the value was clearly below the limit."""
    seen = watch(sensor([86, 84, 86, 84, 86, 81, 86]))
    seen.polls(7)
    assert seen.told == [("warned", 86), ("cleared", 81), ("warned", 86)]


def test_a_short_excess_does_not_trip():
    """The hard limit must be exceeded for the whole hold time; a dip begins it anew."""
    seen = watch(sensor([95, 95, 95, 50, 95, 95, 95, 95, 95], hold_s=4.0))
    assert seen.polls(9) == [False] * 8 + [True]
    assert [kind for kind, _ in seen.told] == ["holding", "cleared", "holding", "tripped"]


def test_a_blind_sensor_never_trips_and_says_so_once():
    """A sensor that cannot look warns once, does not count as bad, and begins the hold time anew."""
    blind = [OSError("driver is gone"), None]
    seen = watch(sensor([*blind, *blind, *blind]))
    assert not any(seen.polls(100))
    assert [kind for kind, _ in seen.told] == ["blind"]
    seen = watch(sensor([95, 95, TimeoutError("hangs"), 95, 95, 95], hold_s=3.0))
    assert seen.polls(6) == [False] * 6


def test_one_cause_of_blindness_is_told_once():
    """Five sensors of one dead driver are one warning."""
    gone = OSError("driver is gone")
    seen = watch(*(sensor([gone], name=name) for name in "abcde"))
    seen.polls(3)
    assert [event.kind for event in seen.events] == ["blind"]


def test_a_sensor_that_sees_again_trips():
    """Blindness for a while does not disarm a sensor."""
    assert watch(sensor([OSError("busy"), 95])).polls(2) == [False, True]


def test_a_mistake_in_a_sensor_is_not_hidden():
    """Only what a sensor cannot read makes it blind; a bug is raised."""
    with pytest.raises(ZeroDivisionError):
        watch(sensor([ZeroDivisionError()])).polls(1)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 86400.0 * 365])
def test_time_that_nobody_watched_does_not_count(jump_s: float):
    """A suspended machine, a stopped terminal or a clock that jumps neither trips nor disarms anything."""
    one = sensor([95], hold_s=60.0)
    seen = watch(one)
    assert not any(seen.polls(10))
    seen.clock.now += jump_s
    assert not any(seen.polls(30))
    assert any(seen.polls(60))
    assert max(later - earlier for earlier, later in zip(one.seen_s, one.seen_s[1:], strict=False)) <= MAX_STEP_S


def test_the_error_is_the_sensors_own():
    """A trip carries the classified failure of the sensor that tripped first, with reading and time."""
    seen = watch(sensor([10]), sensor([95], name="gpu"), sensor([99], name="late"))
    trip = seen.monitor.poll()
    assert (trip.sensor, trip.reading.value, trip.at_s) == ("gpu", 95, 0.0)
    assert isinstance(trip.error, GpuLostError)
    assert isinstance(trip.error, ResourceSortFailure)


def test_a_trip_is_of_this_run_only():
    """The next worker's monitor knows nothing of the last one's trip."""
    assert watch(sensor([95])).polls(1) == [True]
    assert watch(sensor([10])).polls(5) == [False] * 5


def test_peaks_are_the_worst_values():
    """Peaks are the highest values, or the lowest where low is bad, blind readings left out."""
    seen = watch(sensor([50, 80, None, 60]), sensor([40, 10, 30, 20], name="disk", falling=True))
    seen.polls(4)
    assert seen.monitor.peaks == {"ram": 80, "disk": 10}
    assert seen.monitor.first == {"ram": 50, "disk": 40}


def test_each_poll_is_a_point_of_the_curve():
    """Every value is handed on, the one that tripped included, and a blind one as nothing."""
    seen = watch(sensor([50, None, 95, 96]), sensor([1], name="disk"))
    seen.polls(5)
    assert seen.curve == [{"ram": 50, "disk": 1}, {"ram": None, "disk": 1}, {"ram": 95, "disk": 1}]


@pytest.mark.parametrize(
    "value, expected",
    [
        (92.1, (Level.ABORT, False)),
        (92.0, (Level.WARN, False)),
        (85.0, (Level.OK, True)),
        (82.0, (Level.OK, False)),
    ],
)
def test_limits_are_exceeded_not_met(value: float, expected: tuple[Level, bool]):
    """A value at its limit is not beyond it, and just inside is near."""
    assert LIMITS.judge(value) == expected
    mirrored = Limits(-LIMITS.warn, -LIMITS.abort, LIMITS.margin, falling=True)
    assert mirrored.judge(-value) == expected
