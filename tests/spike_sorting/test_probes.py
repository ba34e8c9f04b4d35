"""Probes keep their contacts from one format to the next, and what does not fit is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import probeinterface
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import REPOSITORY

from spikelab.simulation import make_probe, simulate_recording
from spikelab.spike_sorting.probes.dictionary import (
    check_probe,
    probe_dictionary,
    probe_from_dictionary,
)
from spikelab.spike_sorting.probes.files import read_probe, write_probe

FORMATS = [("a.prb", False), ("a.mat", False), ("a.json", False), ("a.json", True)]
IDS = ["prb", "mat", "kilosort json", "probeinterface json"]
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dictionary(n_columns: int = 1, n_rows: int = 4, n_shanks: int = 1, channels: Any = None) -> dict[str, Any]:
    shank, rest = np.divmod(np.arange(n_columns * n_rows * n_shanks), n_columns * n_rows)
    row, column = np.divmod(rest, n_columns)
    return {
        "chanMap": np.arange(rest.size) if channels is None else np.asarray(channels),
        "xc": 16.5 * column + 250.0 * shank,
        "yc": 20.1 * row,
        "kcoords": shank,
        "n_chan": rest.size,
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two dictionaries have the same contacts on the same channels, whatever their order."""
    orders = [np.argsort(probe["chanMap"]) for probe in (one, other)]
    for name in ("chanMap", "xc", "yc", "kcoords"):
        values = [np.asarray(probe[name], np.float32)[order] for probe, order in zip((one, other), orders, strict=True)]
        np.testing.assert_array_equal(*values, err_msg=name)


@st.composite
def dictionaries(draw: st.DrawFn) -> dict[str, Any]:
    """1-D, 2-D and multi-shank probes of which any channels are used, in any order."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4)))
    n_contacts = int(np.prod(shape))
    channels = draw(st.permutations(range(n_contacts + draw(st.integers(0, 5)))))
    made = dictionary(*shape, channels=channels[:n_contacts])
    return {**made, "xc": made["xc"] + draw(st.floats(-1e4, 1e4, width=32)), "n_chan": len(channels)}


# -------------------------------------------------------------------------------------------------- there and back


@FEW
@given(made=dictionaries())
def test_a_dictionary_survives_probeinterface(made):
    """Kilosort's dictionary, as a probe and back, has its contacts, channels and shanks."""
    same(made, probe_dictionary(probe_from_dictionary(made)))


@pytest.mark.parametrize("name,probeinterface_json", FORMATS, ids=IDS)
@FEW
@given(made=dictionaries())
def test_a_probe_survives_each_format(tmp_path, name, probeinterface_json, made):
    """What is written is read back: contacts, channels and shanks, of any 1-D, 2-D and multi-shank probe."""
    write_probe(tmp_path / name, made, probeinterface=probeinterface_json)
    same(made, probe_dictionary(read_probe(tmp_path / name)))


@pytest.mark.parametrize("name", ["a.prb", "a.mat", "a.json"])
@FEW
@given(made=dictionaries())
def test_kilosort_reads_what_we_write(tmp_path, name, made):
    """Kilosort's own reader finds the same probe in our files."""
    io = pytest.importorskip("kilosort.io")
    write_probe(tmp_path / name, made)
    same(made, io.load_probe(tmp_path / name))


@FEW
@given(made=dictionaries())
def test_we_read_what_kilosort_writes(tmp_path, made):
    """A .json of Kilosort's is read."""
    io = pytest.importorskip("kilosort.io")
    io.save_probe(made, tmp_path / "a.json")
    same(made, probe_dictionary(read_probe(tmp_path / "a.json")))


def test_probeinterface_reads_our_prb(tmp_path):
    """Other programs that read .prb find the same positions in ours."""
    made = dictionary(2, 3, 2)
    write_probe(tmp_path / "a.prb", made)
    same(made, probe_dictionary(probeinterface.read_prb(tmp_path / "a.prb")))


