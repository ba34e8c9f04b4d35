"""The resource curve stays small, whole and readable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting.supervision.curve import COLUMNS, CurveWriter, read_curve


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def record(path: Path, seconds: int, clock: Clock, every_s: float = 1.0) -> CurveWriter:
    curve = CurveWriter(path, clock=clock)
    for n in range(int(seconds / every_s)):
        curve({"host_ram_pct": n % 50, "disk_free_inter_gb": 100 - n % 50, "gpu_temp_c": None, "inactive_s": 3.0})
        clock.now += every_s
    return curve


def test_a_line_is_written_at_most_every_two_seconds(tmp_path: Path):
    """One poll a second is half as many lines, each with the worst value since the last, and flushed at once."""
    clock = Clock()
    curve = record(tmp_path / "watchdog.csv", 11, clock)
    rows = read_curve(tmp_path / "watchdog.csv")
    assert [row["elapsed_s"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert [row["host_ram_pct"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert [row["disk_free_inter_gb"] for row in rows] == [100, 98, 96, 94, 92, 90]
    assert all(row["gpu_temp_c"] is None for row in rows)
    assert list(rows[0]) == ["elapsed_s", *COLUMNS]
    curve({"host_ram_pct": 99.0})
    curve.flush()
    curve.flush()
    assert [row["host_ram_pct"] for row in read_curve(tmp_path / "watchdog.csv")][-2:] == [10, 99]


def test_a_day_stays_small(tmp_path: Path):
    """A run of 24 hours is less than half a megabyte, and no peak is lost by thinning."""
    clock = Clock()
    curve = record(tmp_path / "watchdog.csv", 12 * 3600, clock, every_s=10.0)
    curve({"host_ram_pct": 97.5})
    clock.now += 10.0
    for _ in range(12 * 360):
        curve({"host_ram_pct": 40.0})
        clock.now += 10.0
    assert (tmp_path / "watchdog.csv").stat().st_size < 500_000
    rows = read_curve(tmp_path / "watchdog.csv")
    assert len(rows) < 5000
    assert max(row["host_ram_pct"] or 0 for row in rows) == 97.5
    assert math.isclose(rows[-1]["elapsed_s"] or 0, 24 * 3600, rel_tol=0.01)


def test_a_later_call_continues_the_curve(tmp_path: Path):
    """A run that goes on after a crash appends, also to a torn line, and its time never goes back."""
    path = tmp_path / "watchdog.csv"
    record(path, 10, Clock())
    with path.open("a") as file:
        file.write("99.0,5")
    record(path, 10, Clock(now=5.0))
    times = [row["elapsed_s"] for row in read_curve(path)]
    assert times == sorted(times)
    assert times[-1] == 16
    assert path.read_text().count("elapsed_s") == 1


def test_a_disk_that_cannot_be_written_does_not_disturb_the_watch(tmp_path: Path, caplog):
    """A curve that cannot be written is told once and costs nothing else."""
    curve = CurveWriter(tmp_path / "nowhere" / "watchdog.csv", clock=Clock())
    for _ in range(3):
        curve.flush()
        curve({"host_ram_pct": 1.0})
        curve.flush()
    assert sum("gaps" in record.message for record in caplog.records) == 1


def test_a_file_that_is_none_is_empty(tmp_path: Path):
    """What is no curve is read as an empty one."""
    assert read_curve(tmp_path / "none.csv") == []
    (tmp_path / "odd.csv").write_bytes(b"\xff\x00\n1,2\n")
    assert read_curve(tmp_path / "odd.csv") == []
