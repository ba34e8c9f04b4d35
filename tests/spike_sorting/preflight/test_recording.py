"""Checks of one recording, on real files where that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.jobs import Job, plan
from spikelab.spike_sorting.preflight.checks import RECORDING_CHECKS
from spikelab.spike_sorting.preflight.facts import RecordingFacts, look
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.preflight.recording import check_geometry, check_sampling_rate, check_segments

Make = Callable[..., Any]
RAW = "wells/well000/rec0000/groups/routed/raw"


def _found(job: Job) -> list[Finding]:
    facts = look(job)
    return [finding for check in RECORDING_CHECKS for finding in check(facts)]


def _codes(job: Job) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in _found(job)]


def _recording(n_samples: int = 60_000, *, dtype: str = "int16", fs_Hz: float = 20_000.0, probe: bool = True) -> Any:
    """Return noise on four channels in memory."""
    import probeinterface
    import spikeinterface

    noise = np.random.default_rng(0).normal(0, 50, (n_samples, 4)).astype(dtype)
    recording = spikeinterface.NumpyRecording([noise], fs_Hz)
    if probe:
        linear = probeinterface.generate_linear_probe(4, ypitch=20)
        linear.set_device_channel_indices(range(4))
        recording.set_probe(linear)
    return recording


def _saved(recording: Any, folder: Path) -> Path:
    recording.save(folder=folder, format="binary", n_jobs=1, verbose=False, progress_bar=False)
    return folder


# --------------------------------------------------------------------------------------------------- readable


def test_sound_maxwell_file(make_job: Make, maxwell: Path) -> None:
    """A sound file has no finding, and its header is what the projection builds on."""
    facts = look(make_job(maxwell))
    assert _found(make_job(maxwell)) == []
    assert facts.header is not None
    assert (facts.header.n_channels, facts.header.fs_Hz, facts.header.duration_s) == (8, 20_000.0, 4.0)
    assert not facts.header.is_flat_binary


def test_recording_in_memory(make_job: Make) -> None:
    """A recording that only this process has is looked at as it is."""
    job = make_job(in_memory=_recording())
    assert _found(job) == []
    header = look(job).header
    assert header is not None
    assert header.is_flat_binary, "it is saved as one"


def test_recording_given_as_an_object(maxwell: Path, tmp_path: Path) -> None:
    """A recording that SpikeInterface opened, and changed, is looked at as it will be sorted."""
    from spikeinterface.extractors import read_maxwell

    recording = read_maxwell(maxwell, install_maxwell_plugin=False).frame_slice(0, 40_000)
    folders = {"results_folders": [tmp_path / "r"], "intermediate_folders": [tmp_path / "i"]}
    (job,) = plan(recording, _config(), **folders)
    header = look(job).header
    assert _found(job) == []
    assert header is not None
    assert header.n_samples == 40_000


def test_truncated_file_is_found_when_planned(maxwell: Path, tmp_path: Path) -> None:
    """A file that was cut short is an error of the recording, with the error that the sort would end with."""
    cut = tmp_path / "cut.raw.h5"
    cut.write_bytes(maxwell.read_bytes()[:50_000])
    (job,) = plan(cut, _config())
    (found,) = _found(job)
    assert (found.code, found.level, found.subject) == ("recording-unreadable", "error", "cut.raw.h5")
    assert isinstance(found.error, RecordingUnreadableError)


def test_file_that_vanishes_after_planning(maxwell: Path, tmp_path: Path) -> None:
    """A file that went away is an error, not a crash."""
    copy = Path(shutil.copy(maxwell, tmp_path / "gone.raw.h5"))
    (job,) = plan(copy, _config())
    copy.unlink()
    assert _codes(job) == [("recording-unreadable", "error")]


def test_file_of_another_kind(tmp_path: Path) -> None:
    """A file that is no recording is an error."""
    (tmp_path / "notes.h5").write_text("not a recording")
    (job,) = plan(tmp_path / "notes.h5", _config())
    assert _codes(job) == [("recording-unreadable", "error")]


@pytest.mark.parametrize("second, name", [(0, "first"), (2, "middle"), (3, "last")])
def test_damage_at_start_middle_and_end_is_found(
    make_job: Make, maxwell: Path, tmp_path: Path, second: int, name: str
) -> None:
    """A damaged block in the first, middle or last second is found, with the sample at which it was read."""
    path = _compressed(maxwell, tmp_path / "damaged.raw.h5")
    with h5py.File(path) as file:
        chunk = file[RAW].id.get_chunk_info_by_coord((0, second * 20_000 + 5_000))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    (found,) = _found(make_job(path))
    assert found.code == "recording-unreadable"
    assert f"its {name} second cannot be read" in found.message
    assert found.error is not None
    assert found.error.details["offset"] == pytest.approx(second * 20_000, abs=1)


def _compressed(source: Path, path: Path) -> Path:
    """Write `source` with gzip, a second a chunk, so that damage can be noticed."""
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        data = file[RAW][:]
        del file[RAW]
        file.create_dataset(RAW, data=data, chunks=(data.shape[0], 20_000), compression="gzip")
    return path


def test_only_what_is_sorted_must_be_readable(make_job: Make, maxwell: Path, tmp_path: Path) -> None:
    """Damage outside of the times that are sorted does not stop the sort."""
    path = _compressed(maxwell, tmp_path / "damaged.raw.h5")
    with h5py.File(path) as file:
        chunk = file[RAW].id.get_chunk_info_by_coord((0, 70_000))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    assert _codes(make_job(path)) == [("recording-unreadable", "error")]
    assert _codes(make_job(path, end_time_s=3)) == []


def test_each_file_of_a_concatenation_is_read(maxwell: Path, tmp_path: Path) -> None:
    """A damaged file among several that are joined is named."""
    sound = Path(shutil.copy(maxwell, tmp_path / "a1.raw.h5"))
    damaged = _compressed(maxwell, tmp_path / "a2.raw.h5")
    with damaged.open("r+b") as file:
        with h5py.File(damaged) as hdf5:
            chunk = hdf5[RAW].id.get_chunk_info(0)
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    (job,) = plan([[sound, damaged]], _config())
    (found,) = _found(job)
    assert "the first second of a2.raw.h5 cannot be read" in found.message


def _config(**overrides: Any) -> Any:
    from spikelab.spike_sorting.config import KILOSORT4

    return KILOSORT4.override(**overrides)


# ----------------------------------------------------------------------------------------- complete and alike


def test_binary_that_was_cut_within_a_sample(make_job: Make, tmp_path: Path) -> None:
    """A flat file whose size is no whole number of samples was cut: a warning, since what is there is sound."""
    folder = _saved(_recording(), tmp_path / "binary")
    assert _codes(make_job(folder)) == []
    raw = next(folder.glob("*.raw"))
    raw.write_bytes(raw.read_bytes()[:-3])
    assert _codes(make_job(folder)) == [("file-cut", "warning")]


def test_flat_binary_is_known_as_such(make_job: Make, tmp_path: Path) -> None:
    """A flat file is read by the sorter as it is, unless a part of its times or channels is left out."""
    folder = _saved(_recording(), tmp_path / "binary")
    whole = look(make_job(folder)).header
    part = look(make_job(folder, end_time_s=1)).header
    fewer = look(make_job(folder, bad_channels=[0])).header
    assert whole is not None
    assert part is not None
    assert fewer is not None
    assert (whole.is_flat_binary, part.is_flat_binary, fewer.is_flat_binary) == (True, False, False)
    assert (part.n_samples, fewer.n_channels) == (20_000, 3)


def test_silent_end_is_warned_of(make_job: Make) -> None:
    """Data that stop before the end, as missing chunks of a zarr do, are a warning that says where."""
    import spikeinterface

    noise = np.random.default_rng(0).integers(-50, 50, (80_000, 4)).astype("int16")
    noise[-30_000:] = 0
    silent = spikeinterface.NumpyRecording([noise], 20_000.0)
    silent.set_probe(_recording().get_probe())
    (found,) = _found(make_job(in_memory=silent))
    assert (found.code, found.level) == ("recording-silent", "warning")
    assert "its last second" in found.message


def test_several_segments(make_job: Make, header: Make) -> None:
    """A recording of several segments is an error that says how to join them."""
    import spikeinterface

    noise = np.random.default_rng(0).integers(-50, 50, (30_000, 4)).astype("int16")
    two = spikeinterface.NumpyRecording([noise, noise], 20_000.0)
    two.set_probe(_recording().get_probe())
    (found,) = _found(make_job(in_memory=two))
    assert (found.code, "concatenate_recordings" in found.advice) == ("several-segments", True)
    assert check_segments(RecordingFacts(make_job(), header())) == []


def test_files_that_do_not_belong_together(maxwell: Path, tmp_path: Path) -> None:
    """Files of different arrays cannot be one recording."""
    from support import simulate_maxwell

    other = tmp_path / "other.raw.h5"
    simulate_maxwell(other, n_channels=6, duration_s=2)
    (job,) = plan(
        [[maxwell, other]], _config(), results_folders=[tmp_path / "r"], intermediate_folders=[tmp_path / "i"]
    )
    (found,) = _found(job)
    assert found.code == "recordings-differ"
    assert "not all are like " in found.message
    assert "other.raw.h5: the number of channels is 6 and not 8" in found.message


@pytest.mark.parametrize(
    "setting, words",
    [
        ({"start_time_s": 100.0}, "leave nothing of the recording"),
        ({"rec_chunks_s": [(0.0, 100.0)]}, "ends after the recording"),
        ({"curation_epoch": 1}, "curation_epoch is 1, and the recording has epoch 0"),
        ({"curation_epoch": 2, "rec_chunks_s": [(0.0, 1.0), (2.0, 3.0)]}, "the recording has epochs 0 to 1"),
        ({"bad_channels": ["no such"]}, "bad_channels names 'no such'"),
        ({"mea_y_max": -1.0}, "leave none of its 8 channels"),
        ({"kilosort_params": {"fs": 30_000.0}}, "kilosort_params['fs'] is 30000, and the recording has 20000 Hz"),
        ({"kilosort_params": {"n_chan_bin": 7}}, "the recording has 8 channels"),
        ({"kilosort_params": {"bad_channels": [8]}}, "the channels of the recording are 0 to 7"),
    ],
)
def test_settings_that_do_not_fit(make_job: Make, maxwell: Path, setting: dict[str, Any], words: str) -> None:
    """Times outside of the recording and channels that it does not have are errors before the start."""
    (found,) = _found(make_job(maxwell, **setting))
    assert (found.code, found.level) == ("settings-misfit", "error")
    assert words in found.message


# --------------------------------------------------------------------------------------- rate and geometry


@pytest.mark.parametrize("fs_Hz, ok", [(20_000, True), (100_000, True), (1_250, True), (20, False), (5e5, False)])
def test_sampling_rate(make_job: Make, header: Make, fs_Hz: float, ok: bool) -> None:
    """Rates from 1 to 100 kHz are plausible."""
    found = check_sampling_rate(RecordingFacts(make_job(), header(fs_Hz=fs_Hz)))
    assert [finding.code for finding in found] == ([] if ok else ["sampling-rate"])


def test_sampling_rate_must_leave_a_band(make_job: Make, header: Make) -> None:
    """A rate at which nothing lies above the high-pass cannot be sorted."""
    (found,) = check_sampling_rate(RecordingFacts(make_job(freq_min=700), header(fs_Hz=1_250.0)))
    assert "freq_min=700" in found.message


def _geometry(make_job: Make, header: Make, locations: Any, shanks: Any = None) -> str:
    locations_um = None if locations is None else np.asarray(locations, dtype=float)
    n_channels = 4 if locations is None else len(locations)
    values = {"n_channels": n_channels, "locations_um": locations_um, "shanks": np.asarray(shanks or [0] * n_channels)}
    found = check_geometry(RecordingFacts(make_job(), header(**values)))
    assert all((finding.code, finding.level) == ("geometry", "error") for finding in found)
    return found[0].message if found else ""


@pytest.mark.parametrize(
    "locations, words",
    [
        (None, "no probe geometry"),
        ([[0, 0], [0, np.nan], [0, 40]], "1 of 3 channels have no position"),
        ([[5, 5], [5, 5], [5, 5]], "all 3 channels have the position [5.0, 5.0]"),
        ([[0, 0], [0, 20], [0, 20]], "3 channels share 2 positions"),
        ([[0, 0], [0, 0.02], [0, 0.04]], "0.02 um apart"),
        ([[0, 0], [0, 20_000], [0, 40_000]], "20000 um apart"),
    ],
)
def test_implausible_geometry(make_job: Make, header: Make, locations: Any, words: str) -> None:
    """Positions that are missing, shared or in the wrong unit are errors: the sort would be garbage."""
    assert words in _geometry(make_job, header, locations)


@pytest.mark.parametrize(
    "locations, shanks",
    [
        ([[0, 0], [0, 20], [20, 0]], None),
        ([[0, 0], [0, 20], [0, 0], [0, 20]], [1, 1, 2, 2]),
        ([[0, 0]], None),
        ([[0, 0], [0, 20], [9000, 0], [9000, 20]], None),
    ],
)
def test_plausible_geometry(make_job: Make, header: Make, locations: Any, shanks: Any) -> None:
    """Shanks may be described at one place, may be far apart, and one channel has no neighbour."""
    assert _geometry(make_job, header, locations, shanks) == ""


def test_real_recordings_without_and_with_broken_geometry(make_job: Make) -> None:
    """Recordings without a probe, or with unknown positions, are found as SpikeInterface hands them over."""
    assert _codes(make_job(in_memory=_recording(probe=False))) == [("geometry", "error")]
    broken, probe = _recording(probe=False), _recording().get_probe()
    probe._contact_positions[2] = np.nan
    broken.set_probe(probe)
    assert _codes(make_job(in_memory=broken)) == [("geometry", "error")]
