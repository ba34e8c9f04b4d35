"""Kilosort4 on a real GPU: memory that comes back, and a shortage that is survived. Run by `make gpu-check`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import kill_worker, simulate_maxwell

from spikelab.spike_sorting import SortRunReport, sort_recording
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.gpu import NvmlGpu

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

STEPS = ["drift correction", "spike detection", "first clustering", "spike extraction", "final clustering", "merging"]
NEAR_BYTES = 100_000_000
_OCCUPY = """
import sys, torch
block = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


def used_bytes(gpu: NvmlGpu) -> int:
    used = gpu.sample(0).used_bytes
    assert used is not None
    return used


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "culture.raw.h5"
    simulate_maxwell(path, layout="mea", n_channels=64, duration_s=60, n_units=16)
    return path


@pytest.fixture(scope="module")
def first(file: Path) -> dict[str, Any]:
    """One undisturbed sort; its attempts are the pattern for those that are killed."""
    report = SortRunReport()
    sort_recording(file, out_report=report)
    return report.to_dict()["records"][0]


@pytest.mark.parametrize("step", STEPS)
def test_memory_comes_back_within_5_s_of_a_kill(file: Path, first: dict[str, Any], step: str) -> None:
    """P1: SIGKILL of the worker in any step gives its GPU memory back within 5 s, and the next call finishes."""
    assert first["status"] == "success"
    gpu = NvmlGpu()
    baseline = used_bytes(gpu)
    run = RunFolder(file.parent / "inter_kilosort4" / file.name, Path(first["results_folder"]))
    run.forget(["sort", "waveforms", "assemble", "curate", "review", "export"])
    run.remove_checkpoints()
    kill_worker(run, "sort", lambda progress: progress.step == step, n_threads=2)
    killed_s = time.monotonic()
    while used_bytes(gpu) > baseline + NEAR_BYTES:
        assert time.monotonic() - killed_s < 5, "GPU memory did not come back"
        time.sleep(0.05)
    assert sort_recording(file)[0] is not None


def test_running_out_of_gpu_memory_is_survived(file: Path, first: dict[str, Any]) -> None:
    """P19: with half the memory that the sort took, it runs out, shrinks, and finishes; the report says so."""
    gpu = NvmlGpu()
    sample = gpu.sample(0)
    assert sample.total_bytes
    assert first["peak_gpu_used_pct"]
    needed = first["peak_gpu_used_pct"] / 100 * sample.total_bytes - used_bytes(gpu)
    occupied = int(sample.total_bytes - used_bytes(gpu) - needed / 2)
    holder = subprocess.Popen(
        [sys.executable, "-c", _OCCUPY, str(occupied)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        report = SortRunReport()
        sort_recording(file, out_report=report, recompute_sorting=True, gpu_watchdog=False, preflight=False)
        assert holder.stdin is not None
        holder.stdin.close()
    (record,) = report.records
    assert record.status == "success"
    assert [attempt.status for attempt in record.attempts].count("oom_gpu") >= 1
    assert record.warnings