def test_we_read_the_prb_of_probeinterface(tmp_path):
    """A .prb that probeinterface writes is read, with whatever numpy prints for its numbers."""
    group = probe_from_dictionary(dictionary(2, 3, 2))
    probeinterface.write_prb(tmp_path / "a.prb", group, group_mode="by_shank")
    same(dictionary(2, 3, 2), probe_dictionary(read_probe(tmp_path / "a.prb")))


@pytest.mark.parametrize("layout", ["mea", "neuropixels1", "neuropixels2", "linear", "tetrode"])
@pytest.mark.parametrize("name,probeinterface_json", FORMATS, ids=IDS)
def test_a_recording_gets_its_probe_back(tmp_path, layout, name, probeinterface_json):
    """The probe of a recording, through a file and attached again, is the same to Kilosort."""
    recording = simulate_recording(layout, duration_s=0.1).recording
    write_probe(tmp_path / name, recording, probeinterface=probeinterface_json)
    again = recording.clone()
    again.set_probegroup(read_probe(tmp_path / name))
    same(probe_dictionary(recording), probe_dictionary(again))
    assert check_probe(again, recording.get_num_channels()) == []


def test_tetrodes_at_one_place_stay_apart(tmp_path):
    """Shanks that are described at one place, as tetrodes often are, keep their contacts and their numbers."""
    made = dictionary(2, 2, 3)
    made["xc"] = made["xc"] - 250.0 * made["kcoords"]
    write_probe(tmp_path / "a.prb", made)
    same(made, probe_dictionary(read_probe(tmp_path / "a.prb")))


def test_contacts_without_a_channel_are_left_out(tmp_path):
    """Contacts that are not wired, and sites that a .mat calls disconnected, are no part of what is sorted."""
    import scipy.io

    probe = make_probe("linear", 4)
    probe.set_device_channel_indices([2, -1, 0, 1])
    assert probe_dictionary(probe)["yc"].tolist() == [100, 150, 0]

    sites = {"xcoords": [0, 0, 0], "ycoords": [0, 50, 100], "chanMap": [1, 2, 3], "connected": [True, False, True]}
    scipy.io.savemat(tmp_path / "a.mat", {name: np.reshape(values, (-1, 1)) for name, values in sites.items()})
    found = probe_dictionary(read_probe(tmp_path / "a.mat"))
    assert (found["chanMap"].tolist(), found["yc"].tolist()) == ([0, 2], [0, 100])


def test_matlab_files_of_version_7_3_are_read(tmp_path):
    """Newer .mat files, which are HDF5, are read like older ones."""
    import h5py

    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        for name, values in {"xcoords": [0, 0], "ycoords": [0, 50], "chanMap": [1, 2], "kcoords": [1, 1]}.items():
            file[name] = np.reshape(values, (1, -1)).astype(float)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0x00, 0x02]) + b"IM"
    with (tmp_path / "a.mat").open("r+b") as file:
        file.write(header)
    assert probe_dictionary(read_probe(tmp_path / "a.mat"))["yc"].tolist() == [0, 50]


def test_mm_that_say_so_become_um():
    """A probe whose unit is known to be mm is converted, not suspected."""
    probe = probeinterface.Probe(ndim=2, si_units="mm")
    probe.set_contacts(positions=[[0, 0], [0, 0.05]])
    probe.set_device_channel_indices([0, 1])
    assert probe_dictionary(probe)["yc"].tolist() == [0, 50]


# ---------------------------------------------------------------------------------------------------- what is read

PRB = """
total_nb_channels = 8
radius = 100
channel_groups = {
    0: {
        'channels': list(range(2)) ,
        'graph': [],
        'geometry': {0: (0, 0), 1: [0.0, 2 * 20]},
    },
    1: {'channels': [np.int64(2), 3], 'geometry': {2: [100, -10.], 3: [100, 60 / 2]}},
}
"""


