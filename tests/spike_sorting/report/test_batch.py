"""The report of a batch: what came of each recording, and of the wells of a plate."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.report import generate_batch_report, write_batch_report


def sorted_into(folder: Path, name: str, n_kept: int = 4, **fields: object) -> RecordingResult:
    """Return the outcome of a recording, with its own report in its results folder."""
    results = folder / name
    results.mkdir(parents=True, exist_ok=True)
    values = {"status": "success", "n_units": 9, "n_curated_units": n_kept, "n_spikes": 100, "wall_time_s": 61.0}
    result = RecordingResult(rec_name=name, rec_path="/data/plate.raw.h5", results_folder=str(results), **values)
    result = replace(result, **fields)
    if result.status != "skipped":
        extra = {"schema": 1, "recording": {"duration_s": 300.0}, "quality": {"snr": {"median": 7.25}}}
        (results / "recording_report.json").write_text(json.dumps({**result.to_dict(), **extra}))
        (results / "sorting_report.html").write_text("the recording's own page")
    return result


def failed_into(folder: Path, name: str) -> RecordingResult:
    fields = {"error_class": "NoGoodChannelsError", "error_message": "all 4 are flat", "advice": "Check <the> fluid."}
    return sorted_into(folder, name, status="no_good_channels", n_units=None, n_curated_units=None, **fields)


def written(folder: Path) -> tuple[dict, str, str]:
    note, page = ((folder / f"batch_report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    return json.loads((folder / "batch_report.json").read_text(encoding="utf-8")), note, page


def names(record: dict) -> list[str]:
    return [one["rec_name"] for one in record["records"]]


@pytest.fixture
def batch(tmp_path: Path) -> Sequence[RecordingResult]:
    return [
        sorted_into(tmp_path, "one.raw.h5"),
        failed_into(tmp_path, "two.raw.h5"),
        failed_into(tmp_path, "three.raw.h5"),
        sorted_into(tmp_path, "four.raw.h5", status="skipped", n_units=None, n_curated_units=None),
    ]


def test_each_recording_has_its_line(batch: Sequence[RecordingResult], tmp_path: Path) -> None:
    """JSON, note and page say of each recording what came of it, and the page leads to its own report."""
    assert write_batch_report(batch) == tmp_path
    record, note, page = written(tmp_path)
    assert (record["n_total"], record["n_succeeded"], record["n_failed"]) == (4, 1, 3)
    assert [RecordingResult.from_dict(one) for one in record["records"]] == list(batch)
    for text in (note, page):
        assert "1 of 4 recordings sorted" in text
        assert "Check &lt;the&gt; fluid." in text
        assert text.count("all 4 are flat") == 1, "what is to be said of several recordings is said once"
    assert "| one.raw.h5 | sorted | 9 | 4 | 100 | 5 min 00 s | 7.2 | \N{EN DASH} | 1 min 01 s | 0 |" in note
    assert 'href="one.raw.h5/sorting_report.html"' in page
    assert "default-src 'none'" in page


def test_a_later_batch_completes_the_report(batch: Sequence[RecordingResult], tmp_path: Path) -> None:
    """Sorting again what had failed brings the report up to date; what was not tried then stays as it was."""
    write_batch_report(batch)
    write_batch_report([sorted_into(tmp_path, "two.raw.h5")])
    record, _, page = written(tmp_path)
    assert record["n_succeeded"] == 2
    skipped = replace(sorted_into(tmp_path, "one.raw.h5"), status="skipped")
    write_batch_report([sorted_into(tmp_path, "three.raw.h5"), skipped])
    assert "4 kept" not in page
    record, *_ = written(tmp_path)
    # "four" was never tried, so that it has no results to stay for.
    assert names(record) == ["one.raw.h5", "two.raw.h5", "three.raw.h5"]
    assert record["n_succeeded"] == 3


def test_one_recording_is_no_batch(tmp_path: Path) -> None:
    """A recording that is sorted alone leaves its own report, and none beside it."""
    assert write_batch_report([sorted_into(tmp_path, "one.raw.h5")]) is None
    assert write_batch_report([]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["one.raw.h5"]


def test_without_pages_none_stay(batch: Sequence[RecordingResult], tmp_path: Path) -> None:
    """Without pages the JSON is written, and pages of an earlier batch do not stay to tell another story."""
    write_batch_report(batch)
    write_batch_report(batch, with_pages=False)
    assert sorted(path.name for path in tmp_path.glob("batch_report.*")) == ["batch_report.json"]


def test_recordings_of_several_folders_share_the_folder_above(tmp_path: Path) -> None:
    """The report lies in the folder that all results folders have in common."""
    records = [sorted_into(tmp_path / day / "sorted_fake", "one.raw.h5") for day in ("monday", "tuesday's #1")]
    assert write_batch_report(records) == tmp_path
    assert 'href="tuesday%27s%20%231/sorted_fake/one.raw.h5/sorting_report.html"' in written(tmp_path)[2]


def test_a_name_that_is_no_text_is_told_and_led_to(tmp_path: Path) -> None:
    """A byte that is no UTF-8 is shown by its code, and the link has the byte itself."""
    name = os.fsdecode(b"caf\xe9.raw.h5")
    write_batch_report([failed_into(tmp_path, name), sorted_into(tmp_path, "one.raw.h5")])
    record, note, page = written(tmp_path)
    assert names(record)[0] == name
    assert "caf\\udce9.raw.h5" in note
    assert 'href="caf%E9.raw.h5/sorting_report.html"' in page


@pytest.mark.parametrize("n_wells,n_places", [(2, 6), (6, 6), (7, 24), (24, 24), (25, 96)])
def test_wells_are_drawn_as_they_lie(tmp_path: Path, n_wells: int, n_places: int) -> None:
    """The wells of a plate stand in its rows and columns; those that are not in the batch leave a gap."""
    write_batch_report([sorted_into(tmp_path, f"plate.raw.h5_well{k:03d}", k) for k in range(n_wells - 1, -1, -1)])
    (plate,) = re.findall(r'<table class="plate">(.*?)</table>', written(tmp_path)[2], re.DOTALL)
    cells = re.findall(r"<td.*?</td>", plate, re.DOTALL)
    assert len(cells) == n_places
    kept = [re.search(r"<strong>(\d+)</strong>", cell) for cell in cells]
    assert [int(found[1]) for found in kept if found] == list(range(n_wells))
    assert all(found is None for found in kept[n_wells:])


def test_a_plate_shows_units_rates_and_what_came_of_each_well(tmp_path: Path) -> None:
    """The map has three colourings: by units kept, by their rate, and by outcome; a silent well has no rate."""
    records = [sorted_into(tmp_path, f"plate.raw.h5_well{k:03d}", 2 + k, n_spikes=600 * k * (2 + k)) for k in range(21)]
    records.append(sorted_into(tmp_path, "plate.raw.h5_well021", 0, n_spikes=0))
    records.append(sorted_into(tmp_path, "plate.raw.h5_well022", warnings=(remark("no-gain", "no gain"),)))
    records.append(failed_into(tmp_path, "plate.raw.h5_well023"))
    write_batch_report(records)
    page = written(tmp_path)[2]
    cells = re.findall(r'<td class="(.*?)" style="--units: (.*?); --rate: (.*?)">(.*?)</td>', page, re.DOTALL)
    kinds, units, rates, texts = zip(*cells, strict=True)
    assert kinds == (*["sorted"] * 22, "look", "failed")
    assert (units[0], units[20], units[21], units[23]) == ("0.091", "1.0", "0.0", "0.0")
    assert (rates[1], rates[10], rates[20], rates[21]) == ("0.05", "0.5", "1.0", "0.0")
    hertz = [re.search(r"by rate.*?<strong>(.*?)</strong>", text, re.DOTALL) for text in texts]
    assert [found[1] for found in hertz if found][10:22] == [f"{2 * k:.1f}" for k in range(10, 21)] + ["\N{EN DASH}"]
    assert "1 to look at" in texts[22]
    assert len(re.findall('<input type="radio" name="plate1"', page)) == 3


def test_a_report_of_what_lies_below_a_folder(batch: Sequence[RecordingResult], tmp_path: Path) -> None:
    """The report can be made anew, or of recordings that were never one batch, from their folders alone."""
    page = generate_batch_report(tmp_path)
    assert page == tmp_path / "batch_report.html"
    assert names(written(tmp_path)[0]) == ["one.raw.h5", "three.raw.h5", "two.raw.h5"]
    with pytest.raises(FileNotFoundError, match=r"recording_report\.json"):
        generate_batch_report(tmp_path / "one.raw.h5" / "nothing")


def test_a_damaged_report_is_written_anew(batch: Sequence[RecordingResult], tmp_path: Path) -> None:
    """What a crash or another program left under the report's name stands in no one's way."""
    for content in ("{", '{"records": [3, {"rec_name": 1}]}', "[]", '{"records": [{"results_folder": "x"}]}'):
        (tmp_path / "batch_report.json").write_text(content)
        write_batch_report(batch)
        assert names(written(tmp_path)[0]) == [record.rec_name for record in batch]
