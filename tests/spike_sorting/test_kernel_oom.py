"""A real kill by the kernel for lack of memory, in a control group of our own, as in a container with a limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting.run_folder import RunFolder

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