def test_a_prb_of_the_usual_kind_is_read(tmp_path):
    """Ranges, arithmetic, tuples and what numpy prints are understood, and groups are shanks."""
    (tmp_path / "a.prb").write_text(PRB)
    found = probe_dictionary(read_probe(tmp_path / "a.prb"))
    assert found["chanMap"].tolist() == [0, 1, 2, 3]
    assert found["yc"].tolist() == [0, 40, -10, 30]
    assert found["kcoords"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("names,shanks", [(("10", "2"), [1, 0]), (("'b'", "'a'"), [0, 1])])
def test_groups_of_a_prb_are_shanks_in_the_order_of_their_numbers(tmp_path, names, shanks):
    """Group 2 comes before group 10, as for Kilosort, whatever the file's order; names keep the file's order."""
    groups = [f"{name}: {{'channels': [{k}], 'geometry': {{{k}: [0, {50 * k}]}}}}" for k, name in enumerate(names)]
    (tmp_path / "a.prb").write_text(f"channel_groups = {{{', '.join(groups)}}}")
    assert probe_dictionary(read_probe(tmp_path / "a.prb"))["kcoords"].tolist() == shanks


@pytest.mark.parametrize(
    "text,said",
    [
        ("import os\nchannel_groups = {0: {'channels': os.listdir('.')}}", "is not run"),
        ("channel_groups = {0: {'channels': [c for c in range(4)]}}", "is not run"),
        ("channel_groups = {0: {'channels': range(10**9)}}", "is not run"),
        ("channel_groups = {0: {'channels': range(1000000000)}}", "longer than any probe"),
        ("channel_groups = {0: {'channels': [0], 'geometry': {}}}", "channel 0 of group 0 has no position"),
        ("channel_groups = {0: {'channels': [0], 'geometry': {0: [1, 2, 3]}}}", "must be [x, y]"),
        ("channel_groups = {0: {'channels': [0], 'geometry': {0: [1, 2 / 0]}}}", "division by zero"),
        ("channel_groups = {0: {}}", "no 'channels'"),
        ("channel_groups = {}", "no contact"),
        ("groups = {}", "no channel_groups"),
        ("channel_groups = {", "not of the format"),
    ],
)
def test_a_prb_is_never_run(tmp_path, text, said):
    """Code in a probe file, and a file that is none, end as an error that names the file and what to do."""
    (tmp_path / "a.prb").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.prb.*{re.escape(said)}"):
        read_probe(tmp_path / "a.prb")


@pytest.mark.parametrize(
    "name,text,said",
    [
        ("a.json", "[1]", "neither Kilosort's"),
        ("a.json", '{"chanMap": [0], "xc": [0]}', "yc is missing"),
        ("a.json", '{"chanMap": [0, 1], "xc": [0], "yc": [0, 1]}', "one length"),
        ("a.json", '{"chanMap": [0.5], "xc": [0], "yc": [0]}', "whole numbers"),
        ("a.json", '{"chanMap": [[0]], "xc": [0], "yc": [0]}', "plain list"),
        ("a.json", "{", "cannot be read"),
        ("a.mat", "garbage", "cannot be read"),
        ("a.csv", "", ".prb, .mat, .json"),
    ],
)
def test_what_is_no_probe_is_refused(tmp_path, name, text, said):
    """A file of another format, or without what a probe needs, is an error that names it."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        read_probe(tmp_path / name)


@pytest.mark.parametrize("name,probeinterface_json", FORMATS, ids=IDS)
def test_a_file_cut_short_is_told(tmp_path, name, probeinterface_json):
    """Wherever a file is cut, it is refused, or what was cut is only what ends a line."""
    made = dictionary(1, 4, 2)
    write_probe(tmp_path / name, made, probeinterface=probeinterface_json)
    content = (tmp_path / name).read_bytes()
    for left in range(0, len(content), 37):
        (tmp_path / name).write_bytes(content[:left])
        try:
            found = read_probe(tmp_path / name)
        except ValueError:
            continue
        same(made, probe_dictionary(found))


@pytest.mark.parametrize("name,pi", [("a.csv", False), ("a.prb", True)])
def test_an_ending_that_says_no_format_is_refused(tmp_path, name, pi):
    """The ending of the file says its format; another one is an error, and no file."""
    with pytest.raises(ValueError, match="ends in"):
        write_probe(tmp_path / name, dictionary(), probeinterface=pi)
    assert not list(tmp_path.iterdir())


def test_nothing_replaces_a_file_but_a_whole_probe(tmp_path):
    """A probe that contradicts itself is refused, and the file that was there stays."""
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="channel 1"):
        write_probe(path, dictionary(channels=[0, 1, 1, 2]))
    assert path.read_text() == "old"


def test_the_json_is_kilosorts(tmp_path):
    """Kilosort's .json has the five names that its own has, and plain numbers."""
    write_probe(tmp_path / "a.json", make_probe("tetrode"))
    assert set(json.loads((tmp_path / "a.json").read_text())) == {"chanMap", "xc", "yc", "kcoords", "n_chan"}


# -------------------------------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    "change,n_channels,said",
    [
        ({"chanMap": [1, 2, 3, 4]}, 4, "channels 4, but the data has 4, which count from 0: take 1 off"),
        ({}, 3, "4 contacts, the data only 3 channels"),
        ({"chanMap": [0, 1, 1, 3]}, 4, "several contacts are on channel 1"),
        ({"chanMap": [-1, 1, 2, 3]}, 4, "count from 0, got -1"),
        ({"yc": [0, 20, 20, 40]}, 4, "4 channels share 3 positions"),
        ({"yc": [0, 20, np.nan, 40]}, 4, "1 of 4 channels have no position"),
        ({"yc": [0, 0.02, 0.04, 0.06]}, 4, "0.02 um apart; positions must be in um, and they look like mm"),
        ({"yc": [0, 2e4, 4e4, 6e4]}, 4, "they look like nm or pixels"),
    ],
)
def test_what_does_not_fit_the_recording_is_told(change, n_channels, said):
    """Count, channels beyond the data, shared channels and positions, and a wrong unit are each named."""
    wrong = {**dictionary(), **{name: np.array(values) for name, values in change.items()}}
    with pytest.raises(ValueError, match=re.escape(said)):
        check_probe(wrong, n_channels)


