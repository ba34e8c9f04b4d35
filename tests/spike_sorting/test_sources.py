"""Sources: what a recording is read from, and what tells it from another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spikeinterface as si
from spikeinterface.extractors import read_maxwell

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.descriptions import describe, described_path, described_stream
from spikelab.spike_sorting.sources import (
    Source,
    find_streams,
    identity,
    in_memory_source,
    natural_key,
    open_source,
    recordings_in,
    save_in_memory,
)

RECORDING = simulate_recording("tetrode", duration_s=0.5, n_units=1, gain_uV=6.294).recording
TRACES = RECORDING.get_traces()


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Maxwell file of two wells; the second holds half of the first."""
    wells = {"well000": RECORDING, "well001": RECORDING.frame_slice(0, 5000)}
    return write_maxwell(tmp_path_factory.mktemp("plate") / "plate.raw.h5", wells)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A SpikeInterface folder."""
    RECORDING.save(folder=tmp_path / "rec", verbose=False, progress_bar=False)
    return tmp_path / "rec"


def _copied(recording: si.BaseRecording, folder: Path) -> Source:
    source = in_memory_source(recording, folder)
    save_in_memory(recording, source)
    return source


def _in_memory() -> si.BaseRecording:
    recording = si.NumpyRecording([TRACES], 20_000.0)
    recording.set_probe(RECORDING.get_probe())
    return recording


# ---------------------------------------------------------------------------------------------- what is there


def test_recordings_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    """2 comes before 10, whatever the case; what is hidden or no recording is left out."""
    names = ["rec_10.raw.h5", "Rec_2.raw.h5", "rec_1.raw.h5", "rec_01.raw.h5", "rec_2²3.raw.h5"]
    for name in [*names, "._rec_3.raw.h5", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "sorted_kilosort4").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "si_folder.json").touch()
    found = [path.name for path in recordings_in(tmp_path)]
    assert found == ["rec_01.raw.h5", "rec_1.raw.h5", "Rec_2.raw.h5", "rec_2²3.raw.h5", "rec_10.raw.h5", "saved"]
    assert len({str(natural_key(Path(name))) for name in names}) == len(names)


def test_streams_of_a_plate(plate: Path) -> None:
    """The streams of a Maxwell file are its wells."""
    assert find_streams(plate) == ["well000", "well001"]


def test_streams_of_other_files(tmp_path: Path, saved: Path) -> None:
    """An old Maxwell file has one well, a SpikeInterface folder has no notion of streams."""
    old = write_maxwell(tmp_path / "old.raw.h5", RECORDING, layout="20160704")
    assert find_streams(old) == ["well000"]
    assert find_streams(saved) == []


# ------------------------------------------------------------------------------------------------- opening it


def test_a_maxwell_file_opens_to_the_sample(plate: Path) -> None:
    """Each well of a file is read as it was written: 512 steps above the simulation."""
    (first,) = open_source(Source((str(plate),), "well000"))
    (second,) = open_source(Source((str(plate),), "well001"))
    np.testing.assert_array_equal(first.get_traces().astype(int) - 512, TRACES)
    np.testing.assert_array_equal(second.get_traces().astype(int) - 512, TRACES[:5000])


def test_files_open_in_the_given_order(plate: Path, saved: Path) -> None:
    """Several files give one recording each, in their order."""
    (folder,) = open_source(Source((str(saved),)))
    np.testing.assert_array_equal(folder.get_traces(), TRACES)
    opened = open_source(Source((str(saved), str(saved)), splits=True))
    assert [recording.get_num_samples() for recording in opened] == [len(TRACES)] * 2


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("absent.raw.h5", None, "no such recording"),
        ("text.raw.h5", b"this is no HDF5 file", "cannot be read. Tried Maxwell, NWB, .*: it cannot be opened as HDF5"),
        ("empty.raw.h5", b"", "cannot be opened as HDF5"),
        (
            "notes.txt",
            b"hello",
            "is of no known format: nothing is read that ends in .txt. Known are SpikeInterface folder",
        ),
        ("broken.zarr", b"hello", "Tried SpikeInterface zarr: it is a file; expected a folder"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    """A missing, damaged or unknown file is a RecordingUnreadableError with its path and what was expected."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingUnreadableError, match=said) as caught:
        open_source(Source((str(path),)))
    assert caught.value.path == str(path)


