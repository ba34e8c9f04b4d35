"""The wells of a plate, and files that share a name or a folder: each is sorted for itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import check_schemas, with_fake_sorter

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting import SortRunReport
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import plan_streams
from spikelab.spike_sorting.sources import open_source
from spikelab.spike_sorting.supervision.journal import Journal

pytestmark = pytest.mark.timeout(180)

_SCRIPT = """
import json, sys
from spikelab.spike_sorting import SortRunReport, sort_multistream, sort_recording
call, recordings, options = json.loads(sys.argv[1])
sort, report, said = {"wells": sort_multistream, "files": sort_recording}[call], SortRunReport(), {}
options = {"curate_first": False, "curate_second": False, "preflight": False, "n_jobs": 1, **options}
def plain(sd):
    trains = sd and [train.tolist() for train in sd.train]
    return sd and {"length": sd.length, "stream": sd.metadata["source_stream"], "trains": trains}
try:
    results = sort(recordings, sorter="fake", out_report=report, **options)
    results = list(results.items()) if call == "wells" else [(None, results)]
    said["results"] = [[key, [plain(sd) for sd in found]] for key, found in results]
except Exception as error:
    said["error"] = [type(error).__name__, str(error)]
print(json.dumps({**said, "status": [record.status for record in report.records]}))
"""
LENGTHS_MS = {"well000": 4000, "well001": 3000}


def sort(call: str, recordings: Any, **options: Any) -> dict[str, Any]:
    """Sort in a fresh process that knows the fake sorter, and return what came of it."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([call, recordings, options])],
        env=with_fake_sorter(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def simulated(seed: int, seconds: float) -> Any:
    scale = {"dtype": "uint16", "gain_uV": 3.147, "offset_uV": -512 * 3.147}
    return simulate_recording(
        "linear", n_channels=6, n_units=3, duration_s=seconds, peak_uV=(110, 110), rate_Hz=(6, 12), seed=seed, **scale
    ).recording


def troughs_ms(recording: Any) -> list[list[float]]:
    """Return what the fake sorter must find in a recording: troughs below six times the noise, per channel."""
    traces = recording.get_traces().astype(np.float32)
    traces -= np.median(traces, axis=0)
    below = traces < -6 * np.median(np.abs(traces), axis=0) / 0.6745
    found = (1 + np.flatnonzero(below[1:, k] & ~below[:-1, k]) for k in range(below.shape[1]))
    return [(samples / 20.0).tolist() for samples in found if samples.size]


@pytest.fixture(scope="module")
def wells() -> dict[str, Any]:
    return {well: simulated(seed, LENGTHS_MS[well] / 1000) for seed, well in enumerate(LENGTHS_MS)}


@pytest.fixture(scope="module")
def plate(wells: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maxwell(tmp_path_factory.mktemp("plate") / "plate.raw.h5", wells)


@pytest.fixture(scope="module")
def sorted_plate(plate: Path) -> dict[str, Any]:
    """Both wells, one after the other."""
    return sort("wells", str(plate))


def copy_of(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(file, folder))


def test_each_well_has_its_own_units(sorted_plate: dict[str, Any], wells: dict[str, Any]) -> None:
    """Each well's result is what is in this well: its length, its spikes, and the file's order of wells."""
    assert [key for key, _ in sorted_plate["results"]] == ["well000", "well001"]
    for well, (sd,) in sorted_plate["results"]:
        assert (sd["length"], sd["stream"]) == (LENGTHS_MS[well], well)
        expected = troughs_ms(wells[well])
        assert len(expected) >= 3
        assert all(np.allclose(found, true) for found, true in zip(sd["trains"], expected, strict=True))
    assert sorted_plate["status"] == ["success", "success"]


def test_each_well_has_its_own_folders(sorted_plate: dict[str, Any], plate: Path) -> None:
    """Results and intermediate files of a well lie in folders named after file and well, and say which well it is."""
    for kind in ("sorted_fake", "inter_fake"):
        assert sorted(path.name for path in (plate.parent / kind).iterdir() if path.is_dir()) == [
            "plate.raw.h5_well000", "plate.raw.h5_well001",
        ]  # fmt: skip
    for well in LENGTHS_MS:
        results = plate.parent / "sorted_fake" / f"plate.raw.h5_{well}"
        assert (results / "spikedata_curated.h5").is_file()
        assert json.loads((results / "config_used.json").read_text())["config"]["recording"]["stream_id"] == well
        (record,) = SortRunReport.load(results).records
        assert (record.rec_name, record.results_folder) == (f"plate.raw.h5_{well}", str(results))


def test_wells_come_in_the_order_asked_for(sorted_plate: dict[str, Any], plate: Path) -> None:
    """The keys are the streams asked for, in that order, and finished wells are loaded."""
    said = sort("wells", str(plate), stream_ids=["well001", "well000"])
    assert said["results"] == sorted_plate["results"][::-1]
    assert [key for key, _ in sort("wells", str(plate), stream_ids=["well001"])["results"]] == ["well001"]


def test_one_well_of_a_plate_by_sort_recording(sorted_plate: dict[str, Any], plate: Path) -> None:
    """A plate without stream_id is refused with the way out; with it, that well's finished result is found."""
    kind, text = sort("files", [str(plate)])["error"]
    assert kind == "ValueError"
    assert all(word in text for word in ("sort_multistream", "well000", "well001"))
    said = sort("files", [str(plate)], stream_id="well001")
    assert said["results"][0][1] == sorted_plate["results"][1][1]


def test_two_at_once_give_the_same(sorted_plate: dict[str, Any], plate: Path, tmp_path: Path) -> None:
    """With max_parallel=2 both wells are in flight together, and the results are those of one after the other."""
    file = copy_of(plate, tmp_path)
    said = sort("wells", str(file), max_parallel=2, kilosort_params={"behaviour": "sleep"})
    assert said["results"] == sorted_plate["results"]
    started, ended = [], []
    for well in LENGTHS_MS:
        events = Journal(tmp_path / "sorted_fake" / f"plate.raw.h5_{well}" / "events.jsonl").read()
        times = {event["event"]: event["time"] for event in events}
        started.append(times["run_started"])
        ended.append(times["run_ended"])
    assert max(started) < min(ended)


@pytest.mark.parametrize("wrong", [["well000", "well007"], ["A1"], [], ["well000", "well000"]])
def test_a_wrong_stream_is_refused_before_anything_runs(plate: Path, tmp_path: Path, wrong: list[str]) -> None:
    """An id that the file does not have, or that is there twice, is a ValueError that lists the streams."""
    file = copy_of(plate, tmp_path)
    kind, text = sort("wells", str(file), stream_ids=wrong)["error"]
    assert kind == "ValueError"
    assert "well000" in text
    assert "well001" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plate.raw.h5"]


def test_one_dead_well_costs_only_itself(wells: dict[str, Any], tmp_path: Path) -> None:
    """With on_error="continue" a well that cannot be sorted is [None] in its place, and the others are sorted."""
    from spikeinterface.core import NumpyRecording

    alive, other = wells.values()
    dead = NumpyRecording([np.full_like(other.get_traces(), 512)], other.sampling_frequency)
    dead.set_probe(other.get_probe())
    dead.set_channel_gains(3.147)
    dead.set_channel_offsets(-512 * 3.147)
    file = write_maxwell(tmp_path / "plate.raw.h5", {"well000": alive, "well001": dead, "well002": other})
    said = sort("wells", str(file), on_error="continue", max_parallel=2)
    assert [(key, [sd and sd["length"] for sd in sds]) for key, sds in said["results"]] == [
        ("well000", [4000]), ("well001", [None]), ("well002", [3000]),
    ]  # fmt: skip
    assert said["status"] == ["success", "no_good_channels", "success"]
    three = ("well000", "well001", "well002")
    folders = [tmp_path / "sorted_fake", *(tmp_path / "sorted_fake" / f"plate.raw.h5_{well}" for well in three)]
    assert "events.jsonl" in set.union(*map(check_schemas, folders))
    report = json.loads((tmp_path / "sorted_fake" / "batch_report.json").read_text())
    assert [(record["rec_name"], record["status"]) for record in report["records"]] == [
        (f"plate.raw.h5_{well}", status) for well, status in zip(three, said["status"], strict=True)
    ]
    page = (tmp_path / "sorted_fake" / "batch_report.html").read_text()
    assert all(f'href="plate.raw.h5_{well}/sorting_report.html"' in page for well in three)

    assert sort("wells", str(file))["error"][0] == "NoGoodChannelsError"


def test_a_whole_plate(wells: dict[str, Any], tmp_path: Path) -> None:
    """Each of 24 wells is read as what is in it, whatever the lengths, and one that is empty costs only itself."""
    recording = wells["well000"]
    cuts = {f"well{k:03d}": recording.frame_slice(2000 * k, 2000 * k + 16_000 + 20 * k) for k in range(24)}
    cuts["well006"] = recording.frame_slice(0, 20)  # 1 ms
    file = write_maxwell(tmp_path / "plate.raw.h5", cuts)
    jobs = plan_streams(file, KILOSORT4)
    assert list(jobs) == list(cuts)
    for well, job in jobs.items():
        (opened,) = open_source(job.source)
        np.testing.assert_array_equal(opened.get_traces(), cuts[well].get_traces())

    some = ["well005", "well006", "well023"]
    options = {"runner": "inline", "on_error": "continue", "generate_sorting_report": False}
    said = sort("wells", str(file), stream_ids=some, **options)
    assert [(key, [sd and sd["length"] for sd in sds]) for key, sds in said["results"]] == [
        ("well005", [805]), ("well006", [None]), ("well023", [823]),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------- files, not wells


def test_files_of_one_name_and_of_one_folder_stay_apart(wells: dict[str, Any], tmp_path: Path) -> None:
    """Two files of one name in two folders, and two files in one folder, have results of their own."""
    one, other = wells.values()
    files = [tmp_path / "a" / "culture.raw.h5", tmp_path / "b" / "culture.raw.h5", tmp_path / "b" / "culture2.raw.h5"]
    for file, recording in zip(files, (one, other, one), strict=True):
        file.parent.mkdir(exist_ok=True)
        write_maxwell(file, recording)
    said = sort("files", [str(file) for file in files])
    sds = said["results"][0][1]
    assert [sd["length"] for sd in sds] == [4000, 3000, 4000]
    for sd, recording in zip(sds, (one, other, one), strict=True):
        expected = troughs_ms(recording)
        assert all(np.allclose(found, true) for found, true in zip(sd["trains"], expected, strict=True))
    for file in files:
        (record,) = SortRunReport.load(file.parent / "sorted_fake" / file.name).records
        assert record.rec_path == str(file)
