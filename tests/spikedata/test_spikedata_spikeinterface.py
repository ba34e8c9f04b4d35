"""To and from SpikeInterface."""

from __future__ import annotations

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording, NumpySorting

from spikelab.spikedata import SpikeData

FS_HZ = 30_000.0


def recording_of(n_samples=3000):
    traces = np.arange(n_samples * 2, dtype="int16").reshape(n_samples, 2)
    recording = NumpyRecording([traces], FS_HZ, channel_ids=["a", "b"])
    recording.set_channel_gains(0.5)
    recording.set_channel_offsets(1.0)
    recording.set_dummy_probe_from_locations(np.array([[0.0, 0.0], [0.0, 20.0]]))
    return recording


def sorting_of(n_segments=1):
    trains = {"u1": np.array([10, 500, 2999]), "u2": np.array([500]), "silent": np.zeros(0, dtype=int)}
    sorting = NumpySorting.from_unit_dict([trains] * n_segments, FS_HZ)
    sorting.set_property("quality", np.array(["good", "mua", "noise"]))
    sorting.set_property("depth", np.array([1.0, 2.0, 3.0]))
    return sorting


def test_a_sorting_comes_in_with_its_properties():
    """Times are samples over the rate; ids, properties and silent units come along."""
    sd = SpikeData.from_sorting(sorting_of())
    assert sd.N == 3
    np.testing.assert_allclose(sd.train[0], np.array([10, 500, 2999]) / 30.0)
    assert sd.neuron_attributes[1] == {"unit_id": "u2", "quality": "mua", "depth": 2.0}
    assert sd.length == pytest.approx(2999 / 30.0)


def test_a_recording_gives_length_and_traces():
    """With a recording the length is the recording's, and traces come in uV, gain applied once, when read."""
    sd = SpikeData.from_sorting(sorting_of(), recording_of())
    assert sd.length == 100.0
    assert sd.metadata["fs_Hz"] == FS_HZ
    assert sd.metadata["n_samples"] == 3000
    assert sd.metadata["channel_ids"] == ["a", "b"]
    assert sd.metadata["channel_locations"].tolist() == [[0.0, 0.0], [0.0, 20.0]]
    # Sample 500 of channel "b" holds 1001 counts; 1001 * 0.5 + 1 uV.
    assert sd.get_waveform_traces(1)[0, 30].tolist() == [501.0, 501.5]
    part = sd.subtime(10.0, 50.0, shift_to=0.0)
    assert part.get_waveform_traces(1, channels=[1])[0, 30].tolist() == [501.5]


def test_a_registered_recording_gives_the_length():
    """A sorting that knows its recording has that recording's length."""
    sorting = sorting_of()
    sorting.register_recording(recording_of(6000))
    assert SpikeData.from_sorting(sorting).length == 200.0


def test_several_segments_or_rates_are_refused():
    """Segments must be joined first, and both must have one rate."""
    with pytest.raises(ValueError, match="sorting must have one segment, found 2"):
        SpikeData.from_sorting(sorting_of(n_segments=2))
    other = NumpyRecording([np.zeros((10, 1), dtype="int16")], 10_000.0)
    with pytest.raises(ValueError, match="rate"):
        SpikeData.from_sorting(sorting_of(), other)


def test_a_sorting_survives_the_way_there_and_back():
    """to_sorting(from_sorting(x)) has the same samples, ids and properties, coincident spikes included."""
    sorting = sorting_of()
    back = SpikeData.from_sorting(sorting).to_sorting(FS_HZ)
    assert list(back.unit_ids) == ["u1", "u2", "silent"]
    for unit in sorting.unit_ids:
        assert back.get_unit_spike_train(unit).tolist() == sorting.get_unit_spike_train(unit).tolist()
    assert back.get_property("quality").tolist() == ["good", "mua", "noise"]


def test_times_count_from_the_start():
    """A recording that starts at a negative time has its first sample there."""
    sd = SpikeData([[-10.0, -9.0]], start_time=-10.0, length=20.0)
    assert sd.to_sorting(1000.0).get_unit_spike_train(0).tolist() == [0, 1]


@pytest.mark.parametrize("attributes", [None, [{"unit_id": 5}, {"unit_id": "5"}], [{"unit_id": 5}, {}]])
def test_units_without_names_of_their_own_are_numbered(attributes):
    """Ids that are missing or repeated are replaced by indices."""
    sd = SpikeData([[1.0], [1.0]], length=5.0, neuron_attributes=attributes)
    assert list(sd.to_sorting(1000.0).unit_ids) == [0, 1]


def test_only_what_fits_becomes_a_property():
    """Attributes that some units lack, or that have no common type, are left out."""
    attributes = [{"a": 1.0, "b": 1, "c": {"x": 1}}, {"a": 2.0, "c": {"x": 2}}]
    sorting = SpikeData([[1.0], [2.0]], length=5.0, neuron_attributes=attributes).to_sorting(1000.0)
    assert sorting.get_property("a").tolist() == [1.0, 2.0]
    assert not {"b", "c"} & set(sorting.get_property_keys())


def test_a_rate_must_be_positive():
    """A rate of zero or NaN raises."""
    for fs_Hz in (0.0, float("nan")):
        with pytest.raises(ValueError, match="fs_Hz"):
            SpikeData([[1.0]]).to_sorting(fs_Hz)
