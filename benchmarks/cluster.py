"""What a cluster costs, and that it loses nothing: short sorts on 1, 2 and 4 Dask workers of this machine.

The sorter is the fake one of the tests, which sorts in milliseconds. What a recording takes beside its run is checks
before the start, which each worker makes for itself, and Dask. Run it from the repository:
``python benchmarks/cluster.py``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _machine import machine

TESTS = Path(__file__).parents[1] / "tests"
OPTIONS = {"sorter": "fake", "n_jobs": 1, "create_figures": False, "on_error": "continue"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--recordings", type=int, default=32)
    parser.add_argument("--here", type=int, default=8, help="recordings that are sorted without a cluster, to compare")
    asked = parser.parse_args()
    _know_the_fake_sorter()
    print(f"{machine()}\n")
    print("| workers | recordings | s | recordings a minute | run of each (s) | beside it (s) | lost | sorted twice |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    _row("none: `sort_recording`", 1, asked.here, _here)
    for n_workers in asked.workers:
        _row(str(n_workers), n_workers, asked.recordings, _on_workers(n_workers))


def _know_the_fake_sorter() -> None:
    sys.path[:0] = [str(TESTS), str(TESTS / "fake_sorter")]
    from support import with_fake_sorter

    os.environ.update(with_fake_sorter(NUMBA_DISABLE_JIT="1"))


def _here(files: Sequence[Path], report: Any) -> None:
    from spikelab.spike_sorting import sort_recording

    sort_recording(files, out_report=report, **OPTIONS)


def _on_workers(n_workers: int) -> Callable[[Sequence[Path], Any], None]:
    def sort(files: Sequence[Path], report: Any) -> None:
        from distributed import Client

        from spikelab.spike_sorting.cluster import LocalWorkers, sort_on

        with LocalWorkers(workers=n_workers).start() as cluster, Client(cluster) as client:
            sort_on(client, files, out_report=report, **OPTIONS)

    return sort


def _row(what: str, n_workers: int, n_recordings: int, sort: Callable[[Sequence[Path], Any], None]) -> None:
    from spikelab.spike_sorting import SortRunReport

    report = SortRunReport()
    with tempfile.TemporaryDirectory() as folder:
        files = _simulated(Path(folder), n_recordings)
        started = time.monotonic()
        sort(files, report)
        seconds = time.monotonic() - started
        lost = sum(not record.succeeded for record in report.records) + n_recordings - len(report.records)
        twice = sum(_was_done_twice(Path(record.results_folder)) for record in report.records)
    run_s = statistics.mean(record.wall_time_s for record in report.records)
    beside_s = seconds * n_workers / n_recordings - run_s
    rate = 60 * n_recordings / seconds
    print(
        f"| {what} | {n_recordings} | {seconds:.0f} | {rate:.1f} | {run_s:.1f} | {beside_s:.2f} | {lost} | {twice} |",
        flush=True,
    )


def _simulated(folder: Path, n: int) -> list[Path]:
    from support import simulate_maxwell

    files = [folder / f"r{number:02d}.raw.h5" for number in range(n)]
    simulate_maxwell(files[0], n_channels=4, n_units=2, duration_s=3)
    for file in files[1:]:
        shutil.copy(files[0], file)
    return files


def _was_done_twice(results: Path) -> bool:
    from spikelab.spike_sorting.run_folder import RunFolder

    events = RunFolder(results, results).journal.read()
    done = Counter(event["stage"] for event in events if event["event"] == "stage_finished")
    return any(times > 1 for times in done.values())


if __name__ == "__main__":
    main()
