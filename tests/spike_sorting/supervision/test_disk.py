"""The report of a full disk says what fills it."""

from __future__ import annotations

import json
import os
import threading
from itertools import count
from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.disk import FullDisk, disk_report, stalls, top_consumers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "inter" / "today.h5"
    for path, size in (
        (run / "recording.bin", 3_000_000),
        (run / "sorter" / "deep" / "temp_wh.dat", 2_000_000),
        (run / "sorter" / "small.npy", 500_000),
        (run / "log.txt", 10),
        (run.parent / "yesterday.h5" / "recording.bin", 5_000_000),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return run


def test_the_report_is_as_promised(folder: Path):
    """It has the promised fields, strict JSON, and the largest entries of the run and beside it first."""
    report = json.loads(json.dumps(disk_report(FullDisk((folder,), 0.9, 1.0, 12.0, 3.4)), allow_nan=False))
    assert list(report) == [
        "folder",
        "free_gb_at_trip",
        "abort_threshold_gb",
        "projected_need_gb",
        "bytes_consumed_during_sort",
        "top_consumers",
        "suggested_actions",
    ]
    assert report["bytes_consumed_during_sort"] == 2_500_000_000
    assert [Path(entry["path"]).name for entry in report["top_consumers"]][:3] == [
        "yesterday.h5",
        "recording.bin",
        "sorter",
    ]
    assert report["top_consumers"][0]["size_gb"] == pytest.approx(0.005, rel=0.05)
    assert report["suggested_actions"][0].startswith("Free at least 8.6 GB more")


def test_what_is_not_known_is_left_open(folder: Path):
    """Without a projection or a first reading, the report is there all the same."""
    report = disk_report(FullDisk((folder,)))
    measured = ("free_gb_at_trip", "abort_threshold_gb", "projected_need_gb", "bytes_consumed_during_sort")
    assert [report[name] for name in measured] == [None] * 4
    assert len(report["suggested_actions"]) == 3
    assert disk_report(FullDisk((folder,), None, None, 12.0, 3.4))["bytes_consumed_during_sort"] is None


def test_somebody_else_fills_the_disk(folder: Path):
    """When the run wrote next to nothing, the report says that it was somebody else."""
    assert "another program" in disk_report(FullDisk((folder,), 0.9, 1.0, 0.1, 0.9))["suggested_actions"][0]


def test_what_a_run_has_written_counts_as_its_own(folder: Path):
    """What earlier calls of the run have written is of its need, and nobody else's: be it in both its folders."""
    other = folder / "results"
    other.mkdir()
    with (other / "units.h5").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 150_000_000)
    report = disk_report(FullDisk((folder / "sorter", other), 0.05, 1.0, 1.3, 0.05))
    assert report["suggested_actions"][0].startswith("Free at least 1.1 GB more")
    assert not [action for action in report["suggested_actions"] if "another program" in action]


def test_a_quota_is_no_full_disk(folder: Path):
    """Where a write fails although the volume has room, the report points at quota and number of files."""
    first, *rest = disk_report(FullDisk((folder,), 512.0, None, 12.0, 512.0))["suggested_actions"]
    assert "512 GB free" in first
    assert "quota" in first
    assert not [action for action in rest if "Free at least" in action or "another program" in action]


def test_the_search_ends_in_time(folder: Path):
    """A walk that takes too long ends and tells what it has found."""
    seconds = count(step=2.0)
    found = top_consumers(folder, clock=lambda: next(seconds))
    assert len(found) < 4


def test_what_cannot_be_read_is_left_out(folder: Path):
    """Links are not followed, and a folder that is gone is an empty list."""
    (folder / "link").symlink_to(folder.parent / "yesterday.h5")
    sizes = {Path(entry["path"]).name: entry["size_gb"] for entry in top_consumers(folder)}
    assert sizes.get("link", 0) < 0.001
    assert top_consumers(folder / "gone" / "too") == []


def test_a_disk_that_does_not_answer_is_named(tmp_path: Path):
    """Each group with a disk that hangs has a failure of its own, which says where; the others have none."""
    answers = threading.Event()
    good, bad, worse = tmp_path / "good", tmp_path / "bad", tmp_path / "worse"

    def ask(path: Path) -> None:
        if path != good:
            answers.wait(20)

    found = stalls([[good], [good, bad, worse], [], [worse]], 0.1, ask=ask)
    answers.set()
    assert {number: error.device for number, error in found.items()} == {1: str(bad), 3: str(worse)}
    assert all(str(error.device) in str(error) and error.stall_s == 0.1 for error in found.values())


def test_a_place_that_is_missing_answers(tmp_path: Path):
    """What is not there, or is no folder, answers as well as any."""
    (tmp_path / "file").touch()
    assert stalls([[tmp_path, tmp_path / "absent" / "deeper", tmp_path / "file" / "below"]], 10.0) == {}
