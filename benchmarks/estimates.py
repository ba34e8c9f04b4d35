"""What sorts were estimated to take and what they took: ``python benchmarks/estimates.py``.

Simulated recordings are sorted one after another by Kilosort4 on the CPU. What the first ones took corrects the
estimates of the later ones, as it does on any machine; nothing of the user's own former sorts is read or written.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from _machine import machine

RECORDINGS = (
    ("tetrode", 4, 300.0),
    ("linear", 32, 120.0),
    ("mea", 64, 60.0),
    ("mea", 128, 60.0),
    ("linear", 16, 600.0),
    ("mea", 64, 180.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=len(RECORDINGS), help="sort only the first N recordings")
    options = parser.parse_args()
    print(machine(), "\n", flush=True)
    print("| recording | probe (s) | spikes/s, estimated | found | former sorts | estimated | took | disk | memory |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SPIKELAB_CACHE"] = str(Path(folder, "cache"))
        for layout, n_channels, duration_s in RECORDINGS[: options.first]:
            print(_row(Path(folder), layout, n_channels, duration_s), flush=True)


def _row(folder: Path, layout: str, n_channels: int, duration_s: float) -> str:
    from spikelab.simulation import simulate_recording
    from spikelab.spike_sorting import SortRunReport, estimate, sort_recording
    from spikelab.spike_sorting.report.wording import duration

    name = f"{layout}, {n_channels} channels, {duration_s:g} s"
    file = folder / f"{layout}{n_channels}_{duration_s:g}"
    truth = simulate_recording(layout, n_channels=n_channels, duration_s=duration_s, seed=3)
    truth.recording.save(folder=file, verbose=False, progress_bar=False)
    (before,) = estimate([file])
    report = SortRunReport()
    sort_recording([file], out_report=report, keep_binary=True)
    (result,) = report.records
    spikes = (before.workload.spikes_Hz, (result.n_spikes or 0) / duration_s)
    cells = (
        name,
        f"{before.probe_s:.0f}",
        *(f"{rate:.0f}" for rate in spikes),
        str(before.n_former_runs),
        before.wall_time_s.as_time(),
        duration(result.wall_time_s),
        before.disk_inter_gb.as_size(),
        before.ram_gb.as_size(),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
