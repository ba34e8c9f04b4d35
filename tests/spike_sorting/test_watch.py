"""What a worker died of, by its exit, its own words and the counters of the kernel."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import DiskExhaustionError, SorterCrashedError, UnclassifiedSortError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.costs import Estimate, Range, Workload
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.monitor import Monitor
from spikelab.spike_sorting.supervision.process import ExitStatus
from spikelab.spike_sorting.supervision.readings import DiskUse
from spikelab.spike_sorting.supervision.sensors.disk import INTER_FREE, RESULTS_FREE, DiskSpace
from spikelab.spike_sorting.watch import Watch, disk_full, with_evidence


@dataclass
class Counter:
    """A kernel that has killed so often."""

    kills: int | None

    def oom_kills(self) -> int | None:
        """Return how often."""
        return self.kills


def crashed(exit_name: str, log_tail: str | None = None) -> SorterCrashedError:
    return SorterCrashedError("MATLAB ended", sorter="kilosort2", exit_name=exit_name, log_path=None, log_tail=log_tail)


def unknown(traceback: str) -> UnclassifiedSortError:
    return UnclassifiedSortError("an error", stage="waveforms", remote_traceback=traceback)


BROKEN = "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly"
LOADER = "RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed."
TABLE = {
    "the worker itself": (-9, None, True),
    "its pool, by Python": (1, unknown(BROKEN), True),
    "its pool, by torch": (1, unknown(LOADER), True),
    "its sorter": (1, crashed("SIGKILL"), True),
    "a process of its sorter": (1, crashed("exit code 1", "exit codes of the workers are {SIGKILL(-9)}"), True),
    "no word, a crash": (-11, None, False),
    "no word, no results": (0, None, False),
    "an error": (1, unknown("ValueError: negative dimensions"), False),
    "a sorter that crashed": (1, crashed("SIGSEGV", "Segmentation violation"), False),
}


@pytest.mark.parametrize("returncode, said, is_a_kill", TABLE.values(), ids=TABLE)
def test_the_kill_of_another_recording_is_not_ours(returncode: int, said: Exception | None, is_a_kill: bool) -> None:
    """Out of memory takes both: a counter that rose, and an exit or words that tell of a kill."""
    exited = ExitStatus(returncode)
    for before, after, rose in ((3, 4, True), (3, 3, False), (None, 4, False), (3, None, False)):
        watch = Watch(Monitor((), clock=time.monotonic, on_event=lambda _event: None), Counter(after), before)
        assert watch.kernel_killed(exited, said) is (rose and is_a_kill)


# ------------------------------------------------------------------------------------------------- a full disk


@dataclass
class Volumes:
    """What is free on each volume (GB), and on which of them each folder lies."""

    free_gb: dict[str, float | None]
    volume_of: dict[Path, str]

    def disk(self, folder: Path) -> DiskUse:
        """Return the volume that `folder` is on."""
        name = self.volume_of[folder]
        free_gb = self.free_gb[name]
        if free_gb is None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return DiskUse(round(free_gb * 1e9), 10**12, None, None, volume=sorted(self.free_gb).index(name))


ESTIMATE = Estimate(
    name="a", results_folder="a", workload=Workload("kilosort4", "cpu", 32, 3e4, 60.0, 5.0, tracks_drift=False),
    crossings_Hz=5.0, probe_s=30.0, wall_time_s=Range(1, 2, 3), stages_s={},
    disk_inter_gb=Range(20, 30, 40), disk_results_gb=Range(1, 2, 3), ram_gb=Range(5, 6, 8), vram_gb=None,
    n_former_runs=0,
)  # fmt: skip


def explained(
    folder: Path, error: DiskExhaustionError, free_gb: dict[str, float | None], estimate: Estimate | None = ESTIMATE
) -> tuple[dict, DiskExhaustionError]:
    """Return the report of a full disk, and the error, of a worker that began with 50 GB free on each volume."""
    run = RunFolder(folder / "inter", folder / "results")
    run.inter.mkdir()
    run.results.mkdir()
    names = sorted(free_gb)
    disks = Volumes(dict.fromkeys(names, 50.0), {run.inter: names[0], run.results: names[-1]})
    sensors = [
        DiskSpace(name, place, None, lambda _now_s, place=place: disks.disk(place))
        for name, place in ((INTER_FREE, run.inter), (RESULTS_FREE, run.results))
    ]
    watch = Watch(Monitor(sensors, clock=time.monotonic, on_event=lambda _event: None), disks, None)
    watch.monitor.poll()
    disks.free_gb = free_gb
    with_evidence(error, Job("culture", Source(), run, KILOSORT4, estimate=estimate), watch)
    return json.loads((run.results / "disk_exhaustion_report.json").read_text()), error


def test_a_full_disk_is_compared_with_what_the_run_was_thought_to_need(tmp_path):
    """Both folders count where both lie on the full volume, and what went meanwhile; the rest is missing at least."""
    error = DiskExhaustionError("nearly full", folder=f"{tmp_path}/inter", free_gb_at_trip=0.9, abort_threshold_gb=1.0)
    report, _ = explained(tmp_path, error, {"one": 30.0})
    assert report["projected_need_gb"] == 32
    assert (report["free_gb_at_trip"], report["bytes_consumed_during_sort"]) == (0.9, 49_100_000_000)
    assert not any("Free at least" in action for action in report["suggested_actions"])


@pytest.mark.parametrize("which,needed", [("inter", 30), ("results", 2)])
def test_each_volume_has_its_own_need_and_its_own_start(tmp_path, which, needed):
    """Of two volumes, the one that is full is told of, and what it had when the worker began."""
    error = DiskExhaustionError("nearly full", folder=str(tmp_path / which), free_gb_at_trip=0.5)
    report, _ = explained(tmp_path, error, {"fast": 0.5 if which == "inter" else 40.0, "large": 0.5})
    assert report["projected_need_gb"] == needed
    assert report["bytes_consumed_during_sort"] == 49_500_000_000


def test_a_worker_without_room_has_what_is_measured_then(tmp_path):
    """What a worker ran into, a quota for one, is reported with what is free, not with nothing and no limit."""
    report, error = explained(tmp_path, DiskExhaustionError("Disk quota exceeded"), {"one": 49.9}, None)
    assert error.free_gb_at_trip == report["free_gb_at_trip"] == pytest.approx(49.9)
    assert report["abort_threshold_gb"] is None
    assert report["projected_need_gb"] is None
    assert report["bytes_consumed_during_sort"] == 100_000_000
    assert "quota" in report["suggested_actions"][0]


def test_what_cannot_be_measured_is_not_told(tmp_path):
    """A disk that fails altogether is not said to have 0 GB free, nor to have been filled by the run."""
    report, error = explained(tmp_path, disk_full(tmp_path / "inter", "sort"), {"one": None})
    assert error.free_gb_at_trip is report["free_gb_at_trip"] is report["bytes_consumed_during_sort"] is None
    assert report["projected_need_gb"] == 30
