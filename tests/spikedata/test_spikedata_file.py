"""The HDF5 file: exact, whole or not there, the same bytes for the same data, and strict when read."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikelab.spikedata import SpikeData
from spikelab.spikedata._columns import escape, unescape
from spikelab.spikedata._seal import seal

numbers = st.one_of(st.booleans(), st.integers(), st.floats())
scalars = st.one_of(
    numbers.filter(lambda x: not isinstance(x, float)).filter(lambda x: abs(x) < 100).map(np.int16),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.booleans().map(np.bool_),
)
dtypes = st.sampled_from(["f4", "f8", "i2", "i8", "u1", "?", "c8"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
leaves = st.one_of(st.none(), numbers, scalars, st.text(), arrays)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
attributes = st.dictionaries(st.text(max_size=5), values, max_size=4)
# One kind of value in a column is what is stored as it is; hypothesis would seldom build one by chance.
columns = st.sampled_from([numbers, st.floats(), st.integers(-9, 9), st.text(), scalars, arrays, st.none(), values])


def round_trip(sd):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        sd.save(path)
        return SpikeData.load(path)


def types_of(value):
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [types_of(item) for item in value]
    return (type(value), value.dtype) if isinstance(value, np.ndarray) else type(value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_everything_comes_back_as_it_was(data):
    """Trains, attributes on all or some units, metadata: equal and of the same types, NaN and None included."""
    train = data.draw(st.lists(st.lists(st.floats(-50, 50), max_size=5), max_size=4))
    entries = [data.draw(attributes) for _ in train]
    for name in data.draw(st.lists(st.text(max_size=3), max_size=3)):
        kind = data.draw(columns)
        for one in entries:
            if data.draw(st.integers(0, 4)):
                one[name] = data.draw(kind)
    sd = SpikeData(train, length=100.0, start_time=-50.0, neuron_attributes=entries, metadata=data.draw(attributes))
    back = round_trip(sd)
    assert back == sd
    assert types_of(back.neuron_attributes) == types_of(sd.neuron_attributes)
    assert types_of(back.metadata) == types_of(sd.metadata)


def example():
    return SpikeData(
        [[1.0, 2.0], [], [3.0, 3.0, 4.0]],
        length=10.0,
        neuron_attributes=[
            {
                "unit_id": 1,
                "snr": 3.0,
                "label": "good",
                "template": np.ones((2, 3), "f4"),
                "spike_amplitudes": np.array([1.0, 2.0]),
            },
            {
                "unit_id": 2,
                "snr": None,
                "label": "µ",
                "template": np.ones((2, 3), "f4"),
                "spike_amplitudes": np.zeros(0),
            },
            {
                "unit_id": 3,
                "snr": np.nan,
                "label": "",
                "template": np.ones((2, 3), "f4"),
                "spike_amplitudes": np.arange(3.0),
                "extra": 1,
            },
        ],
        metadata={
            "fs_Hz": 2e4,
            "path": Path("/a/b"),
            "locations": np.zeros((4, 2)),
            "tuple": (1, 2),
            "deep": {"x": [math.inf]},
        },
    )


def test_the_layout_is_what_the_contract_says(tmp_path):
    """Other programs find times, index, plain columns, ragged columns and JSON where the format puts them."""
    example().save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file.attrs) == {
            "format": "spikelab-spikedata",
            "version": 1,
            "start_time_ms": 0.0,
            "length_ms": 10.0,
        }
        assert file["spikes/times_ms"][()].tolist() == [1.0, 2.0, 3.0, 3.0, 4.0]
        assert file["spikes/index"][()].tolist() == [2, 2, 5]
        assert file["units/unit_id"][()].tolist() == [1, 2, 3]
        assert file["units/label"].asstr()[()].tolist() == ["good", "µ", ""]
        assert file["units/template"].shape == (3, 2, 3)
        assert file["units/spike_amplitudes/data"].shape == (5,)
        assert file["units/spike_amplitudes/index"][()].tolist() == [2, 2, 5]
        assert file["units/extra/units"][()].tolist() == [2]
        text = file["metadata/json"].asstr()[0]
    assert json.loads(text, parse_constant=pytest.fail)["fs_Hz"] == 2e4


def test_tuples_and_paths_become_plain(tmp_path):
    """Tuples come back as lists and paths as text; order of attributes and metadata is kept."""
    example().save(tmp_path / "a.h5")
    back = SpikeData.load(str(tmp_path / "a.h5"))
    assert back.metadata["tuple"] == [1, 2]
    assert back.metadata["path"] == "/a/b"
    assert list(back.metadata) == list(example().metadata)
    assert list(back.neuron_attributes[2]) == list(example().neuron_attributes[2])


def test_equal_data_give_equal_bytes(tmp_path):
    """The same SpikeData saved twice, at different times, and loaded and saved again, is the same file."""
    example().save(tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 counts seconds
    example().save(tmp_path / "b.h5")
    SpikeData.load(tmp_path / "a.h5").save(tmp_path / "c.h5")
    plain = example().replace(metadata=SpikeData.load(tmp_path / "a.h5").metadata)
    plain.save(tmp_path / "d.h5")
    digests = [hashlib.sha256((tmp_path / f"{name}.h5").read_bytes()).hexdigest() for name in "abcd"]
    assert digests[0] == digests[1] == digests[2] == digests[3]


def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path):
    """What cannot be saved is named, and the file that was there stays."""
    path = tmp_path / "a.h5"
    example().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="attribute 'odd': a set cannot be saved"):
        example().set_neuron_attribute("odd", [{1}, {2}, {3}]).save(path)
    with pytest.raises(ValueError, match="metadata: a object cannot be saved"):
        example().replace(metadata={"odd": object()}).save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.h5"]


def test_attributes_that_were_spoilt_in_place_are_not_saved(tmp_path):
    """What could not be loaded again is refused when it is saved."""
    sd = example()
    sd.neuron_attributes[1]["unit_id"] = 1
    with pytest.raises(ValueError, match="unit_id must be different"):
        sd.save(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_a_save_is_flushed_before_it_is_published(tmp_path, monkeypatch):
    """When the disk refuses the flush, the error shows and the old file stays."""
    path = tmp_path / "a.h5"
    path.write_bytes(b"old")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        example().save(path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.h5"]


def test_raw_data_stay_where_they_are(tmp_path):
    """Raw data are not written, and can be attached again."""
    raw = np.zeros((2, 100))
    sd = example().with_raw_data(raw, 10.0)
    sd.save(tmp_path / "a.h5")
    back = SpikeData.load(tmp_path / "a.h5")
    assert back.raw_data is None
    assert back.with_raw_data(raw, 10.0).raw_fs_Hz == 10_000.0


def test_a_missing_file_is_missing(tmp_path):
    """A file that is not there raises FileNotFoundError, not a story about damage."""
    with pytest.raises(FileNotFoundError):
        SpikeData.load(tmp_path / "none.h5")


def change(path, edit):
    example().save(path)
    with h5py.File(path, "r+") as file:
        edit(file)
    seal(path)


def edit_set(link, value):
    def edit(file):
        del file[link]
        file[link] = value

    return edit


EDITS = {
    "other format": lambda f: f.attrs.modify("format", "nwb"),
    "no format": lambda f: f.attrs.__delitem__("format"),
    "format is a number": lambda f: f.attrs.create("format", 5),
    "newer version": lambda f: f.attrs.modify("version", 2),
    "no length": lambda f: f.attrs.__delitem__("length_ms"),
    "length shorter than the spikes": lambda f: f.attrs.modify("length_ms", 1.0),
    "no spikes": lambda f: f.__delitem__("spikes"),
    "no units": lambda f: f.__delitem__("units"),
    "no metadata": lambda f: f.__delitem__("metadata"),
    "index beyond the spikes": edit_set("spikes/index", [2, 2, 6]),
    "index falls": edit_set("spikes/index", [3, 2, 5]),
    "negative index": edit_set("spikes/index", [-1, 2, 5]),
    "column too short": edit_set("units/unit_id", [1, 2]),
    "column without a kind": edit_set("units/unit_id", [1, 2, 3]),
    "times are text": edit_set("spikes/times_ms", "abc"),
    "times contain NaN": edit_set("spikes/times_ms", [1.0, 2.0, np.nan, 3.0, 4.0]),
    "metadata is no JSON": edit_set("metadata/json", "{"),
    "metadata with an unknown tag": edit_set("metadata/json", ['{"$run": "rm"}']),
    "metadata is a list": edit_set("metadata/json", ["[1]"]),
    "partial units outside": edit_set("units/extra/units", [7]),
    "soft link": lambda f: (
        f.move("spikes/times_ms", "times"),
        f["spikes"].__setitem__("times_ms", h5py.SoftLink("/times")),
    ),
    "external link": lambda f: (
        f.__delitem__("units/label") or f.__setitem__("units/label", h5py.ExternalLink("x", "/y"))
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_is_not_right_is_refused(tmp_path, name):
    """A foreign, newer, inconsistent or hostile file raises a ValueError that names the file and the cause."""
    path = tmp_path / "bad.h5"
    change(path, EDITS[name])
    with pytest.raises(ValueError, match=r"bad\.h5 cannot be read") as caught:
        SpikeData.load(path)
    assert caught.value.__cause__ is not None


def test_a_dataset_that_promises_more_than_it_holds_is_refused(tmp_path):
    """A file of a few bytes cannot make the reader fill the memory."""
    path = tmp_path / "bad.h5"

    def edit(file):
        del file["spikes/times_ms"]
        file["spikes"].create_dataset("times_ms", shape=(2**45,), dtype="f8", chunks=(2**20,))

    change(path, edit)
    with pytest.raises(ValueError, match="contiguous"):
        SpikeData.load(path)


def test_a_file_that_was_changed_on_purpose_can_be_loaded(tmp_path):
    """A file edited elsewhere is refused until the reader is told to skip the checksum."""
    path = tmp_path / "a.h5"
    example().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "mine"
    with pytest.raises(ValueError, match="verify=False"):
        SpikeData.load(path)
    assert SpikeData.load(path, verify=False).N == 3


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("texts", [("a\0b", "c"), ("\ud800", ""), ("", "x")])
def test_texts_that_hdf5_would_cut_survive(tmp_path, texts, verify):
    """NUL and lone surrogates inside texts come back."""
    sd = SpikeData([[1.0], [2.0]], length=2.0, neuron_attributes=[{"a": text} for text in texts])
    sd.save(tmp_path / "a.h5")
    assert SpikeData.load(tmp_path / "a.h5", verify=verify) == sd


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_foreign_bytes_are_refused(tmp_path, content):
    """What is no HDF5 raises a ValueError that names the file."""
    path = tmp_path / "bad.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.h5 cannot be read .*: there is no checksum at its end"):
        SpikeData.load(path)


def test_a_truncated_file_is_refused_at_any_length(tmp_path):
    """A file cut anywhere raises ValueError."""
    path = tmp_path / "bad.h5"
    example().save(path)
    content = path.read_bytes()
    for size in range(0, len(content), max(len(content) // 40, 1)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="cannot be read"):
            SpikeData.load(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_single_changed_bit_is_found(tmp_path, data):
    """A byte changed anywhere, also in the spike times, is a ValueError: HDF5 alone would crash, hang or not notice."""
    path = tmp_path / "bad.h5"
    example().save(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        SpikeData.load(path)


@given(st.text())
def test_any_name_becomes_a_link_and_comes_back(name):
    """Slashes, dots, NUL, percent signs and lone surrogates survive as names of attributes."""
    link = escape(name)
    assert unescape(link) == name
    assert "/" not in link
    assert link not in {"", ".", ".."}


@pytest.mark.parametrize("name", ["", ".", "..", "...", "/", "a/b", "%", "%%2E", "%2E", "\0", "\ud800", "a.b", "µV"])
def test_odd_names_survive_a_file(tmp_path, name):
    """Names that HDF5 would misread are stored and found again."""
    sd = SpikeData([[1.0]], length=2.0, neuron_attributes=[{name: 1.5}])
    sd.save(tmp_path / "a.h5")
    assert SpikeData.load(tmp_path / "a.h5") == sd


# ---------------------------------------------------------------- templates that stay in the file


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file with 32 MiB of templates, and what was saved."""
    templates = np.arange(32 * 64 * 4096, dtype="f4").reshape(32, 64, 4096)
    attributes = [{"unit_id": k, "template": templates[k], "spike_amplitudes": np.array([1.0, 2.0])} for k in range(32)]
    sd = SpikeData([[1.0, 2.0]] * 32, length=10.0, neuron_attributes=attributes)
    path = tmp_path_factory.mktemp("large") / "large.h5"
    sd.save(path)
    return path, sd


