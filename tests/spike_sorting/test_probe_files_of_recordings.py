"""Probe files and flat binary files by path: which probe is meant, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recording_files as files

from spikelab.spike_sorting import probe_from_dictionary, write_probe
from spikelab.spike_sorting._exceptions import ProbeMisfitError
from spikelab.spike_sorting.call_settings import resolve_config
from spikelab.spike_sorting.config import KILOSORT4, SortingPipelineConfig
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.preflight.checks import RECORDING_CHECKS
from spikelab.spike_sorting.preflight.facts import look
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.sources import identity, open_files
from spikelab.spike_sorting.stages.load import build_recording

FS_HZ, N_CHANNELS = 20_000.0, 5
SAMPLES = np.random.default_rng(0).integers(-400, 400, (20_000, N_CHANNELS)).astype("int16")
PROBE = {"chanMap": [3, 0, 2, 1], "xc": [0, 0, 0, 0], "yc": [60, 0, 40, 20], "kcoords": [0, 0, 0, 0], "n_chan": 4}
FLAT = KILOSORT4.override(binary_fs=FS_HZ, binary_n_chan=N_CHANNELS)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat binary file of five channels, the last of which has no electrode."""
    SAMPLES.tofile(tmp_path / "rec 1.bin")
    return tmp_path / "rec 1.bin"


def _found(path: Path, config: SortingPipelineConfig) -> list[Finding]:
    (job,) = plan(path, config)
    facts = look(job)
    return [finding for check in RECORDING_CHECKS for finding in check(facts)]


def _write_json(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**PROBE, **changes}))
    return path


# ------------------------------------------------------------------------------------------------- which is meant


@pytest.mark.parametrize(
    "name", ["rec 1.prb", "rec 1.mat", "rec 1.json", "rec 1.bin.json", "probe.prb", "probe.mat", "probe.json"]
)
def test_a_probe_beside_the_recording_is_found(name: str, flat: Path) -> None:
    """A probe file of the recording's name, or called probe, gives each channel its place, and the report says so."""
    write_probe(flat.with_name(name), PROBE)
    (flat.parent / "notes.json").write_text('{"chanMap": "of another recording"}')
    (job,) = plan(flat, FLAT)
    recording, _, remarks = build_recording(job)
    assert recording.channel_ids.tolist() == [0, 1, 2, 3]
    assert recording.get_channel_locations().tolist() == [[0, 0], [0, 20], [0, 40], [0, 60]]
    np.testing.assert_array_equal(recording.get_traces(), SAMPLES[:, :4])
    told = {one.code: one.message for one in remarks}
    assert name in told["probe-beside"]
    assert told["channels-without-contact"] == "1 of 5 channels have no contact and are not sorted: 4"
    assert _found(flat, FLAT) == []


def test_a_json_that_is_no_probe_is_left_alone(flat: Path) -> None:
    """Notes of the recording's name are no probe."""
    flat.with_suffix(".json").write_text('{"operator": "somebody"}')
    flat.with_suffix(".mat").write_bytes(b"no MATLAB file")
    assert plan(flat, FLAT)[0].source.probe is None


def test_probe_path_takes_the_place_of_any_other(flat: Path, tmp_path: Path) -> None:
    """The setting wins over the file beside the recording, and over the recording's own probe."""
    write_probe(flat.with_name("probe.prb"), PROBE)
    chosen = _write_json(tmp_path / "chosen.json", yc=[600, 0, 400, 200])
    (recording, _, remarks) = build_recording(plan(flat, FLAT.override(probe_path=str(chosen)))[0])
    assert recording.get_channel_locations()[:, 1].tolist() == [0, 200, 400, 600]
    assert "probe-beside" not in {one.code for one in remarks}
    nwb = files.write_nwb(tmp_path / "a.nwb", SAMPLES[:, :4], FS_HZ)
    for config, y_um in ((KILOSORT4, [0, 20, 40, 60]), (KILOSORT4.override(probe_path=chosen), [0, 200, 400, 600])):
        (opened,) = open_files(plan(nwb, config)[0].source)
        assert opened.recording.get_channel_locations()[:, 1].tolist() == y_um


