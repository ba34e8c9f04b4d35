"""Files of `write_maxwell` are read by SpikeInterface's own reader to the sample."""

import h5py
import numpy as np
import pytest
import spikeinterface.core as si
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeinterface.extractors import read_maxwell

from spikelab.simulation import make_probe, simulate_recording, write_maxwell

LAYOUTS = ["20190530", "20160704"]
GAIN_UV = 6.294


def simulate(seed=0, n_channels=16, **overrides):
    scale = {"gain_uV": GAIN_UV, "offset_uV": -512 * GAIN_UV, "dtype": "uint16"}
    arguments = {"n_channels": n_channels, "duration_s": 1.0, "seed": seed, **scale, **overrides}
    return simulate_recording("mea", **arguments).recording


def recording_of(samples, *, gains_uV=GAIN_UV, offsets_uV=0.0, fs_Hz=20_000.0, probe=True, channel_ids=None):
    recording = si.NumpyRecording([samples], fs_Hz, channel_ids=channel_ids)
    recording.set_channel_gains(gains_uV)
    recording.set_channel_offsets(offsets_uV)
    if probe:
        recording.set_probe(make_probe("linear", samples.shape[1]))
    return recording


def ramp(dtype="uint16", n_samples=100, n_channels=4, first=0):
    return (first + np.arange(n_samples * n_channels) % 900).reshape(n_samples, n_channels).astype(dtype)


def read(path, stream_id=None, **kwargs):
    return read_maxwell(path, stream_id=stream_id, install_maxwell_plugin=False, **kwargs)


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_recording_reads_back_to_the_sample(tmp_path, layout):
    """A simulated Maxwell recording reads back equal in samples, gain, rate and positions."""
    recording = simulate()
    path = write_maxwell(tmp_path / "one.raw.h5", recording, layout=layout)
    loaded = read(path)
    assert loaded.get_dtype() == np.dtype("uint16")
    assert loaded.get_sampling_frequency() == 20_000
    np.testing.assert_array_equal(loaded.get_traces(), recording.get_traces())
    np.testing.assert_allclose(loaded.get_channel_gains(), GAIN_UV, rtol=1e-12)
    np.testing.assert_array_equal(loaded.get_channel_locations(), recording.get_channel_locations())
    assert list(loaded.channel_ids) == list(recording.channel_ids)


def test_two_wells_are_two_streams(tmp_path):
    """Two wells of different lengths and channels read back as two streams, each to the sample."""
    wells = {"well000": simulate(1), "well003": simulate(2, n_channels=8, duration_s=0.7)}
    path = write_maxwell(tmp_path / "two.raw.h5", wells)
    for name, recording in wells.items():
        np.testing.assert_array_equal(read(path, stream_id=name).get_traces(), recording.get_traces())
    with pytest.raises(ValueError, match="stream_id"):
        read(path)


def test_two_recordings_of_a_well_read_back_by_name(tmp_path):
    """A file with two recordings of one well reads back by recording name."""
    recordings = {"rec0000": simulate(1, duration_s=0.5), "rec0001": simulate(2, duration_s=0.5)}
    path = write_maxwell(
        tmp_path / "recs.raw.h5", {f"well000/{name}": recording for name, recording in recordings.items()}
    )
    for name, recording in recordings.items():
        loaded = read(path, stream_id="well000", rec_name=name)
        np.testing.assert_array_equal(loaded.get_traces(), recording.get_traces())


def test_recording_name_is_kept(tmp_path):
    """recording_name names the recording of every well whose key has none."""
    path = write_maxwell(tmp_path / "named.raw.h5", {"well001": simulate(duration_s=0.5)}, recording_name="rec0007")
    with h5py.File(path) as file:
        assert list(file["wells/well001"]) == ["rec0007"]
    assert read(path, rec_name="rec0007").get_num_channels() == 16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_and_electrodes_are_kept(tmp_path, layout):
    """Channel ids that are numbers and the electrode property read back as they were."""
    recording = recording_of(ramp(), channel_ids=["5", "8", "13", "1020"])
    recording.set_property("electrode", [220, 221, 440, 26_399])
    loaded = read(write_maxwell(tmp_path / "ids.raw.h5", recording, layout=layout))
    assert list(loaded.channel_ids) == ["5", "8", "13", "1020"]
    assert list(loaded.get_property("electrode")) == [220, 221, 440, 26_399]


