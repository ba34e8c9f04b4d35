"""A real kill by the kernel for lack of memory, in a control group of our own, as in a container with a limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from support import simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting import HostMemoryWatchdogError, HostOutOfMemoryError, SorterTimeoutError
from spikelab.spike_sorting.config import RT_SORT_MEA
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.monitor import Level, Monitor, Reading, Trip
from spikelab.spike_sorting.supervision.readings import SystemReadings
from spikelab.spike_sorting.watch import Watch, error_of_trip

LIMIT_BYTES = 700_000_000
_SCRIPT = """
import json, sys
from pathlib import Path
Path(sys.argv[3]).write_text("0")  # join the control group before anything is loaded
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
sort_recording(sys.argv[1], sorter="fake", out_report=report, on_error="continue", n_jobs=1, preflight=False,
               host_ram_watchdog=False, oom_retry_max=0, **json.loads(sys.argv[2]))
print(json.dumps(report.to_dict()["records"][0]))
"""


@pytest.fixture
def members() -> Iterator[Path]:
    """The file that a process joins a group of limited memory by."""
    name = f"spikelab-{uuid.uuid4().hex[:8]}"
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        if not (root / limit).exists() and not (root / "cgroup.controllers").exists():
            continue
        group = root / name
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT_BYTES))
        except OSError as error:
            if group.exists():
                group.rmdir()
            pytest.skip(f"no control group of limited memory can be made here: {error}")
        yield group / "cgroup.procs"
        group.rmdir()
        return
    pytest.skip("this system has no control groups for memory")


@dataclass
class Counter:
    """How often the kernel has killed for lack of memory."""

    n: int

    def oom_kills(self) -> int:
        return self.n


def test_a_worker_that_waits_for_what_the_kernel_killed_is_out_of_memory(tmp_path: Path) -> None:
    """A pool of processes waits forever for one that is gone: that is no hang, and smaller settings help."""
    job = Job("a", Source(description="{}"), RunFolder(tmp_path, tmp_path), RT_SORT_MEA)
    hung = Trip("inactivity", Reading(Level.ABORT, 600, "silent"), SorterTimeoutError("no sign of life"), 600)
    too_full = Trip("memory", Reading(Level.ABORT, 93, "93 %"), HostMemoryWatchdogError("93 %"), 600)

    def error_of(trip: Trip, n_killed: int) -> Exception:
        watch = Watch(cast(Monitor, None), cast(SystemReadings, Counter(n_killed)), oom_kills_before=2)
        return error_of_trip(trip, watch, job, "sort")

    assert isinstance(error_of(hung, 3), HostOutOfMemoryError)
    assert error_of(hung, 2) is hung.error
    assert error_of(too_full, 3) is too_full.error


def test_a_worker_that_the_kernel_kills_is_out_of_memory(members: Path, tmp_path: Path) -> None:
    """F7: SIGKILL with a raised counter of the kernel is out of memory, by name, and the caller lives on."""
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file, duration_s=4, n_channels=8, n_units=3)
    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    options = {
        "kilosort_params": {"behaviour": "leak"},
        "intermediate_folders": [str(run.inter)],
        "results_folders": [str(run.results)],
    }
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(file), json.dumps(options), os.fspath(members)],
        env=with_fake_sorter(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    assert record["status"] == "oom_host_ram"
    assert "the kernel killed the worker in stage sort" in record["error_message"]
    assert record["attempts"][-1]["exit_name"] == "SIGKILL"
    assert record["category"] == "resource"
