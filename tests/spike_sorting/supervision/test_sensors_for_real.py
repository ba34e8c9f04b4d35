"""Sensors that watch real processes and a real disk stop what they must, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting._exceptions import SorterTimeoutError
from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.supervision.monitor import Monitor, MonitorEvent, Trip
from spikelab.spike_sorting.supervision.readings import SystemReadings
from spikelab.spike_sorting.supervision.sensors import Watched, build_sensors


@contextmanager
def child(code: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python child with its output in the log; killed at the end."""
    with (folder / "sorting.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its group lives as long as it is not waited for
        process.wait()


def monitor_of(process: subprocess.Popen[bytes], folder: Path, **settings: Any) -> Monitor:
    log, progress = folder / "sorting.log", folder / "progress.json"
    watched = Watched(process.pid, log, progress, folder, folder, "fake", 0.0)
    readings = SystemReadings(process.pid, log, progress)
    settings = {"disk_watchdog": False, "host_ram_watchdog": False, "sorter_inactivity_max_s": 60.0} | settings
    sensors = build_sensors(ExecutionConfig(**settings), watched, readings, None)
    return Monitor(sensors, clock=time.monotonic, on_event=lambda event: None)


def poll_for(monitor: Monitor, seconds: float) -> Trip | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if trip := monitor.poll():
            return trip
        time.sleep(0.05)
    return None


def test_a_real_child_that_sleeps_is_stopped(tmp_path: Path):
    """A real process that does nothing trips after its limit."""
    with child("import time; time.sleep(60)", tmp_path) as process:
        trip = poll_for(monitor_of(process, tmp_path, sorter_inactivity_base_s=1.0), 20)
    assert isinstance(trip.error, SorterTimeoutError)
    assert trip.sensor == "inactive_s"
    assert trip.error.inactivity_s >= 1.0


def test_a_real_child_that_is_stopped_by_a_signal_is_named(tmp_path: Path):
    """A real busy process that somebody stops trips, and the reason says that it is stopped."""
    with child("while True: pass", tmp_path) as process:
        monitor = monitor_of(process, tmp_path, sorter_inactivity_base_s=2.0)
        assert poll_for(monitor, 0.5) is None
        process.send_signal(signal.SIGSTOP)
        trip = poll_for(monitor, 20)
    assert "processes stopped by a signal: 1" in str(trip.error)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\nwhile True: print('a line', flush=True); time.sleep(0.3)",
        "import time\nwhile True: open('/dev/zero', 'rb').read(500_000); time.sleep(0.2)",
    ],
    ids=["computes", "logs", "reads"],
)
def test_a_real_child_with_one_sign_of_life_is_left_alone(code: str, tmp_path: Path):
    """A real process that only computes, only logs or only reads from memory does not trip."""
    if "zero" in code and not Path("/proc/self/io").exists():
        pytest.skip("this system does not count the bytes that a process moves")
    with child(code, tmp_path) as process:
        monitor = monitor_of(process, tmp_path, sorter_inactivity_base_s=2.0, io_stall_s=1.0)
        assert poll_for(monitor, 4.5) is None
        assert process.poll() is None


def test_a_real_child_that_spins_is_stopped_at_the_limit_of_its_step(tmp_path: Path):
    """A real process that burns processor time without progress trips at the limit per step."""
    with child("while True: pass", tmp_path) as process:
        monitor = monitor_of(process, tmp_path, sorter_inactivity_base_s=1.5, sorter_inactivity_max_s=1.5)
        trip = poll_for(monitor, 20)
    assert trip.sensor == "heartbeat_age_s"


def test_a_real_child_that_has_ended_trips_nothing(tmp_path: Path):
    """Between the end of a worker and the end of the watch, nothing is blind and nothing trips."""
    events: list[MonitorEvent] = []
    with child("", tmp_path) as process:
        time.sleep(0.5)
        readings = SystemReadings(process.pid, tmp_path / "sorting.log", tmp_path / "progress.json")
        watched = Watched(process.pid, tmp_path / "sorting.log", tmp_path, tmp_path, tmp_path, "fake", 0.0)
        sensors = build_sensors(ExecutionConfig(host_ram_watchdog=False, disk_watchdog=False), watched, readings, None)
        monitor = Monitor(sensors, clock=time.monotonic, on_event=events.append)
        assert poll_for(monitor, 0.5) is None
    assert events == []


FILL = """
import json, pathlib, sys, time
from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.supervision.monitor import Monitor
from spikelab.spike_sorting.supervision.readings import SystemReadings
from spikelab.spike_sorting.supervision.sensors import Watched, build_sensors
folder = pathlib.Path(sys.argv[1])
watched = Watched(1, folder / "log", folder / "progress", folder, folder, "fake", 0.0)
sensors = build_sensors(
    ExecutionConfig(host_ram_watchdog=False), watched, SystemReadings(1, watched.log_path, watched.progress_path), None
)
now = [0.0]
monitor = Monitor(sensors, clock=lambda: now[0], on_event=lambda event: None)
for n in range(100):
    now[0] += 1
    if trip := monitor.poll():
        print(json.dumps({"n": n, **trip.error.to_dict()["details"]}))
        break
    try:
        (folder / f"{n}.bin").write_bytes(bytes(1_000_000))
    except OSError:
        (folder / f"{n}.bin").unlink()
"""


def test_a_real_small_disk_is_used_until_it_is_nearly_full(tmp_path: Path, require_program):
    """On a real file system of 50 MB the default limits let a run use 95 percent, and then end it."""
    mount = f'mount -t tmpfs -o size=50m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    done = subprocess.run(
        [require_program("unshare"), "-rm", "sh", "-c", mount, FILL], capture_output=True, text=True, check=False
    )
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    told = json.loads(done.stdout)
    assert told["folder"] == str(tmp_path)
    assert told["abort_threshold_gb"] == pytest.approx(0.0524 * 0.02, rel=0.01)
    assert told["n"] > 0.95 * 52