def test_ids_that_are_no_numbers_become_numbers(tmp_path):
    """Channel ids that the format cannot hold become 0, 1, ... and the electrodes follow."""
    path = write_maxwell(tmp_path / "names.raw.h5", recording_of(ramp(), channel_ids=["a", "b", "c", "d"]))
    assert list(read(path).channel_ids) == ["0", "1", "2", "3"]
    assert list(read(path).get_property("electrode")) == [0, 1, 2, 3]


def test_other_rates_are_kept_by_the_new_layout(tmp_path):
    """The new layout keeps a rate of 10 kHz."""
    path = write_maxwell(tmp_path / "slow.raw.h5", recording_of(ramp(), fs_Hz=10_000.0))
    assert read(path).get_sampling_frequency() == 10_000


def test_signed_samples_are_centred_on_512(tmp_path):
    """Signed samples are stored 512 steps higher, so voltages around the middle are unchanged."""
    samples = ramp("int16", first=-400)
    path = write_maxwell(tmp_path / "signed.raw.h5", recording_of(samples))
    np.testing.assert_array_equal(read(path).get_traces(), samples + 512)


def test_offsets_move_zero_volts_to_512(tmp_path):
    """Samples with an offset of whole steps, one per channel, are shifted so that 0 uV is stored as 512."""
    steps = np.array([0, 12, -30, 512])
    zero_volts = np.tile(-steps, (10, 1)).astype("int16")
    path = write_maxwell(tmp_path / "offset.raw.h5", recording_of(zero_volts, offsets_uV=steps * GAIN_UV))
    np.testing.assert_array_equal(read(path).get_traces(), 512)


def test_a_read_file_is_written_as_it_was(tmp_path):
    """Writing what was read from a Maxwell file gives the same samples, however often."""
    once = write_maxwell(tmp_path / "once.raw.h5", simulate(duration_s=0.5))
    twice = write_maxwell(tmp_path / "twice.raw.h5", read(once))
    np.testing.assert_array_equal(read(twice).get_traces(), read(once).get_traces())


def test_many_blocks_read_back(tmp_path, monkeypatch):
    """A recording of many blocks, the last one short, reads back to the sample."""
    monkeypatch.setattr("spikelab.simulation.maxwell._CHUNK_VALUES", 4 * 64)
    monkeypatch.setattr("spikelab.simulation.maxwell._BLOCK_VALUES", 4 * 150)
    samples = ramp(n_samples=1_001)
    path = write_maxwell(tmp_path / "blocks.raw.h5", recording_of(samples))
    np.testing.assert_array_equal(read(path).get_traces(), samples)


def test_blocks_are_never_the_whole_recording(tmp_path, monkeypatch):
    """The writer asks the recording for one block at a time."""
    monkeypatch.setattr("spikelab.simulation.maxwell._CHUNK_VALUES", 4 * 64)
    monkeypatch.setattr("spikelab.simulation.maxwell._BLOCK_VALUES", 4 * 128)
    recording, asked = recording_of(ramp(n_samples=1_000)), []
    get_traces = recording.get_traces
    monkeypatch.setattr(
        recording,
        "get_traces",
        lambda **kw: asked.append(kw["end_frame"] - kw["start_frame"]) or get_traces(**kw),
    )
    write_maxwell(tmp_path / "lazy.raw.h5", recording)
    assert sum(asked) == 1_000
    assert max(asked) == 128


def test_the_layouts_have_the_datasets_of_real_files(tmp_path):
    """Both layouts have the version, settings, mapping and chunked uint16 samples where readers look."""
    new = write_maxwell(tmp_path / "new.raw.h5", recording_of(ramp()))
    old = write_maxwell(tmp_path / "old.raw.h5", recording_of(ramp()), layout="20160704")
    with h5py.File(new) as file:
        well = file["wells/well000/rec0000"]
        assert file["version"][0] == b"20190530"
        assert well["settings/lsb"][0] == pytest.approx(GAIN_UV * 1e-6)
        assert well["settings/mapping"].dtype.names == ("channel", "electrode", "x", "y")
        assert well["groups/routed/raw"].shape == (4, 100)
        assert well["groups/routed/raw"].chunks is not None
        assert well["groups/routed/raw"].dtype == np.dtype("<u2")
    with h5py.File(old) as file:
        assert file["version"][0] == b"20160704"
        assert file["settings/lsb"][0] == pytest.approx(GAIN_UV * 1e-6)
        assert file["sig"].shape == (4, 100)
        assert file["mapping"].shape == (4,)


def without_gain():
    recording = si.NumpyRecording([ramp()], 20_000.0)
    recording.set_probe(make_probe("linear", 4))
    return recording


def two_segments():
    return si.append_recordings([recording_of(ramp()), recording_of(ramp())])