def test_all_that_does_not_fit_is_told_at_once():
    """Several mistakes are in one message."""
    wrong = {**dictionary(channels=[0, 5, 5, 9]), "yc": np.zeros(4)}
    with pytest.raises(ValueError, match=r"channel 5;.*all 4 channels have the position.*;.*5, 5, 9"):
        check_probe(wrong, 4)


def test_channels_without_a_contact_are_remarked_on():
    """A channel that the probe does not have, such as one for synchronisation, is named and no error."""
    (remark,) = check_probe(dictionary(), 6)
    assert remark == "2 of 6 channels have no contact and are not sorted: 4, 5"


def test_a_probe_without_channels_is_told_how_to_get_them():
    """A probe of which nobody said which channel is where is refused, with what to call."""
    probe = probeinterface.generate_linear_probe(4)
    with pytest.raises(ValueError, match="set_device_channel_indices"):
        probe_dictionary(probe)


def test_something_else_is_no_probe():
    """An object that is neither a recording nor a probe is named."""
    with pytest.raises(TypeError, match="expected a recording, a probe"):
        probe_dictionary(Path("a.prb"))


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    """What docs/kilosort4.md shows of probe files works as printed."""
    page = (REPOSITORY / "docs" / "kilosort4.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "write_probe" in block)
    monkeypatch.chdir(tmp_path)
    write_probe("probe.prb", dictionary(n_rows=2))
    exec(example, {"recording": simulate_recording("linear", n_channels=2, duration_s=0.1).recording})
    assert probe_dictionary(read_probe("probe.json"))["yc"].tolist() == [0, 20]