def test_probe_path_holds_for_recordings_of_spikeinterface(flat: Path, tmp_path: Path) -> None:
    """A recording that is given as an object, from a file or from memory, gets the probe of the setting."""
    import spikeinterface

    chosen = str(_write_json(tmp_path / "chosen.json"))
    folders = {"results_folders": tmp_path / "r", "intermediate_folders": tmp_path / "i"}
    for recording in (
        spikeinterface.read_binary(flat, FS_HZ, "int16", 5),
        spikeinterface.NumpyRecording([SAMPLES], FS_HZ),
    ):
        (job,) = plan(recording, KILOSORT4.override(probe_path=chosen), **folders)
        header = look(job).header
        assert header is not None
        assert header.locations_um is not None
        assert header.locations_um[:, 1].tolist() == [0, 20, 40, 60]


def test_another_probe_is_another_recording(flat: Path) -> None:
    """A probe file with other content makes the sort anew, one that was only moved in time does not."""
    probe = _write_json(flat.with_name("probe.json"))
    (job,) = plan(flat, FLAT)
    before = identity(job.source)
    probe.touch()
    assert identity(job.source) == before
    _write_json(probe, yc=[61, 0, 40, 20])
    assert identity(job.source) != before


@pytest.mark.parametrize(
    "changed", [{"binary_fs": 1.0}, {"binary_n_chan": 4}, {"binary_dtype": "uint16"}, {"binary_offset": 2}]
)
def test_another_layout_is_another_recording(changed: dict[str, Any], flat: Path) -> None:
    """Whatever changes how a flat binary file is read makes the sort anew."""
    first, other = (plan(flat, config)[0].source for config in (FLAT, FLAT.override(**changed)))
    assert identity(first) != identity(other)


def test_tetrodes_may_share_a_place(flat: Path) -> None:
    """Groups of a probe file that are described at one place stay groups of channels."""
    group = "'channels': [{0}, {1}], 'geometry': {{{0}: [0, 0], {1}: [0, 20]}}"
    text = f"channel_groups = {{0: {{{group.format(0, 1)}}}, 1: {{{group.format(2, 3)}}}}}"
    flat.with_name("probe.prb").write_text(text)
    recording, _, _ = build_recording(plan(flat, FLAT)[0])
    assert recording.get_property("group").tolist() == [0, 0, 1, 1]
    assert _found(flat, FLAT) == []


# ---------------------------------------------------------------------------------------------- what does not fit


def test_no_probe_anywhere(flat: Path) -> None:
    """A recording without positions is an error before the start, which says where a probe may be given."""
    (found,) = _found(flat, FLAT)
    assert (found.code, found.level) == ("geometry", "error")
    assert "probe_path" in found.advice


Write = Callable[[Path], Any]
MISFITS: list[tuple[str, Write, str]] = [
    (
        "beyond the data",
        lambda p: _write_json(p, chanMap=[0, 1, 2, 5]),
        "contacts are on channels 5, but the data has 5",
    ),
    ("counts from 1", lambda p: _write_json(p, chanMap=[2, 3, 4, 5]), "take 1 off each channel"),
    ("too many", lambda p: _write_json(p, **_linear(7)), "the probe has 7 contacts, the data only 5 channels"),
    ("one channel twice", lambda p: _write_json(p, chanMap=[0, 1, 2, 2]), "several contacts are on channel 2"),
    ("one place twice", lambda p: _write_json(p, yc=[0, 20, 20, 40]), "4 channels share 3 positions"),
    ("all at one place", lambda p: _write_json(p, yc=[0, 0, 0, 0]), "all 4 channels have the position"),
    ("mm", lambda p: _write_json(p, yc=[0, 0.02, 0.04, 0.06]), "multiply them by 1000"),
    ("unequal lists", lambda p: _write_json(p, yc=[0, 20]), "must be of one length"),
    ("half a file", lambda p: p.write_text('{"chanMap": [0, 1'), "cannot be read as a probe"),
    ("no file", lambda p: None, "No such file"),
]


def _linear(n: int) -> dict[str, Any]:
    return {"chanMap": list(range(n)), "xc": [0] * n, "yc": [20 * k for k in range(n)], "kcoords": [0] * n, "n_chan": n}


