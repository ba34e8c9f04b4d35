"""Files that are not what they should be: each leaves a report that says so, and the others of the batch are sorted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recording_files as files
from support import FAKE_SORTER, simulate_maxwell

from spikelab.spike_sorting import SortRunReport, sort_recording
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.preflight.facts import look
from spikelab.spike_sorting.sources import find_streams

RAW = "wells/well000/rec0000/groups/routed/raw"
MAPPING = "wells/well000/rec0000/settings/mapping"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Maxwell file that is sound."""
    path = tmp_path_factory.mktemp("sound") / "sound.raw.h5"
    simulate_maxwell(path, n_channels=6, n_units=3, duration_s=3)
    return path


@pytest.fixture
def sort(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[Any], SortRunReport]]:
    """Return a function that sorts with the fake sorter in this process, after the checks."""
    monkeypatch.syspath_prepend(str(FAKE_SORTER))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE_SORTER), os.environ.get("PYTHONPATH", "")]))

    def run(recordings: Any, **options: Any) -> tuple[list[Any], SortRunReport]:
        report = SortRunReport()
        defaults = {"sorter": "fake", "runner": "inline", "n_jobs": 1, "on_error": "continue", "create_figures": False}
        curation = {"curate_first": False, "curate_second": False, "prevent_system_sleep": False}
        results = sort_recording(recordings, out_report=report, **{**defaults, **curation, **options})
        return results, report

    return run


# ----------------------------------------------------------------------------------------------- one batch of all