def shared_positions():
    recording = recording_of(ramp())
    recording.get_channel_locations = lambda axes: np.zeros((4, 2))
    return recording


REFUSED = {
    "unequal gains": (lambda: recording_of(ramp(), gains_uV=[1, 1, 2, 1]), "one gain.*from 1 to 2 uV"),
    "no gain": (without_gain, "no channel gain"),
    "negative gain": (lambda: recording_of(ramp(), gains_uV=-1.0), "gain above 0"),
    "half a step of offset": (
        lambda: recording_of(ramp("int16"), offsets_uV=GAIN_UV / 2),
        "whole number of steps",
    ),
    "float samples": (lambda: recording_of(ramp("float32")), "integer samples.*float32"),
    "no probe": (lambda: recording_of(ramp(), probe=False), "no probe"),
    "two segments": (two_segments, "one segment, found 2"),
    "no samples": (lambda: recording_of(ramp(n_samples=0)), "no samples"),
    "shared positions": (shared_positions, "position of its own"),
    "below 0": (lambda: recording_of(ramp("int16", first=-513)), "0 to 1023.*-1 to"),
    "above 1023": (lambda: recording_of(ramp(first=1_000)), "0 to 1023.*1000 to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_format_cannot_hold_is_refused(tmp_path, name):
    """A recording that the format cannot hold raises ValueError and leaves no file at all."""
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        write_maxwell(tmp_path / "bad.raw.h5", make())
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "wells, options, message",
    [
        ([], {}, "wells is empty"),
        (["plate1"], {}, "'plate1'"),
        (["well000/first"], {}, "'well000/first'"),
        (["well000", "well000/rec0000"], {}, "well000/rec0000 was given twice"),
        (["well000"], {"layout": "20200101"}, "'20190530' or '20160704'"),
        (["well000"], {"recording_name": "first"}, "'first'"),
        (["well000", "well001"], {"layout": "20160704"}, "holds one recording, but 2"),
    ],
)
def test_wrong_names_and_layouts_are_refused(tmp_path, wells, options, message):
    """Names and layouts that no Maxwell file has raise ValueError and leave no file at all."""
    with pytest.raises(ValueError, match=message):
        write_maxwell(tmp_path / "bad.raw.h5", {name: recording_of(ramp()) for name in wells}, **options)
    assert leftovers(tmp_path) == []


def test_the_old_layout_refuses_other_rates(tmp_path):
    """The old layout, always read at 20 kHz, refuses a recording of 10 kHz."""
    with pytest.raises(ValueError, match="10000 Hz"):
        write_maxwell(tmp_path / "bad.raw.h5", recording_of(ramp(), fs_Hz=10_000.0), layout="20160704")


def test_a_missing_folder_is_named(tmp_path):
    """Writing into a folder that does not exist says so."""
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        write_maxwell(tmp_path / "nowhere" / "a.raw.h5", recording_of(ramp()))


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file(tmp_path, failure):
    """When the source fails halfway, the old file is untouched and nothing is left beside it."""
    path = write_maxwell(tmp_path / "a.raw.h5", recording_of(ramp()))
    before = path.read_bytes()
    broken = recording_of(ramp("uint16", first=50))

    def fail(**_):
        raise failure

    broken.get_traces = fail
    with pytest.raises(failure):
        write_maxwell(path, {"well000": recording_of(ramp()), "well001": broken})
    assert path.read_bytes() == before
    assert leftovers(tmp_path) == ["a.raw.h5"]


def test_an_existing_file_is_replaced(tmp_path):
    """Writing over a file gives the new recording and nothing else."""
    path = write_maxwell(tmp_path / "a.raw.h5", recording_of(ramp()))
    write_maxwell(path, recording_of(ramp(first=7)))
    np.testing.assert_array_equal(read(path).get_traces(), ramp(first=7))
    assert leftovers(tmp_path) == ["a.raw.h5"]


@settings(max_examples=15, deadline=None)
@given(
    n_samples=st.integers(1, 60),
    n_channels=st.integers(1, 5),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 99),
)
def test_any_ten_bit_samples_survive(tmp_path_factory, n_samples, n_channels, layout, seed):
    """Whatever the shape, 10-bit samples read back as they were written."""
    samples = np.random.default_rng(seed).integers(0, 1024, (n_samples, n_channels)).astype("uint16")
    path = tmp_path_factory.mktemp("any") / "a.raw.h5"
    write_maxwell(path, recording_of(samples), layout=layout)
    np.testing.assert_array_equal(read(path).get_traces(), samples)
