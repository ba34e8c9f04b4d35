"""Each sensor stops what it must, and the defaults never stop healthy work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting._exceptions import (
    DiskExhaustionError,
    GpuLostError,
    GpuMemoryWatchdogError,
    GpuThermalWatchdogError,
    HostMemoryWatchdogError,
    IOStallError,
    SorterTimeoutError,
)
from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.curve import COLUMNS, FALLING
from spikelab.spike_sorting.supervision.gpu import GpuSample
from spikelab.spike_sorting.supervision.monitor import Monitor, MonitorEvent, Trip
from spikelab.spike_sorting.supervision.progress import Progress
from spikelab.spike_sorting.supervision.readings import DiskUse, MemoryUse, Words
from spikelab.spike_sorting.supervision.sensors import Watched, build_sensors, inactivity_limit_s, step_limit_s
from spikelab.spike_sorting.supervision.tree import TreeUse

GIB = 10**9
DEFAULTS = ExecutionConfig()
INTER, RESULTS = Path("/run/inter"), Path("/run/results")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeMachine:
    """A healthy machine and a healthy, busy run; every attribute is something that can go wrong."""

    ram_pct: float = 40.0
    run_bytes: int = 2 * GIB
    cpu_s: float = 0.0
    io_bytes: int | None = 0
    log: int = 100
    beat: int = 0
    progress: Progress | None = None
    stuck: dict[int, str] = field(default_factory=dict)
    disks: dict[Path, DiskUse] = field(
        default_factory=lambda: {
            INTER: DiskUse(500 * GIB, 1000 * GIB, 10**7, 10**8, volume=1),
            RESULTS: DiskUse(500 * GIB, 1000 * GIB, 10**7, 10**8, volume=2),
        }
    )
    gpu: GpuSample | OSError = field(
        default_factory=lambda: GpuSample(
            0, "Fake", 2 * GIB, 10 * GIB, processes={11: GIB}, temperature_c=60.0, utilisation_pct=50.0
        )
    )
    unreadable: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name in self.unreadable:
            raise TimeoutError(f"{name} does not answer")

    def memory(self) -> MemoryUse:
        self._ask("memory")
        return MemoryUse(self.ram_pct, 64 * GIB)

    def tree(self) -> TreeUse:
        self._ask("tree")
        return TreeUse(frozenset({10, 11}), self.run_bytes, self.cpu_s, self.io_bytes)

    def blocked(self) -> Mapping[int, str]:
        self._ask("blocked")
        return self.stuck

    def words(self) -> Words:
        self._ask("words")
        return Words(self.log, self.beat, self.progress)

    def disk(self, folder: Path) -> DiskUse:
        self._ask("disk")
        return self.disks[folder]

    def oom_kills(self) -> int | None:
        return 0

    def count(self) -> int:
        return 1

    def sample(self, index: int) -> GpuSample:
        self._ask("gpu")
        if isinstance(self.gpu, OSError):
            raise self.gpu
        return self.gpu

    def set_gpu(self, **changes: Any) -> None:
        self.gpu = replace(self.gpu, **changes)


@dataclass
class Watch:
    """A monitor of a fake machine whose time passes poll by poll."""

    machine: FakeMachine
    clock: Clock
    monitor: Monitor
    events: list[MonitorEvent]
    curve: list[Mapping[str, float | None]]

    def run(
        self, seconds: float, each: Callable[[FakeMachine], object] = lambda machine: None, every_s: float = 1.0
    ) -> Trip | None:
        """Poll every `every_s`, letting `each` change the machine in between; return the trip."""
        for _ in range(int(seconds / every_s)):
            each(self.machine)
            self.clock.now += every_s
            if trip := self.monitor.poll():
                return trip
        return None

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.sensor) for event in self.events]


def watch(
    machine: FakeMachine | None = None,
    *,
    gpu_index: int | None = 0,
    minutes: float = 10.0,
    pid: int = 10,
    arbiter: MemoryArbiter | None = None,
    **settings: Any,
) -> Watch:
    machine, clock, events, curve = machine or FakeMachine(), Clock(), [], []
    watched = Watched(
        pid, Path("/run/log"), Path("/run/progress.json"), INTER, RESULTS, "kilosort4", minutes, gpu_index, "sort"
    )
    sensors = build_sensors(ExecutionConfig(**settings), watched, machine, machine, arbiter=arbiter)
    monitor = Monitor(sensors, clock=clock, on_event=events.append, curve=curve.append)
    return Watch(machine, clock, monitor, events, curve)


def computing(machine: FakeMachine) -> None:
    machine.cpu_s += 1.0


def test_a_healthy_run_is_left_alone_and_recorded():
    """A day of healthy work brings no event, and each column of the curve has a value."""
    seen = watch()
    assert seen.run(3600, lambda m: (computing(m), setattr(m, "log", m.log + 1))) is None
    assert seen.events == []
    assert all(seen.curve[-1][column] is not None for column in COLUMNS)
    assert seen.curve[-1]["run_cpu_cores"] == pytest.approx(1.0)
    assert seen.monitor.peaks["gpu_own_gb"] == 1.0


def test_low_is_bad_for_the_columns_that_say_so():
    """The curve and the sensors agree on what the worst value is."""
    sensors = build_sensors(DEFAULTS, Watched(1, INTER, INTER, INTER, RESULTS, "x", 1, 0), FakeMachine(), FakeMachine())
    assert {sensor.name for sensor in sensors if sensor.falling} & set(COLUMNS) == FALLING


# --------------------------------------------------------------------------------- defaults and healthy work


@pytest.mark.parametrize("minutes", [0.0, 60.0, 1440.0])
def test_a_phase_that_only_computes_is_healthy(minutes: float):
    """Hours without a byte or a log line, with the processor busy and progress now and then, trip nothing."""
    seen = watch(minutes=minutes, gpu_index=None)

    def work(machine: FakeMachine) -> None:
        computing(machine)
        machine.progress = Progress("sort", "clustering", (seen.clock.now // 5000) / 10)

    assert seen.run(6 * 3600, work, every_s=5) is None


def test_reading_from_the_page_cache_is_healthy():
    """A phase that only moves bytes in memory, with next to no processor time, trips nothing."""
    seen = watch(gpu_index=None)

    def work(machine: FakeMachine) -> None:
        machine.io_bytes += 10_000
        machine.cpu_s += 0.005
        machine.log += seen.clock.now % 3000 == 0

    assert seen.run(3 * 3600, work) is None


def test_a_small_recording_on_a_small_disk_is_healthy():
    """Less than a gigabyte free is plenty on a volume of one gigabyte, and trips only when it is nearly full."""
    machine = FakeMachine()
    machine.disks[INTER] = DiskUse(800 * 10**6, GIB, volume=1)
    seen = watch(machine)
    assert seen.run(60, computing) is None
    assert seen.events == []
    machine.disks[INTER] = DiskUse(19 * 10**6, GIB, volume=1)
    trip = seen.run(10, computing)
    assert isinstance(trip.error, DiskExhaustionError)
    assert trip.error.abort_threshold_gb == pytest.approx(0.02)


def test_a_quiet_log_is_healthy():
    """A sorter that never logs but works on its GPU is left alone."""
    seen = watch()
    seen.machine.progress = Progress("sort", "drift", 0.0)
    assert seen.run(7000) is None


def test_a_log_is_a_sign_of_life():
    """A run that only logs, as one that waits for a container does, is not inactive."""
    assert watch(gpu_index=None).run(7200, lambda m: setattr(m, "log", m.log + 1)) is None


# ------------------------------------------------------------------------------------------------------ memory


def test_memory_of_the_machine_warns_then_stops():
    """Above the soft limit it is told, above the hard one the run ends after a moment, with the numbers."""
    seen = watch()
    seen.machine.ram_pct = 88
    assert seen.run(100, computing) is None
    seen.machine.ram_pct = 95
    trip = seen.run(10, computing)
    assert isinstance(trip.error, HostMemoryWatchdogError)
    assert (trip.error.percent_at_trip, trip.error.abort_pct) == (95, 92)
    assert "2.0 GB here" in str(trip.error)
    assert seen.told == [("warned", "host_ram_pct"), ("holding", "host_ram_pct"), ("tripped", "host_ram_pct")]


def test_of_several_runs_the_largest_is_stopped():
    """When memory is short, the largest of the runs in flight trips, and the others never do."""
    arbiter = MemoryArbiter()
    small, large = FakeMachine(run_bytes=2 * GIB, ram_pct=95), FakeMachine(run_bytes=9 * GIB, ram_pct=95)
    with arbiter.member(1), arbiter.member(2):
        seen = [watch(small, pid=1, arbiter=arbiter), watch(large, pid=2, arbiter=arbiter)]
        seen[1].run(1, computing)
        trips = [one.run(30, computing) for one in seen]
    assert trips[0] is None
    assert isinstance(trips[1].error, HostMemoryWatchdogError)


def test_memory_that_other_programs_hold_stops_no_run():
    """A small run on a machine that others have filled is told of it and left alone: stopping it would free nothing."""
    seen = watch(FakeMachine(run_bytes=GIB // 3, ram_pct=97))
    assert seen.run(600, computing) is None
    assert ("warned", "host_ram_pct") in seen.told
    seen.machine.run_bytes = 20 * GIB
    assert isinstance(seen.run(10, computing).error, HostMemoryWatchdogError)


def test_the_machine_is_watched_though_the_run_cannot_be_read():
    """A tree that cannot be read blinds what needs it, not the machine's memory."""
    seen = watch(FakeMachine(unreadable={"tree"}, ram_pct=95))
    assert isinstance(seen.run(10).error, HostMemoryWatchdogError)