def test_large_templates_are_read_when_they_are_used(large):
    """Loading and choosing, cutting and relabelling units takes no memory for templates; their values are right."""
    path, sd = large
    tracemalloc.start()
    loaded = SpikeData.load(path)
    part = loaded.subset([5, 3]).subtime(1.5, 10.0).set_neuron_attribute("label", ["a", "b"]).copy()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * 2**20
    template = part.neuron_attributes[0]["template"]
    assert np.array_equal(template, sd.neuron_attributes[5]["template"])
    assert not template.flags.writeable
    assert part.neuron_attributes[1]["spike_amplitudes"].tolist() == [2.0]
    assert loaded == sd


def test_attributes_in_a_file_are_a_dict_like_any_other(large):
    """Whatever Python does with a dict gives arrays, and never what stands for them."""
    path, sd = large
    ours, other = SpikeData.load(path).neuron_attributes[2], sd.neuron_attributes[2]
    ways = [
        {**ours}, dict(ours), ours | {}, {} | ours, dict(ours.items()), dict(zip(ours, ours.values(), strict=True)),
        copy.deepcopy(ours), ForkingPickler.loads(ForkingPickler.dumps(ours)), ours.copy(), dict(**ours),
        {name: ours.get(name) for name in ours}, {name: ours.copy().pop(name) for name in ours},
        pd.DataFrame([ours]).iloc[0].to_dict(),
    ]  # fmt: skip
    for way in ways:
        assert list(way) == list(other)
        assert type(way["template"]) is np.ndarray
        assert np.array_equal(way["template"], other["template"])
    emptied = ours.copy()
    assert [emptied.popitem()[0] for _ in other] == list(other)[::-1]
    assert ours.setdefault("template") is not None
    assert ours.setdefault("new", 5) == ours["new"] == 5
    assert "Later(" not in repr(ours)