def test_a_truncated_file_is_unreadable(plate: Path, tmp_path: Path) -> None:
    """A Maxwell file that was cut off is a RecordingUnreadableError, wherever it was cut."""
    whole = plate.read_bytes()
    for kept in (100, 3000, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / f"{kept}.raw.h5"
        cut.write_bytes(whole[:kept])
        with pytest.raises(RecordingUnreadableError):
            open_source(Source((str(cut),), "well000"))


def test_a_file_without_its_inner_parts_is_unreadable(tmp_path: Path) -> None:
    """A Maxwell file whose groups are missing is a RecordingUnreadableError with the file's name."""
    import h5py

    path = tmp_path / "hollow.raw.h5"
    with h5py.File(path, "w") as file:
        file["version"] = np.array([b"20190530"])
        file.create_group("wells/well000")
    with pytest.raises(
        RecordingUnreadableError, match=r"hollow\.raw\.h5 cannot be read as Maxwell \(ValueError: its wells"
    ):
        open_source(Source((str(path),)))


def test_a_saved_sorting_is_no_recording(tmp_path: Path) -> None:
    """A SpikeInterface folder with something else in it is told from a recording."""
    spikes = si.NumpySorting.from_samples_and_labels([np.array([1, 2])], [np.array([0, 0])], 20_000.0)
    spikes.save(folder=tmp_path / "spikes")
    with pytest.raises(RecordingUnreadableError, match="expected a recording"):
        open_source(Source((str(tmp_path / "spikes"),)))


# ------------------------------------------------------------------------------------------------ descriptions


def _cut_and_joined(plate: Path) -> si.BaseRecording:
    well = read_maxwell(plate, stream_id="well001", install_maxwell_plugin=False)
    return si.concatenate_recordings([well.frame_slice(100, 300), well.frame_slice(1000, 1100)])


@pytest.mark.parametrize("kind", ["simulated", "maxwell", "folder", "cut and joined"])
def test_a_recording_object_survives_its_description(kind: str, plate: Path, saved: Path) -> None:
    """Traces, ids, positions, gains and properties are the same after a way through JSON."""
    recording = {
        "simulated": lambda: RECORDING,
        "maxwell": lambda: read_maxwell(plate, stream_id="well000", install_maxwell_plugin=False),
        "folder": lambda: si.load(saved),
        "cut and joined": lambda: _cut_and_joined(plate),
    }[kind]()
    source = Source(description=describe(recording))
    (again,) = open_source(Source.from_dict(json.loads(json.dumps(source.to_dict()))))
    np.testing.assert_array_equal(again.get_traces(), recording.get_traces())
    np.testing.assert_array_equal(again.channel_ids, recording.channel_ids)
    np.testing.assert_array_equal(again.get_channel_locations(), recording.get_channel_locations())
    np.testing.assert_array_equal(again.get_channel_gains(), recording.get_channel_gains())
    np.testing.assert_array_equal(again.get_channel_offsets(), recording.get_channel_offsets())
    assert describe(again) == source.description


def test_a_description_names_file_and_stream(plate: Path) -> None:
    """The owner of a recording object is the file behind it and its stream, through slices as well."""
    source = Source(description=describe(_cut_and_joined(plate)))
    assert source.owner_card() == {"files": [str(plate)], "stream_id": "well001"}
    assert described_path(_cut_and_joined(plate)) == plate
    assert described_stream(describe(RECORDING)) is None


def test_only_what_is_read_counts_as_a_file(tmp_path: Path) -> None:
    """Paths in annotations and properties are no files of the recording."""
    recording = simulate_recording("tetrode", duration_s=0.1, n_units=1).recording
    recording.annotate(operator=str(tmp_path))
    assert described_path(recording) is None
    assert Source(description=describe(recording)).owner_card() == {"files": [], "stream_id": None}


def test_a_recording_in_memory_has_no_description() -> None:
    """What lives in this process only has no path."""
    assert described_path(_in_memory()) is None


def test_nothing_is_ever_fetched(plate: Path, tmp_path: Path) -> None:
    """A Maxwell recording that was opened with SpikeInterface's defaults is reopened without a download."""
    recording = read_maxwell(plate, stream_id="well000", install_maxwell_plugin=False)
    recording._kwargs["install_maxwell_plugin"] = True  # as it is when a user opens the file with a network
    described = describe(si.concatenate_recordings([recording.frame_slice(0, 10)]))
    source = tmp_path / "source.json"
    source.write_text(json.dumps(Source(description=described).to_dict()))
    code = """
import json, socket, sys, urllib.request
from copy import deepcopy
from pathlib import Path
from spikelab.spike_sorting.sources import Source, open_source
def refuse(*args, **kwargs):
    raise SystemExit("a download was attempted")
socket.getaddrinfo = urllib.request.urlopen = urllib.request.urlretrieve = refuse
(recording,) = open_source(Source.from_dict(json.loads(Path(sys.argv[1]).read_text())))
print(recording.get_traces().shape)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "HDF5_PLUGIN_PATH": str(tmp_path / "plugins")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(10, 4)"
    assert not (tmp_path / "plugins").exists()


def test_a_description_whose_file_is_gone(plate: Path, tmp_path: Path) -> None:
    """A recording that can no longer be opened from its description is a RecordingUnreadableError."""
    copy = shutil.copy(plate, tmp_path / "copy.raw.h5")
    described = describe(read_maxwell(copy, stream_id="well000", install_maxwell_plugin=False))
    copy.unlink()
    with pytest.raises(RecordingUnreadableError, match="no longer be opened from its description"):
        open_source(Source(description=described))


# --------------------------------------------------------------------------------------------------- identity


def _change_content(file: Path) -> None:
    before, data = file.stat(), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _change_size(file: Path) -> None:
    before = file.stat()
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _change_time(file: Path) -> None:
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", [_change_content, _change_size, _change_time])
@pytest.mark.parametrize("described", [False, True])
def test_another_file_is_another_identity(change: Any, described: bool, saved: Path) -> None:
    """One changed byte, another size or another time is another input, also behind a recording object."""
    source = Source(description=describe(si.load(saved))) if described else Source((str(saved),))
    before = identity(source)
    assert identity(source) == before
    change(saved / "traces_cached_seg0.raw")
    assert identity(source) != before
    json.dumps(before)


def test_the_stream_is_part_of_the_identity(plate: Path) -> None:
    """Two wells of one file are two inputs."""
    assert identity(Source((str(plate),), "well000")) != identity(Source((str(plate),), "well001"))


def test_the_identity_of_a_missing_file(tmp_path: Path) -> None:
    """A file that is gone has no identity."""
    with pytest.raises(RecordingUnreadableError, match="no such recording"):
        identity(Source((str(tmp_path / "absent.raw.h5"),)))


# -------------------------------------------------------------------------------- recordings only in memory


def test_a_recording_in_memory_is_copied_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The copy holds every sample, is reused for equal content, and is made again for another one, in silence."""
    folder = tmp_path / "input"
    source = _copied(_in_memory(), folder)
    (copy,) = open_source(source)
    np.testing.assert_array_equal(copy.get_traces(), TRACES)
    np.testing.assert_array_equal(copy.get_channel_locations(), RECORDING.get_channel_locations())
    made = (folder / "traces_cached_seg0.raw").stat().st_mtime_ns
    assert _copied(_in_memory(), folder) == source
    assert (folder / "traces_cached_seg0.raw").stat().st_mtime_ns == made

    other = _copied(_in_memory().frame_slice(0, 100), folder)
    assert identity(other) != identity(source)
    assert open_source(other)[0].get_num_samples() == 100
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input", "input.digest"]


def test_a_half_written_copy_is_made_again(tmp_path: Path) -> None:
    """A copy without its digest is not trusted."""
    folder = tmp_path / "input"
    source = _copied(_in_memory(), folder)
    (tmp_path / "input.digest").unlink()
    (folder / "traces_cached_seg0.raw").write_bytes(b"")
    assert _copied(_in_memory(), folder) == source
    np.testing.assert_array_equal(open_source(source)[0].get_traces(), TRACES)


def test_a_copy_is_known_by_its_content(tmp_path: Path) -> None:
    """A copy that was deleted and made again is the same input, and belongs to no file."""
    first = _copied(_in_memory(), tmp_path / "input")
    shutil.rmtree(tmp_path / "input")
    again = _copied(_in_memory(), tmp_path / "input")
    assert identity(again) == identity(first)
    assert again.owner_card() == {"files": [], "stream_id": None}
    assert Source.from_dict(json.loads(json.dumps(again.to_dict()))) == again


@pytest.mark.parametrize("what", ["trace", "gain", "position", "rate"])
def test_whatever_differs_is_another_content(what: str, tmp_path: Path) -> None:
    """One sample, the gains, the positions and the sampling rate all count."""
    traces, rate = TRACES.copy(), 20_000.0
    if what == "trace":
        traces[1234, 1] += 1
    if what == "rate":
        rate = 20_001.0
    other = si.NumpyRecording([traces], rate)
    probe = deepcopy(RECORDING.get_probe())
    if what == "position":
        probe.move([1, 0])
    other.set_probe(probe)
    if what == "gain":
        other.set_channel_gains(2.0)
    assert _copied(other, tmp_path / "a").content != _copied(_in_memory(), tmp_path / "b").content