def test_what_is_switched_off_is_recorded_only():
    """Without a watchdog nothing trips, and the curve is there."""
    off = {f"{name}_watchdog": False for name in ("host_ram", "gpu", "disk", "io_stall")} | {
        "sorter_inactivity_timeout": False
    }
    machine = FakeMachine(ram_pct=99.9, stuck={11: "nfs_wait"})
    machine.disks[INTER] = DiskUse(0, 1000 * GIB, 0, 10, volume=1)
    seen = watch(machine, **off)
    assert seen.run(20_000) is None
    assert seen.events == []
    assert seen.monitor.peaks["host_ram_pct"] == 99.9
    assert "gpu" not in machine.asked


# --------------------------------------------------------------------------------------------------------- GPU


def test_gpu_memory_of_ours_stops():
    """A device that our processes fill ends the run after a moment."""
    seen = watch()
    seen.machine.set_gpu(used_bytes=int(9.8 * GIB), processes={11: 9 * GIB, 99: GIB // 2})
    assert seen.run(10, computing) is None
    error = seen.run(5, computing).error
    assert isinstance(error, GpuMemoryWatchdogError)
    assert (error.device_index, error.used_pct_at_trip, error.abort_pct) == (0, 98.0, 95)


@pytest.mark.parametrize("processes", [{99: 9 * GIB}, {99: 8 * GIB, 11: GIB}, {99: None}])
def test_gpu_memory_of_others_only_warns(processes: dict[int, int | None]):
    """A device that somebody else fills never ends our run."""
    seen = watch()
    seen.machine.set_gpu(used_bytes=int(9.8 * GIB), processes=processes)
    assert seen.run(600, computing) is None
    assert seen.told == [("warned", "gpu_used_pct")]
    assert "other programs" in seen.events[0].reading.detail


@pytest.mark.parametrize("processes", [None, {}, {11: None}])
def test_gpu_memory_of_nobody_is_what_came_since_the_start(processes: dict[int, int | None] | None):
    """Where the driver does not say whose memory it is, what was there before us is not ours, and the rest is."""
    seen = watch()
    seen.machine.set_gpu(used_bytes=int(9.8 * GIB), processes=processes)
    assert seen.run(60, computing) is None
    seen = watch()
    seen.machine.set_gpu(used_bytes=GIB, processes=processes)
    seen.run(1, computing)
    seen.machine.set_gpu(used_bytes=int(9.8 * GIB))
    assert isinstance(seen.run(60, computing).error, GpuMemoryWatchdogError)


def test_heat_must_last():
    """A hot GPU ends the run after half a minute; a hot moment does not."""
    seen = watch()
    seen.machine.set_gpu(temperature_c=93.0)
    assert seen.run(25, computing) is None
    seen.machine.set_gpu(temperature_c=80.0)
    seen.run(5, computing)
    seen.machine.set_gpu(temperature_c=94.0)
    assert seen.run(30, computing) is None
    error = seen.run(2, computing).error
    assert isinstance(error, GpuThermalWatchdogError)
    assert (error.temperature_c_at_trip, error.abort_temp_c) == (94, 92)


def test_slowing_down_for_heat_is_told():
    """A GPU that throttles for heat is a warning at any temperature; one that saves power is not."""
    seen = watch()
    seen.machine.set_gpu(throttling=("power cap",))
    seen.run(5, computing)
    assert seen.told == []
    seen.machine.set_gpu(throttling=("thermal slowdown (hardware)",))
    assert seen.run(600, computing) is None
    assert seen.told == [("warned", "gpu_temp_c")]


def test_a_lost_gpu_is_a_failure_of_its_own():
    """A device that fell off the bus ends the run at once, and nothing else is told about it."""
    seen = watch()
    seen.run(5, computing)
    seen.machine.gpu = GpuSample(0, is_lost=True)
    error = seen.run(1, computing).error
    assert isinstance(error, GpuLostError)
    assert error.device_index == 0
    assert seen.told == [("tripped", "gpu_lost")]


def test_a_dead_driver_is_told_once_and_kills_nobody():
    """A driver that does not answer is one warning, however long it lasts; the rest is watched."""
    seen = watch(FakeMachine(gpu=TimeoutError("the NVIDIA driver did not answer within 2 s")))
    assert seen.run(600, computing) is None
    assert [kind for kind, _ in seen.told] == ["blind"]
    seen.machine.ram_pct = 95
    assert isinstance(seen.run(10, computing).error, HostMemoryWatchdogError)


# -------------------------------------------------------------------------------------------------------- disk


@pytest.mark.parametrize("folder", [INTER, RESULTS])
def test_a_full_disk_stops(folder: Path):
    """Little space on either volume is told, less ends the run, with folder and numbers."""
    seen = watch()
    seen.machine.disks[folder] = DiskUse(3 * GIB, 1000 * GIB, volume=5)
    assert seen.run(60, computing) is None
    seen.machine.disks[folder] = DiskUse(GIB // 2, 1000 * GIB, volume=5)
    error = seen.run(10, computing).error
    assert isinstance(error, DiskExhaustionError)
    assert (error.folder, error.free_gb_at_trip, error.abort_threshold_gb) == (str(folder), 0.5, 1.0)
    assert min(seen.monitor.peaks[name] for name in FALLING) == 0.5


def test_a_disk_without_inodes_stops():
    """A volume that can hold no more files is full, whatever space it has; one with few by nature is not."""
    machine = FakeMachine()
    machine.disks[INTER] = DiskUse(500 * GIB, 1000 * GIB, 60, 500, volume=1)
    seen = watch(machine)
    assert seen.run(60, computing) is None
    assert seen.told == []
    machine.disks[INTER] = DiskUse(500 * GIB, 1000 * GIB, 3, 500, volume=1)
    trip = seen.run(10, computing)
    assert isinstance(trip.error, DiskExhaustionError)
    assert "inodes" in str(trip.error)


def test_one_volume_is_told_of_once():
    """Both folders on one volume give one warning, and both columns of the curve."""
    machine = FakeMachine()
    machine.disks = dict.fromkeys((INTER, RESULTS), DiskUse(3 * GIB, 1000 * GIB, 10**7, 10**8, volume=1))
    seen = watch(machine)
    seen.run(60, computing)
    assert seen.told == [("warned", "disk_free_inter_gb")]
    assert seen.curve[-1]["disk_free_results_gb"] == 3.0


def test_a_disk_that_does_not_answer_is_told_once():
    """A share that hangs blinds its sensors, with a word, and does not end the run by itself."""
    seen = watch(FakeMachine(unreadable={"disk"}))
    assert seen.run(60, computing) is None
    assert [kind for kind, _ in seen.told] == ["blind"]


# -------------------------------------------------------------------------------------------------- standstill


def test_a_hung_disk_stops():
    """No byte moves and one thread hangs in the kernel all the while: the run ends, with the place."""
    seen = watch(FakeMachine(stuck={11: "nfs4_wait"}), gpu_index=None)
    assert seen.run(295, computing) is None
    error = seen.run(30, computing).error
    assert isinstance(error, IOStallError)
    assert error.stall_s >= 300
    assert error.device == "nfs4_wait"


def test_threads_that_hang_in_turn_are_no_stall():
    """Waiting for the disk is normal as long as no single thread waits for ever."""
    seen = watch(gpu_index=None)
    assert seen.run(2000, lambda m: (computing(m), setattr(m, "stuck", {int(m.cpu_s) // 60: "io"}))) is None


def test_bytes_that_move_are_no_stall():
    """A slow disk is no dead disk."""
    seen = watch(FakeMachine(stuck={11: "io"}), gpu_index=None)
    assert seen.run(2000, lambda m: setattr(m, "io_bytes", m.io_bytes + 10_000)) is None


def test_threads_are_searched_only_when_no_byte_moves():
    """The search for hanging threads, which costs the most, is rare."""
    seen = watch(gpu_index=None)
    seen.run(100, lambda m: setattr(m, "io_bytes", m.io_bytes + 10**6))
    assert seen.machine.asked.count("blocked") == 0
    seen.run(100, computing)
    assert seen.machine.asked.count("blocked") <= 8


@pytest.mark.parametrize(
    "minutes, limit_s",
    [(0.0, 600), (10.0, 900), (100.0, 3600), (1440.0, 7200)],
)
def test_silence_is_tolerated_by_the_length_of_the_recording(minutes: float, limit_s: float):
    """A worker without any sign of life ends at base + per minute, at most max, and not before."""
    assert inactivity_limit_s(DEFAULTS, minutes) == limit_s
    seen = watch(minutes=minutes, gpu_index=None)
    assert seen.run(limit_s) is None
    error = seen.run(2).error
    assert isinstance(error, SorterTimeoutError)
    assert error.inactivity_s == pytest.approx(limit_s, abs=2)
    assert (error.sorter, error.log_path) == ("kilosort4", "/run/log")


def test_idle_threads_are_no_sign_of_life():
    """A hung program whose idle threads tick now and then is as silent as one without."""
    seen = watch(gpu_index=None, minutes=0.0)
    trip = seen.run(700, lambda m: (setattr(m, "cpu_s", m.cpu_s + 0.01), setattr(m, "io_bytes", m.io_bytes + 16)))
    assert trip.sensor == "inactive_s"


def test_silence_must_be_complete():
    """Each sign of life alone is enough, and the time begins anew with it."""
    signs = [
        lambda m: setattr(m, "log", m.log + 1),
        lambda m: setattr(m, "cpu_s", m.cpu_s + 1),
        lambda m: setattr(m, "io_bytes", m.io_bytes + 10**6),
        lambda m: setattr(m, "beat", m.beat + 1),
    ]
    for sign in signs:
        seen = watch(gpu_index=None, minutes=0.0)
        assert seen.run(550) is None
        seen.run(1, sign)
        assert seen.run(590) is None
        assert seen.run(30).sensor == "inactive_s"


def test_a_dead_share_does_not_hide_silence():
    """Log and progress on a share that hangs are no sign of life."""
    seen = watch(FakeMachine(unreadable={"words", "disk"}), gpu_index=None, minutes=0.0)
    assert seen.run(700).sensor == "inactive_s"


def test_a_run_that_cannot_be_read_is_not_silent():
    """Without processor times nobody is called inactive."""
    seen = watch(FakeMachine(unreadable={"tree"}), gpu_index=None, minutes=0.0)
    assert seen.run(7000) is None


@pytest.mark.parametrize("minutes, limit_s", [(10.0, 7200), (1440.0, 600 + 30 * 1440)])
def test_busy_without_progress_ends_in_the_end(minutes: float, limit_s: float):
    """A thread that spins, and even logs, ends at the limit per step; each bit of progress begins it anew."""
    assert step_limit_s(DEFAULTS, minutes) == limit_s
    seen = watch(FakeMachine(progress=Progress("sort", "drift", 0.1)), minutes=minutes)

    def spin(machine: FakeMachine) -> None:
        computing(machine)
        machine.log += 1

    assert seen.run(limit_s - 5, spin, every_s=5) is None
    seen.machine.progress = Progress("sort", "drift", 0.2)
    assert seen.run(limit_s, spin, every_s=5) is None
    trip = seen.run(10, spin)
    assert trip.sensor == "heartbeat_age_s"
    assert isinstance(trip.error, SorterTimeoutError)
    assert "sort drift" in str(trip.error)


def test_a_step_that_does_not_count_has_its_log():
    """Where the sorter says nothing of its progress, lines in the log are its heartbeat."""
    seen = watch(FakeMachine(progress=Progress("sort")), gpu_index=None)

    def work(machine: FakeMachine) -> None:
        computing(machine)
        machine.log += int(machine.cpu_s) % 1000 == 0

    assert seen.run(20_000, work) is None
    assert seen.run(8000, computing).sensor == "heartbeat_age_s"


def test_a_poll_measures_once():
    """What several sensors need is measured once per poll."""
    seen = watch()
    seen.machine.asked.clear()
    seen.run(1)
    assert {name: seen.machine.asked.count(name) for name in seen.machine.asked} == {
        "tree": 1,
        "gpu": 1,
        "memory": 1,
        "words": 1,
        "disk": 2,
    }
