"""Windows, joining, and the epochs of a concatenated recording."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.spikedata import SpikeData

# Multiples of 1/8 ms: sums and differences are exact, so equality can be asked for.
eighths = st.integers(0, 799).map(lambda n: n / 8)
trains = st.lists(st.lists(eighths, max_size=20), min_size=2, max_size=2)


def recording(train, *, length=100.0, start_time=0.0, name="a"):
    return SpikeData(
        [np.array(times, dtype=float) + start_time for times in train],
        length=length,
        start_time=start_time,
        neuron_attributes=[
            {"unit_id": unit, "spike_amplitudes": np.sort(np.array(times, dtype=float)) * 2}
            for unit, times in enumerate(train)
        ],
        metadata={"epoch_name": name, "fs_Hz": 8000.0, "n_samples": round(length * 8)},
    )


@given(trains, eighths, eighths, st.sampled_from([0.0, -250.0]))
def test_cutting_and_joining_gives_the_whole(train, one, other, start_time):
    """Three windows that touch hold every spike once, and joined again they are the recording."""
    sd = recording(train, start_time=start_time)
    cuts = [start_time, *sorted([start_time + one, start_time + other]), sd.end_time]
    parts = [sd.subtime(a, b) for a, b in pairwise(cuts)]
    joined = parts[0].concatenate(parts[1]).concatenate(parts[2])
    assert joined.replace(metadata={}) == sd.replace(metadata={})


@given(trains, trains, st.sampled_from([0.0, 32.5, -16.0]))
def test_splitting_undoes_joining(first, second, start_time):
    """Epochs of a joined recording start at 0 and equal what was joined."""
    a, b = recording(first), recording(second, length=120.0, start_time=start_time, name="b")
    joined = a.concatenate(b)
    assert joined.length == 220.0
    assert joined.metadata["n_samples"] == 1760
    back = joined.split_epochs()
    for epoch, original in zip(back, (a, b), strict=True):
        moved = original.subtime(original.start_time, original.end_time, shift_to=0.0)
        assert epoch.replace(metadata={}) == moved.replace(metadata={})
        assert epoch.metadata["epoch_name"] == original.metadata["epoch_name"]
        assert epoch.metadata["n_samples"] == original.metadata["n_samples"]


@settings(max_examples=40)
@given(trains, st.lists(st.integers(80, 720).map(lambda n: n / 8), min_size=1, max_size=4))
def test_trials_around_events_begin_before_zero(train, events):
    """Windows around events start at a negative time, hold the spikes near the event in its time, and count them."""
    sd = recording(train)
    for event in events:
        trial = sd.subtime(event - 10.0, event + 10.0, shift_to=-10.0)
        assert (trial.start_time, trial.length, trial.end_time) == (-10.0, 20.0, 10.0)
        for unit, times in enumerate(sd.train):
            inside = times[(times >= event - 10.0) & (times < event + 10.0)]
            assert trial.train[unit].tolist() == (inside - event).tolist()
            assert trial.neuron_attributes[unit]["spike_amplitudes"].size == inside.size
        assert trial.raster(2.5).shape == (2, 8)
        assert trial.raster(2.5).sum() == trial.times.size
        units, times = trial.idces_times()
        again = SpikeData.from_idces_times(units, times, N=2, start_time=-10.0, length=20.0)
        assert again == trial.replace(neuron_attributes=None, metadata=None)
        assert trial.subtime(-10.0, 10.0, shift_to=event - 10.0).train[0].tolist() == (
            sd.subtime(event - 10.0, event + 10.0).train[0].tolist()
        )


def test_a_window_is_half_open_except_at_the_very_end():
    """A spike at the end of a window belongs to the next one, unless the recording ends there."""
    sd = SpikeData([[0.0, 5.0, 10.0]], length=10.0)
    assert sd.subtime(0.0, 5.0).train[0].tolist() == [0.0]
    assert sd.subtime(5.0, 10.0).train[0].tolist() == [5.0, 10.0]
    assert sd.subtime(0.0, 10.0) == sd


def test_a_window_shifts_when_asked_to():
    """Times stay as they are, or `start` becomes the time given."""
    sd = SpikeData([[4.0]], length=10.0)
    stay, moved = sd.subtime(3.0, 8.0), sd.subtime(3.0, 8.0, shift_to=-1.0)
    assert (stay.start_time, stay.length, stay.train[0].tolist()) == (3.0, 5.0, [4.0])
    assert (moved.start_time, moved.length, moved.train[0].tolist()) == (-1.0, 5.0, [0.0])


@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_no_rounding_makes_a_window_invalid(start, end, shift_to):
    """Any window of any recording can be cut and shifted: rounded ends do not throw spikes out."""
    start, end = sorted((start, end))
    sd = SpikeData([[start, (start + end) / 2, np.nextafter(end, start)]], start_time=-1e7, length=2e7)
    assert sd.subtime(start, end).length == end - start
    assert sd.subtime(start, end, shift_to=shift_to).start_time == shift_to


@pytest.mark.parametrize("start, end", [(-1.0, 5.0), (5.0, 11.0), (6.0, 5.0), (np.nan, 5.0)])
def test_a_window_outside_the_recording_is_refused(start, end):
    """A window beyond the recording, or turned round, raises with the limits."""
    with pytest.raises(ValueError, match=r"start <= end must lie in \[0.0, 10.0\]"):
        SpikeData([[1.0]], length=10.0).subtime(start, end)


def test_attributes_per_spike_are_cut_with_the_spikes():
    """Amplitudes of a window are those of its spikes."""
    sd = SpikeData([[1.0, 5.0]], length=10.0, neuron_attributes=[{"spike_amplitudes": np.array([10.0, 50.0])}])
    assert sd.subtime(4.0, 6.0).neuron_attributes[0]["spike_amplitudes"].tolist() == [50.0]


def test_only_the_same_units_can_be_joined():
    """A different number or identity of units raises."""
    sd = recording([[1.0], [2.0]])
    with pytest.raises(ValueError, match="same units, found 2 and 1"):
        sd.concatenate(sd.subset([0]))
    with pytest.raises(ValueError, match="unit 0 is 0 in one recording and 1 in the other"):
        sd.concatenate(sd.subset([1, 0]))


def concatenated(**metadata):
    attributes = [
        {
            "unit_id": 3,
            "firing_rate": 9.9,
            "num_spikes": 99,
            "epoch_template": np.arange(8.0).reshape(2, 2, 2),
            "snr": 5.0,
        }
    ]
    chunks = {
        "rec_chunks_ms": [(0.0, 10.0), (10.0, 30.0)],
        "fs_Hz": 1000.0,
        "n_samples": 30,
        "rec_chunks": [(0, 10), (10, 30)],
    }
    return SpikeData([[2.0, 10.0, 25.0]], length=30.0, neuron_attributes=attributes, metadata={**chunks, **metadata})


def test_each_epoch_stands_for_itself():
    """An epoch starts at 0 with its own length, spikes, rate, template and name."""
    first, second = concatenated(rec_chunk_names=["day1", "day2"]).split_epochs()
    assert [part.train[0].tolist() for part in (first, second)] == [[2.0], [0.0, 15.0]]
    assert (first.length, second.length, first.start_time, second.start_time) == (10.0, 20.0, 0.0, 0.0)
    entries = second.neuron_attributes[0]
    assert (entries["unit_id"], entries["firing_rate"], entries["num_spikes"], entries["snr"]) == (3, 100.0, 2, 5.0)
    assert entries["template"].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert "epoch_template" not in entries
    assert second.metadata == {
        "fs_Hz": 1000.0,
        "n_samples": 20,
        "epoch_name": "day2",
        "epoch_index": 1,
        "epoch_start_ms": 10.0,
    }


def test_epochs_without_names_are_numbered():
    """Without rec_chunk_names epochs are called epoch_0, epoch_1, ..."""
    assert [part.metadata["epoch_name"] for part in concatenated().split_epochs()] == ["epoch_0", "epoch_1"]


def test_units_keep_their_place_in_an_epoch_where_they_are_silent():
    """Every epoch has all units, also silent ones."""
    sd = SpikeData([[1.0], [15.0]], length=20.0, metadata={"rec_chunks_ms": np.array([[0.0, 10.0], [10.0, 20.0]])})
    assert [[t.size for t in part.train] for part in sd.split_epochs()] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "metadata, words",
    [
        ({"rec_chunks_ms": None}, "needs metadata"),
        ({"rec_chunks_ms": [1.0, 2.0]}, "list of"),
        ({"rec_chunks_ms": 5}, "list of"),
        ({"rec_chunks_ms": [(0.0, 31.0)]}, r"\[0.0, 30.0\]"),
        ({"rec_chunk_names": ["one"]}, "2 epochs, found 1"),
    ],
)
def test_malformed_epochs_are_named(metadata, words):
    """Missing or malformed spans and names raise a ValueError that says which."""
    with pytest.raises(ValueError, match=words):
        concatenated(**metadata).split_epochs()


def test_a_window_carries_the_epochs_that_it_touches():
    """Cutting a concatenated recording keeps spans and names of what is left, in its own time."""
    part = concatenated(rec_chunk_names=["a", "b"]).subtime(12.0, 20.0, shift_to=0.0)
    assert part.metadata["rec_chunks_ms"] == [(0.0, 8.0)]
    assert part.metadata["rec_chunk_names"] == ["b"]
    assert part.split_epochs()[0].length == 8.0