def _with(sound: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """Return a copy of the sound file after a change."""
    shutil.copy(sound, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def _keep_channels(n: int) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        raw, mapping = file[RAW][:n], file[MAPPING][:n]
        del file[RAW], file[MAPPING]
        file[RAW], file[MAPPING] = raw, mapping

    return change


def _swap_axes(file: Any) -> None:
    raw = file[RAW][:].T
    del file[RAW]
    file[RAW] = raw


BAD: dict[str, tuple[Callable[[Path, Path], Any], str, str]] = {
    "empty": (lambda sound, path: path.write_bytes(b""), ".raw.h5", "cannot be opened as HDF5"),
    "text": (lambda sound, path: path.write_text("no recording"), ".raw.h5", "cannot be opened as HDF5"),
    "half": (lambda sound, path: path.write_bytes(sound.read_bytes()[:50_000]), ".raw.h5", "truncated file"),
    "none": (lambda sound, path: _with(sound, path, _keep_channels(0)), ".raw.h5", "0 channels"),
    "swapped": (lambda sound, path: _with(sound, path, _swap_axes), ".raw.h5", "seem to be swapped"),
    "channels first": (lambda sound, path: files.write_nwb(path, np.zeros((4, 9), "int16"), 2e4), ".nwb", "axes seem"),
    "notes": (lambda sound, path: path.write_text("no recording"), ".docx", "nothing is read that ends in .docx"),
    "folder": (lambda sound, path: path.mkdir(), ".raw.h5", "Maxwell expects the .raw.h5 file"),
    "file": (lambda sound, path: path.write_bytes(b"no folder"), ".zarr", "it is a file; expected a folder"),
    "dangling": (lambda sound, path: path.symlink_to("nowhere.raw.h5"), ".raw.h5", "which is not there"),
    "pipe": (lambda sound, path: os.mkfifo(path), ".raw.h5", "neither a file nor a folder"),
    "zeros": (lambda sound, path: path.write_bytes(b""), ".ns5", "cannot be read as Blackrock"),
}


def test_a_batch_of_bad_files(sound: Path, tmp_path: Path, sort: Callable[..., Any]) -> None:
    """Each bad file is a failure with a reason and a report of its own; the good one among them is sorted."""
    paths = []
    for name, (make, suffix, _) in BAD.items():
        paths.append(tmp_path / f"{name}{suffix}")
        make(sound, paths[-1])
    good = Path(shutil.copy(sound, tmp_path / "good.raw.h5"))
    results, report = sort([*paths, good])
    assert [sd is None for sd in results] == [True] * len(paths) + [False]
    assert report.records[-1].status == "success"
    for record, (_, _, said) in zip(report.records, BAD.values(), strict=False):
        assert said in (record.error_message or ""), record.rec_name + " " + str(record.error_message)
        assert record.advice
        told = json.loads((Path(record.results_folder) / "recording_report.json").read_text())
        assert told["status"] == record.status
        assert (Path(record.results_folder) / "sorting_report.md").is_file()
    assert (tmp_path / "half.raw.h5").stat().st_size == 50_000, "the recordings themselves are left as they are"


def test_an_hdf5_file_cut_anywhere_is_found(sound: Path, tmp_path: Path) -> None:
    """Wherever a copy ended, the file is unreadable before the start, and nothing crashes over it."""
    whole = sound.read_bytes()
    cut = tmp_path / "cut.raw.h5"
    for n_bytes in np.random.default_rng(0).integers(0, len(whole), 60):
        cut.write_bytes(whole[:n_bytes])
        (job,) = plan(cut, KILOSORT4)
        assert isinstance(job.problem, RecordingUnreadableError), n_bytes
        assert isinstance(look(job).error, RecordingUnreadableError), n_bytes


# --------------------------------------------------------------------------------------------------- odd, but fine


def test_names_that_people_give(sound: Path, tmp_path: Path, sort: Callable[..., Any]) -> None:
    """Spaces, quotes and letters of all kinds in names of files and folders, and links to files, change nothing."""
    folder = tmp_path / "Zürich 'day 1' — \"naïve\" 細胞"
    folder.mkdir()
    names = ["with spaces.raw.h5", 'it\'s "quoted".raw.h5', "größe_Δt_神経.raw.h5", "semi;colon & $HOME #1.raw.h5"]
    paths = [Path(shutil.copy(sound, folder / name)) for name in names]
    link = folder / "link.raw.h5"
    link.symlink_to(sound)
    results, report = sort([*paths, link])
    assert [record.status for record in report.records] == ["success"] * 5
    assert len({json.dumps([train.tolist() for train in sd.train]) for sd in results}) == 1
    assert {path.name for path in (folder / "sorted_fake").iterdir()} >= {*names, "link.raw.h5"}


def test_one_channel_is_enough(tmp_path: Path, sort: Callable[..., Any]) -> None:
    """A recording of a single channel is sorted, also one whose folder is a link."""
    real = tmp_path / "real"
    real.mkdir()
    simulate_maxwell(real / "one.raw.h5", n_channels=1, n_units=1, duration_s=3)
    (tmp_path / "link").symlink_to(real)
    (sd,), report = sort(tmp_path / "link" / "one.raw.h5")
    assert report.records[0].status == "success"
    assert len(sd.metadata["channel_ids"]) == 1


def test_a_file_that_changes_while_it_is_sorted(sound: Path, tmp_path: Path, sort: Callable[..., Any]) -> None:
    """Results of a file that was still being written are no results; once it is complete it is sorted again."""
    path = Path(shutil.copy(sound, tmp_path / "growing.raw.h5"))
    (nothing,), report = sort(path, kilosort_params={"behaviour": "append to", "place": str(path)})
    record = report.records[0]
    assert nothing is None
    assert record.status == "recording_unreadable"
    assert "changed while it was sorted" in record.error_message
    (sd,), report = sort(path)
    assert (report.records[0].status, sd.N > 0) == ("success", True)


def test_a_file_that_was_only_touched(sound: Path, tmp_path: Path, sort: Callable[..., Any]) -> None:
    """Another time of change alone costs no results, and is told."""
    path = Path(shutil.copy(sound, tmp_path / "touched.raw.h5"))
    (sd,), report = sort(path, kilosort_params={"behaviour": "touch", "place": str(path)})
    assert sd is not None
    assert [told.code for told in report.records[0].warnings].count("file-touched") == 1


def test_an_unknown_stream(sound: Path) -> None:
    """A stream that is not there is answered with those that are, before anything runs."""
    with pytest.raises(ValueError, match=r"has no stream 'well024'; it has \['well000'\]"):
        plan(sound, KILOSORT4.override(stream_id="well024"))


# --------------------------------------------------------------------------------------------------------- Maxwell


def test_several_recordings_in_one_well(tmp_path: Path) -> None:
    """Each recording of a well is a stream, and wells of a plate may have recordings of different names."""
    from spikelab.simulation import simulate_recording, write_maxwell
    from spikelab.spike_sorting.sources import Source, open_source

    scale = {"dtype": "uint16", "gain_uV": 6.294, "offset_uV": -512 * 6.294}
    recordings = [simulate_recording("tetrode", duration_s=0.2, n_units=1, seed=k, **scale).recording for k in range(3)]
    keys = ["well000/rec0000", "well000/rec0001", "well003/rec0007"]
    path = write_maxwell(tmp_path / "plate.raw.h5", dict(zip(keys, recordings, strict=True)))
    streams = find_streams(path)
    assert streams == ["well000/rec0000", "well000/rec0001", "well003"]
    for stream, recording in zip(streams, recordings, strict=True):
        (read,) = open_source(Source((str(path),), stream))
        np.testing.assert_array_equal(read.get_traces(), recording.get_traces())
    (job,) = plan(path, KILOSORT4.override(stream_id="well000/rec0001"))
    assert job.run.results.name == "plate.raw.h5_well000_rec0001"
    with pytest.raises(ValueError, match="has no stream 'well000'; it has"):
        plan(path, KILOSORT4.override(stream_id="well000"))


@pytest.mark.parametrize("layout", ["old", "new"])
def test_channels_that_are_not_the_first_rows(layout: str, tmp_path: Path) -> None:
    """Where a file has more rows than mapped electrodes, each electrode gets the row of its channel."""
    from spikelab.spike_sorting.descriptions import describe, load_description
    from spikelab.spike_sorting.sources import Source, open_source

    rows = np.random.default_rng(0).integers(0, 1023, (12, 500)).astype("u2")
    kind = [("channel", "<i4"), ("electrode", "<i4"), ("x", "<f8"), ("y", "<f8")]
    mapping = np.array([(7, 70, 0, 0), (-1, 99, 0, 0), (2, 20, 17.5, 0), (10, 11, 35, 17.5)], dtype=kind)
    path = tmp_path / "rows.raw.h5"
    with h5py.File(path, "w") as file:
        file["version"] = np.array([b"20160704" if layout == "old" else b"20190530"])
        settings = "settings" if layout == "old" else "wells/well000/rec0000/settings"
        file[f"{settings}/lsb"] = np.array([6.294e-6])
        if layout == "old":
            file["mapping"], file["sig"] = mapping, rows
        else:
            file[f"{settings}/sampling"], file[f"{settings}/mapping"] = np.array([20_000.0]), mapping
            file[RAW] = rows
    (recording,) = open_source(Source((str(path),)))
    np.testing.assert_array_equal(recording.get_traces(), rows[[7, 2, 10]].T)
    np.testing.assert_array_equal(recording.get_traces(channel_ids=["10", "7"]), rows[[10, 7]].T)
    assert recording.get_channel_locations().tolist() == [[0, 0], [17.5, 0], [35, 17.5]]
    assert (recording.get_property("electrode").tolist(), recording.sampling_frequency) == ([70, 20, 11], 20_000.0)
    assert recording.get_channel_gains() == pytest.approx(6.294)
    again = load_description(describe(recording.frame_slice(100, 200)))
    np.testing.assert_array_equal(again.get_traces(), rows[[7, 2, 10], 100:200].T)