def test_what_was_loaded_outlives_its_name(large, tmp_path):
    """Another file under the same name, or none, does not concern what was loaded."""
    path, sd = large
    mine = tmp_path / "mine.h5"
    shutil.copy(path, mine)
    loaded = SpikeData.load(mine)
    example().save(mine)
    assert np.array_equal(loaded.neuron_attributes[7]["template"], sd.neuron_attributes[7]["template"])
    loaded.save(mine)
    assert SpikeData.load(mine) == sd


def test_a_file_that_is_cut_afterwards_is_an_error(large, tmp_path):
    """When somebody cuts the open file, reading a template says so, and the process lives."""
    mine = tmp_path / "mine.h5"
    shutil.copy(large[0], mine)
    loaded = SpikeData.load(mine)
    os.truncate(mine, 10_000)
    with pytest.raises(ValueError, match=r"mine\.h5 has been cut since it was loaded"):
        loaded.neuron_attributes[7]["template"]


# ---------------------------------------------------------------- metadata that are added later


def test_metadata_can_be_added_to_a_file(tmp_path):
    """New entries come in, those of the same name are replaced, and spikes and attributes are those that were there."""
    path = tmp_path / "a.h5"
    example().save(path)
    SpikeData.append_metadata(path, {"surgeon": "A", "fs_Hz": 1e4, "grid": np.eye(2)})
    SpikeData.append_metadata(path, {"surgeon": "B"})
    back, before = SpikeData.load(path), SpikeData.load(path).replace(metadata={})
    assert (back.metadata["surgeon"], back.metadata["fs_Hz"], back.metadata["path"]) == ("B", 1e4, "/a/b")
    assert back.metadata["grid"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert back.metadata["locations"].shape == (4, 2)
    assert before == example().replace(metadata={})
    with h5py.File(path) as file:
        assert file["units/unit_id"][()].tolist() == [1, 2, 3]


def test_metadata_that_cannot_be_added_change_nothing(tmp_path):
    """A value that cannot be saved, a damaged file or none are named, and what is there stays."""
    path = tmp_path / "a.h5"
    with pytest.raises(FileNotFoundError):
        SpikeData.append_metadata(path, {})
    example().save(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="metadata: a set cannot be saved"):
        SpikeData.append_metadata(path, {"odd": {1}})
    assert path.read_bytes() == content
    path.write_bytes(content[:-200])
    with pytest.raises(ValueError, match=r"a\.h5 cannot be read"):
        SpikeData.append_metadata(path, {"fine": 1})
    assert [found.name for found in tmp_path.iterdir()] == ["a.h5"]
