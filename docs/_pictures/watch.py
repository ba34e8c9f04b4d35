"""Draws `docs/_static/watch.png`: the page of `spikelab watch` in the middle of a batch that is made up.

    python docs/_pictures/watch.py [PICTURE] [--dark] [--width PIXELS]

It needs a Chromium. The folders of the batch are written as runs write them; no sorter runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Thread
from typing import Any

from spikelab.cli.live.command import make_server
from spikelab.cli.live.outlook import Outlook
from spikelab.cli.live.server import Access
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.outcome import RecordingResult, describe_error
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.roster import announced
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.curve import COLUMNS
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, hold
from spikelab.spike_sorting.supervision.publish import publish_json

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from browser import open_page

SORTED = {"culture01": (2460, 231, 187, 412_310), "culture02": (2710, 244, 201, 468_922)}
"""Seconds, units found, units kept and spikes of what is done."""
LOG = (
    (1890, "spikelab.spike_sorting.stages.stage: stage load"),
    (1801, "spikelab.spike_sorting.stages.stage: stage sort"),
    (1797, "kilosort.run_kilosort: Skipping common average reference."),
    (1599, "kilosort.run_kilosort: Computing drift correction."),
    (533, "kilosort.run_kilosort: Extracting spikes using cluster waveforms"),
)
"""Seconds ago, and what was said."""


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path, default=Path(__file__).parents[1] / "_static" / "watch.png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1000)
    options = parser.parse_args()
    top = Path(gettempdir(), "night")  # it stands in the picture
    try:
        with TemporaryDirectory() as profile, batch(top):
            draw(top, Path(profile), options)
    finally:
        shutil.rmtree(top)


def draw(top: Path, profile: Path, options: argparse.Namespace) -> None:
    """Serve the batch below `top`, and take a picture of its page."""
    outlook = Outlook([top])
    with make_server(outlook, Access.to("127.0.0.1"), 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with open_page(profile) as page:
            page.open(server.url)
            page.wait_for("culture05")
            page.screenshot(options.picture, options.width, is_dark=options.dark)
        server.shutdown()
    outlook.close()


@contextmanager
def batch(top: Path) -> Iterator[None]:
    """Make up a batch: two sorted, one failed, two running, two waiting."""
    results = top / "sorted_kilosort4"
    top.mkdir()
    names = [f"culture{number:02d}.raw.h5" for number in range(1, 8)]
    for name, (seconds, found, kept, spikes) in SORTED.items():
        ended(top, f"{name}.raw.h5", seconds, n_units=found, n_curated_units=kept, n_spikes=spikes)
    error = RecordingUnreadableError("the file ends after 41 % of its samples: expected 1.8 GB, found 0.74 GB")
    first, second = running(top, names[3]), running(top, names[4])
    with (
        announced([results / name for name in names], n_parallel=2),
        hold([first.inter, first.results], "1"),
        hold([second.inter, second.results], "2"),
    ):
        ended(top, names[2], 2, stage="load", **describe_error(error))
        tell(first, 1900, {"stage": "sort", "step": "spike extraction", "fraction": 0.62, "n_spikes": 233_418})
        first.journal.write("worker_started", phase="sort", attempt="2")
        found = "ran out of GPU memory in spike detection; tried again with batch_size = 30000: the result may differ"
        first.journal.write("retry", phase="sort", remark=found, changed={"batch_size": 30000})
        first.journal.write("worker_started", phase="sort", attempt="3")
        hot = "86 °C on GPU 0; warn above 85, stop above 92 °C"
        first.journal.write("watch", kind="warned", sensor="gpu_temp_c", value=86.0, detail=hot, watched_s=900.0)
        row = {"host_ram_pct": 47.2, "run_ram_gb": 11.8, "run_cpu_cores": 2.4, "gpu_used_pct": 71.0, "gpu_own_gb": 16.4}
        gauge(first, {**row, "gpu_temp_c": 86.0, "gpu_util_pct": 88.0})
        log(first, LOG)
        tell(second, 240, {"stage": "load", "step": "copying", "fraction": 0.31})
        gauge(second, {"host_ram_pct": 47.3, "run_ram_gb": 3.1, "run_cpu_cores": 1.1})
        log(second, [(231, LOG[0][1])])
        yield


def made(top: Path, name: str) -> RunFolder:
    """Return the folders of a run, made and claimed."""
    run = RunFolder(top / "inter_kilosort4" / name, top / "sorted_kilosort4" / name)
    for folder in (run.inter, run.results):
        folder.mkdir(parents=True)
    run.claim({"path": name})
    return run


def ended(top: Path, name: str, seconds: float, **more: Any) -> None:
    """Make up a run that has ended."""
    run, status = made(top, name), more.pop("status", "success")
    run.journal.write("run_started", run_id="0", recording=name, sorter="kilosort4")
    result = RecordingResult(
        rec_name=name, rec_path=name, results_folder=str(run.results), status=status, wall_time_s=seconds, **more
    )
    publish_json(run.report_json, {**result.to_dict(), "recording": {"duration_s": 600.0}})
    run.report_html.write_text("<!DOCTYPE html>", encoding="utf-8")
    run.journal.write("run_ended", status=status, wall_time_s=seconds)


def running(top: Path, name: str) -> RunFolder:
    """Make up a run that goes on, with its recording loaded."""
    run = made(top, name)
    lacking = remark("no-gain", "the file does not say how many microvolts one step is")
    publish_json(run.marker("load"), {"summary": {"duration_s": 600.0, "warnings": [lacking.to_dict()]}})
    return run


def tell(run: RunFolder, seconds: float, progress: dict[str, Any]) -> None:
    """Have a run that is held begin so many seconds ago, and be where `progress` says."""
    card = json.loads((run.inter / LOCK_NAME).read_text(encoding="utf-8"))
    began = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    card = {**card, "hostname": "rig", "started_at": began.isoformat(timespec="milliseconds")}
    (run.results / LOCK_NAME).write_text(json.dumps(card), encoding="utf-8")
    run.journal.write("run_started", run_id="1", recording=run.results.name, sorter="kilosort4")
    publish_json(run.progress, progress)


def log(run: RunFolder, said: Sequence[tuple[float, str]]) -> None:
    """Write the log of a run."""
    times = [datetime.now(timezone.utc) - timedelta(seconds=seconds) for seconds, _ in said]
    lines = [f"{time:%Y-%m-%d %H:%M:%S},310 INFO    {text}\n" for time, (_, text) in zip(times, said, strict=True)]
    run.log.write_text("".join(lines), encoding="utf-8")


def gauge(run: RunFolder, values: dict[str, float]) -> None:
    """Write the resource curve of a run, of one row."""
    free_gb = 0.42 * shutil.disk_usage(run.inter).total / 1e9
    row = {"disk_free_inter_gb": free_gb, "disk_free_results_gb": free_gb, **values}
    cells = ",".join(["1.0", *(f"{row[column]:g}" if column in row else "" for column in COLUMNS)])
    run.curve.write_text(",".join(["elapsed_s", *COLUMNS]) + f"\n{cells}\n", encoding="ascii")


if __name__ == "__main__":
    main()
