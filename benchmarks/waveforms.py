"""The stage "waveforms" against SpikeInterface with its default options, on one simulated recording.

64 channels, 60 s at 20 kHz, sorted by the truth, so that both measure the same spikes. Each way runs in a fresh
process with one job, in turn. Run it from the repository: ``python benchmarks/waveforms.py``.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _machine import machine

N_REPEATS = 3
SAME = ("random_spikes", "noise_levels", "templates", "spike_amplitudes", "unit_locations", "quality_metrics")
USUAL = ("random_spikes", "waveforms", "templates", "noise_levels", "template_similarity", *SAME[3:])
"""What SpikeInterface's own tutorials compute before curation."""


def main() -> None:
    print(f"{machine()}\n")
    rows: dict[str, list[dict[str, float]]] = {what: [] for what in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        truth = _simulate(Path(folder))
        for repeat in range(N_REPEATS):
            for number, what in enumerate(WAYS):
                out = Path(folder, f"out{repeat}_{number}")
                done = subprocess.run(
                    [sys.executable, __file__, what, folder, str(out)],
                    capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                )  # fmt: skip
                rows[what].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{truth}\n")
    print("| what | median (s) | from | to | of SpikeInterface's usual | peak memory (MB) |")
    print("|---|---:|---:|---:|---:|---:|")
    medians = {what: statistics.median(row["seconds"] for row in taken) for what, taken in rows.items()}
    for what, taken in rows.items():
        seconds = [row["seconds"] for row in taken]
        share, peak = medians[what] / list(medians.values())[-1], max(row["peak_MB"] for row in taken)
        print(f"| {what} | {medians[what]:.1f} | {min(seconds):.1f} | {max(seconds):.1f} | {share:.2f} | {peak:.0f} |")


def _simulate(folder: Path) -> str:
    from spikelab.simulation import simulate_recording

    truth = simulate_recording("mea", n_channels=64, duration_s=60)
    truth.recording.save(folder=folder / "recording", n_jobs=1, verbose=False, progress_bar=False)
    truth.sorting.save(folder=folder / "sorting")
    n_spikes = sum(truth.sorting.count_num_spikes_per_unit().values())
    return f"{len(truth.sorting.unit_ids)} units, {n_spikes} spikes"


# ------------------------------------------------------------------------------------------ in a process


def _ours(folder: Path, out: Path) -> Callable[[], Any]:
    """Prepare what the stage is given: a loaded recording, and spikes."""
    import numpy as np
    import spikeinterface as si

    from spikelab.spike_sorting.backends.base import Sorting
    from spikelab.spike_sorting.config import KILOSORT4
    from spikelab.spike_sorting.jobs import plan
    from spikelab.spike_sorting.stages import load, sort, waveforms
    from spikelab.spike_sorting.stages.stage import StageRun
    from spikelab.spike_sorting.supervision.progress import ProgressFile

    config = KILOSORT4.override(n_jobs=1)
    folders = {"results_folders": [out / "results"], "intermediate_folders": [out / "inter"]}
    (job,) = plan([folder / "recording"], config, **folders)
    progress = ProgressFile(out / "inter" / "progress.json", "waveforms")
    for name in ("load", "sort", "waveforms"):
        job.run.stage(name).mkdir(parents=True)
    load.run(StageRun(job, job.run.stage("load"), progress))
    sorting = si.load(folder / "sorting")
    spikes = sorting.to_spike_vector()
    samples, units = spikes["sample_index"].astype(np.int64), spikes["unit_index"].astype(np.int64)
    sort.write_spikes(job.run.stage("sort") / "spikes.npz", Sorting(samples, units, np.arange(units.max() + 1), {}))
    return lambda: waveforms.run(StageRun(job, job.run.stage("waveforms"), progress))


def _theirs(names: tuple[str, ...]) -> Callable[[Path, Path], Callable[[], Any]]:
    def prepare(folder: Path, out: Path) -> Callable[[], Any]:
        import spikeinterface as si
        import spikeinterface.metrics
        import spikeinterface.postprocessing
        from spikeinterface.preprocessing import bandpass_filter

        recording, sorting = si.load(folder / "recording"), si.load(folder / "sorting")

        def run() -> None:
            filtered = bandpass_filter(recording)
            analyzer = si.create_sorting_analyzer(sorting, filtered, format="binary_folder", folder=out, n_jobs=1)
            analyzer.compute(list(names), n_jobs=1)

        return run

    return prepare


WAYS = {
    "spikelab's stage": _ours,
    "SpikeInterface, the same extensions": _theirs(SAME),
    "SpikeInterface, those and what is usual": _theirs(USUAL),
}


def _measure(what: str, folder: Path, out: Path) -> None:
    run = WAYS[what](folder, out)
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