@pytest.mark.parametrize("name,write,said", MISFITS, ids=[name for name, _, _ in MISFITS])
def test_a_probe_that_does_not_fit(name: str, write: Write, said: str, flat: Path, tmp_path: Path) -> None:
    """What is wrong with a probe is told before the start, with its file and what to do."""
    write(tmp_path / "chosen.json")
    (found,) = _found(flat, FLAT.override(probe_path=str(tmp_path / "chosen.json")))
    assert isinstance(found.error, ProbeMisfitError)
    assert (found.code, found.level) == ("probe-misfit", "error")
    assert said in found.message
    assert str(tmp_path / "chosen.json") in found.message
    assert "probe_path" in found.advice


def test_several_probes_beside_a_recording(flat: Path) -> None:
    """Two probe files of one name are not chosen between."""
    for suffix in (".prb", ".json"):
        write_probe(flat.with_name(f"probe{suffix}"), PROBE)
    (found,) = _found(flat, FLAT)
    assert found.code == "probe-misfit"
    assert "choose one with probe_path" in found.message
    assert _found(flat, FLAT.override(probe_path=str(flat.with_name("probe.prb")))) == []


# ------------------------------------------------------------------------------------------------- flat binary


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64", "uint8"])
def test_types_of_flat_binary_files(dtype: str, tmp_path: Path) -> None:
    """Each type is read as what it is, after a header that is skipped."""
    samples = np.arange(1_000).reshape(-1, 4).astype(dtype)
    path = tmp_path / "rec.dat"
    path.write_bytes(bytes(100) + samples.tobytes())
    write_probe(tmp_path / "probe.prb", probe_from_dictionary(PROBE))
    layout = {"binary_fs": FS_HZ, "binary_n_chan": 4, "binary_dtype": dtype, "binary_offset": 100}
    (opened,) = open_files(plan(path, KILOSORT4.override(**layout))[0].source)
    np.testing.assert_array_equal(opened.recording.get_traces(), samples)
    assert opened.recording.dtype == dtype


def test_kilosorts_own_settings_describe_flat_files(flat: Path) -> None:
    """What run_kilosort was given for a file, n_chan_bin and fs, reads it here; our own settings win."""
    write_probe(flat.with_name("probe.json"), PROBE)
    config = resolve_config(None, None, {"kilosort_params": {"fs": FS_HZ, "n_chan_bin": 5}})
    (opened,) = open_files(plan(flat, config)[0].source)
    np.testing.assert_array_equal(opened.recording.get_traces(), SAMPLES[:, :4])
    ours = resolve_config(None, None, {"kilosort_params": {"fs": 1.0, "n_chan_bin": 5}, "binary_fs": FS_HZ})
    assert ours.recording.binary_fs == FS_HZ


def test_a_file_shorter_than_its_header(flat: Path) -> None:
    """A header that is longer than the file leaves nothing, which is told."""
    (found,) = _found(flat, FLAT.override(binary_offset=10**9))
    assert "binary_offset skips 1000000000 of them" in found.message


def test_a_flat_file_is_sorted_by_workers(tmp_path: Path) -> None:
    """Layout and probe travel to the processes that sort, and the result knows its channels and their places."""
    from support import sort_in_subprocess

    from spikelab.simulation import simulate_recording
    from spikelab.spike_sorting import load_results

    truth = simulate_recording("linear", n_channels=4, n_units=2, duration_s=4, peak_uV=(110, 110), seed=1, gain_uV=1.0)
    np.hstack([truth.recording.get_traces(), np.zeros((80_000, 1), "int16")]).tofile(tmp_path / "rec.bin")
    write_probe(tmp_path / "probe.prb", truth.recording.get_probe())
    said = sort_in_subprocess(
        [str(tmp_path / "rec.bin")], sorter="fake", binary_fs=FS_HZ, gain_to_uv=1.0, binary_n_chan=5, n_jobs=1,
        curate_first=False, curate_second=False, create_figures=False,
    )  # fmt: skip
    (record,) = said["report"]["records"]
    assert record["status"] == "success", record["error_message"]
    assert {told["code"] for told in record["warnings"]} >= {"channels-without-contact", "probe-beside"}
    sd = load_results(record["results_folder"])
    np.testing.assert_array_equal(sd.metadata["channel_locations"], truth.recording.get_channel_locations())
    assert sd.N > 0
