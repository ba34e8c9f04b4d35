"""Draws `docs/_static/report.png` and `batch_report.png`: pages of a sort and of a batch, light and dark.

    python docs/_pictures/report.py [--results FOLDER] [--into FOLDER]

It needs a Chromium. A simulated array is sorted with Kilosort4 for it, which takes a minute or more, unless FOLDER is
the results folder of a sort. The records of the batch around it are made up.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from spikelab.spike_sorting._exceptions import InsufficientActivityError, RecordingUnreadableError
from spikelab.spike_sorting.outcome import RecordingResult, SortRunReport, describe_error
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.report import generate_sorting_report, write_batch_report
from spikelab.spike_sorting.supervision.publish import publish_json

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from browser import Page, open_page

WIDTH = 1400
BATCH = (
    ("culture01", 61, 44, 13_204, 66),
    ("culture02", 57, 39, 11_871, 71),
    ("culture03", 70, 52, 16_020, 80),
    ("culture04", 12, 3, 702, 48),
    ("culture06", 55, 41, 12_010, 69),
)
"""Name, units found, units kept, their spikes, and seconds."""


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="results folder of a sort")
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "_static")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, open_page(Path(folder, "profile")) as page:
        report = generate_sorting_report(options.results or sorted_array(Path(folder)))
        _open(page, report)
        unit_in_view = "document.querySelector('#chosen').closest('section').getBoundingClientRect()"
        take(page, options.into / "report.png", "[0, document.querySelector('.pair').getBoundingClientRect().bottom]")
        take(page, options.into / "report_units.png", f"[{unit_in_view}.top - 10, {unit_in_view}.bottom]", is_dark=True)
        _open(page, batch(Path(folder, "night")))
        take(page, options.into / "batch_report.png", "[0, document.documentElement.scrollHeight]")


def sorted_array(folder: Path) -> Path:
    """Sort a simulated array, and return its results folder."""
    from spikelab.simulation import simulate_recording
    from spikelab.spike_sorting import sort_recording

    file = folder / "culture05"
    simulate_recording("mea", n_channels=128, duration_s=60.0, seed=3).recording.save(folder=file)
    sort_recording([file])
    return folder / "sorted_kilosort4" / file.name


def batch(folder: Path) -> Path:
    """Make up a batch of five that are sorted and two that are not, and return its page."""
    results = [_sorted(folder, *row) for row in BATCH]
    broken = RecordingUnreadableError("the file ends after 41 % of its samples: expected 1.8 GB, found 0.74 GB")
    silent = InsufficientActivityError("the sorter found no unit: 0.02 crossings a second and channel")
    results += [
        _record(folder, name, **describe_error(e)) for name, e in (("culture07", broken), ("culture08", silent))
    ]
    write_batch_report(SortRunReport(results).records)
    return folder / "batch_report.html"


def _sorted(folder: Path, name: str, found: int, kept: int, spikes: int, seconds: float) -> RecordingResult:
    few = kept < 10
    result = replace(
        _record(folder, name, status="success", wall_time_s=seconds),
        n_units=found,
        n_curated_units=kept,
        n_spikes=spikes,
        estimated_s={"low": 48.0, "likely": 68.0, "high": 96.0},
        suspicions=(remark("units-per-channel", "12 units on 128 channels"),) if few else (),
        warnings=(remark("channels-noisy", "3 channels are left out"),) if few or name == "culture03" else (),
    )
    quality = {"snr": {"median": round(8 + kept / 6, 1)}}
    publish_json(
        Path(result.results_folder, "recording_report.json"),
        {**result.to_dict(), "recording": {"duration_s": 60.0}, "quality": quality},
    )
    return result


def _record(folder: Path, name: str, **more: object) -> RecordingResult:
    results = folder / f"{name}.raw.h5"
    results.mkdir(parents=True)
    return RecordingResult(
        rec_name=results.name,
        rec_path=results.name,
        results_folder=str(results),
        **more,  # type: ignore[arg-type]
    )


def _open(page: Page, path: Path) -> None:
    size = {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    page.send("Emulation.setDeviceMetricsOverride", **size)
    page.open(path.as_uri())
    page.wait_for("recordings" if path.name.startswith("batch") else "Recording and run")
    while page.evaluate("document.readyState") != "complete":
        pass


def take(page: Page, picture: Path, span: str, *, is_dark: bool = False) -> None:
    """Take a picture of the page between two heights, which `span` comes to at the top of the page, in 64 colours."""
    from PIL import Image

    page.evaluate("scrollTo(0, 0)")
    top, bottom = page.evaluate(span)
    page.screenshot(picture, WIDTH, is_dark=is_dark)
    with Image.open(picture) as whole:
        part = whole.convert("RGB").crop((0, max(0, int(top)), WIDTH, min(int(bottom) + 24, whole.height)))
    part.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main()
