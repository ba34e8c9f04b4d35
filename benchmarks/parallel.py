"""What several recordings in flight gain: a batch of eight, one after the other and side by side.

The sorter is the fake one of the tests, which needs a GPU that is not there: it holds its slot and sleeps, for as long
as a recording takes without it. All else is real: worker processes, loading, waveforms, curation, supervision.
Run it from the repository: ``python benchmarks/parallel.py``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _machine import machine

REPOSITORY = Path(__file__).parents[1]
N_RECORDINGS = 8
WAYS = ((1, 1), (1, 2), (1, 3), (2, 3))
"""GPUs, and recordings in flight."""
_SORT = """
import json, sys, time
from pathlib import Path
import psutil
from support import FakeGpus
from spikelab.spike_sorting.batch import run_jobs
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.supervision.slots import GpuSlots
files, folder, n_gpus, n_parallel, seconds = json.loads(sys.argv[1])
config = SortingPipelineConfig.preset("fake").override(
    n_jobs=1, create_figures=False, kilosort_params={"behaviour": "sleep", "seconds": seconds}
)
ended, memory_mb, me = [], [], psutil.Process()
def on_outcome(job, outcome):
    ended.append(time.monotonic() - started)
    memory_mb.append(me.memory_info().rss / 1e6)
started = time.monotonic()
outcomes = run_jobs(
    plan(files, config), max_parallel=n_parallel, slots=GpuSlots(FakeGpus(n_gpus), Path(folder)), on_outcome=on_outcome
)
print(json.dumps({
    "seconds": time.monotonic() - started, "ended": ended, "memory_mb": memory_mb, "open_files": me.num_fds(),
    "records": [outcome.result.to_dict() for outcome in outcomes],
}))
"""


def main() -> None:
    print(f"{machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        alone = _batch(Path(folder, "alone"), 1, 1, 0.0, n_recordings=2)
        # Half of the time on the GPU: as long as the rest takes, less what a worker of the sort takes beside sleeping.
        seconds = max(1.0, alone["seconds"] / 2 - 2 * _on_gpu_s(alone))
        ways = {way: _batch(Path(folder, f"{way[0]}-{way[1]}"), *way, seconds) for way in WAYS}
    first = ways[WAYS[0]]
    share = _on_gpu_s(first) * N_RECORDINGS / first["seconds"]
    print(
        f"{N_RECORDINGS} recordings; the sorter sleeps for {seconds:.1f} s, and the GPU is held {share:.0%} of the time"
    )
    print("when one comes after the other.\n")
    print(
        "| GPUs | in flight | whole batch (s) | times as fast | at most | GPU held (%) | a recording (s): first, last |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for (n_gpus, n_parallel), found in ways.items():
        print(_row(n_gpus, n_parallel, found, first, share))
    print(f"\nMemory of the process that runs the batch: {first['memory_mb'][0]:.0f} MB after the first recording,")
    print(f"{first['memory_mb'][-1]:.0f} MB after the last one; {first['open_files']} open files at the end.")


def _row(n_gpus: int, n_parallel: int, found: dict[str, Any], first: dict[str, Any], share: float) -> str:
    gain = first["seconds"] / found["seconds"]
    # The GPUs cannot work while the first recording is loaded and while the last one is measured.
    rounds = -(-N_RECORDINGS // n_gpus)
    best = 1.0 if n_parallel == 1 else N_RECORDINGS / (rounds * share + 1 - share)
    held = sum(_sorts_s(found)) / (n_gpus * found["seconds"])
    times = [record["wall_time_s"] for record in found["records"]]
    ends = f"{statistics.mean(times[:2]):.1f}, {statistics.mean(times[-2:]):.1f}"
    return f"| {n_gpus} | {n_parallel} | {found['seconds']:.0f} | {gain:.2f} | {best:.2f} | {held:.0%} | {ends} |"


def _sorts_s(found: dict[str, Any]) -> list[float]:
    attempts = (attempt for record in found["records"] for attempt in record["attempts"])
    return [attempt["wall_time_s"] for attempt in attempts if attempt["phase"] == "sort"]


def _on_gpu_s(found: dict[str, Any]) -> float:
    return statistics.mean(_sorts_s(found))


def _batch(
    folder: Path, n_gpus: int, n_parallel: int, seconds: float, n_recordings: int = N_RECORDINGS
) -> dict[str, Any]:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from support import simulate_maxwell, with_fake_sorter

    folder.mkdir()
    files = [str(folder / f"{number}.raw.h5") for number in range(n_recordings)]
    for file in files:
        simulate_maxwell(Path(file), n_channels=4, n_units=2, duration_s=3)
    environment = with_fake_sorter()
    environment["PYTHONPATH"] += f"{os.pathsep}{REPOSITORY / 'tests'}"
    arguments = json.dumps([files, str(folder), n_gpus, n_parallel, seconds])
    command = [sys.executable, "-c", _SORT, arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
