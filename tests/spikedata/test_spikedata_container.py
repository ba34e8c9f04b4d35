"""SpikeData as a container: what it accepts, what it gives back, and that nothing leaks between copies."""

from __future__ import annotations

import copy
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.spikedata import SpikeData

# Multiples of 1/8 ms: sums and differences are exact, so equality can be asked for.
grid_times = st.lists(st.integers(0, 800).map(lambda n: n / 8), max_size=30)
trains = st.lists(grid_times, max_size=6)


def make(*, n_units=3, **parts):
    train = [np.arange(1.0, 10.0 * (unit + 1), 7.0) for unit in range(n_units)]
    attributes = [{"unit_id": 10 + unit, "x": 1.0 * unit, "y": 2.0, "label": "ab"[unit % 2]} for unit in range(n_units)]
    return SpikeData(
        train, **{"length": 100.0, "neuron_attributes": attributes, "metadata": {"fs_Hz": 20_000.0}, **parts}
    )


def test_trains_are_sorted_and_the_input_stays_as_it_was():
    """Unsorted times come out ascending, and the caller's array is neither changed nor shared."""
    given_times = np.array([3.0, 1.0, 2.0])
    sd = SpikeData([given_times], length=5.0)
    given_times[0] = 99.0
    assert sd.train[0].tolist() == [1.0, 2.0, 3.0]


def test_attributes_per_spike_follow_the_sorting():
    """An array named spike_* of the train's length is reordered with the spikes; any other array is not."""
    attributes = [{"spike_amplitudes": np.array([30.0, 10.0, 20.0]), "curve": np.array([3.0, 1.0, 2.0])}]
    sd = SpikeData([[3.0, 1.0, 2.0]], length=5.0, neuron_attributes=attributes)
    assert sd.neuron_attributes[0]["spike_amplitudes"].tolist() == [10.0, 20.0, 30.0]
    assert sd.neuron_attributes[0]["curve"].tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.5, 10.5])
def test_a_bad_time_names_its_unit(bad):
    """NaN, infinite and outside times raise a ValueError that names the unit."""
    with pytest.raises(ValueError, match="unit 1 must"):
        SpikeData([[1.0], [bad, 2.0]], length=10.0)


@pytest.mark.parametrize(
    "bad, found",
    [
        ([["1.0"]], "text"),
        ([[1j]], "complex"),
        ([[True, False]], "booleans"),
        ([np.array([1, 2], "M8[ms]")], "dates"),
        ([np.array([1, 2], "m8[ms]")], "time spans"),
        ([[None, "x"]], "objects"),
        ([[[1.0, 2.0]]], r"shape \(1, 2\); .*from_raster"),
        ([5.0], r"shape \(\)"),
        ([[[1.0], [2.0, 3.0]]], "inhomogeneous"),
    ],
)
def test_a_train_that_is_no_vector_of_numbers_names_its_unit(bad, found):
    """What is no vector of numbers is refused and named, also what numpy would turn into numbers silently."""
    with pytest.raises(ValueError, match=rf"unit 1 must be a vector of spike times \(ms\).*{found}"):
        SpikeData([[1.0], *bad], length=10.0)


def test_units_have_ids_of_their_own():
    """Two units with one id are refused by name; a missing id is none, and an id is a number or text."""
    with pytest.raises(ValueError, match="unit_id must be different for each unit, found 7 for units 0 and 2; rename"):
        SpikeData([[], [], []], neuron_attributes=[{"unit_id": 7}, {"unit_id": "7"}, {"unit_id": np.int64(7)}])
    with pytest.raises(ValueError, match="unit_id of unit 0 must be a number or text"):
        SpikeData([[]], neuron_attributes=[{"unit_id": [1]}])
    assert SpikeData([[], []], neuron_attributes=[{"unit_id": None}, {"unit_id": None}]).N == 2


@pytest.mark.parametrize("values", [np.zeros(3), [1.0], np.zeros((1, 2))])
def test_an_attribute_per_spike_has_one_entry_per_spike(values):
    """A spike_* array of another length than the train names unit, attribute and both lengths."""
    with pytest.raises(ValueError, match="'spike_amplitudes' of unit 1 must have one entry for each of its 2 spikes"):
        SpikeData([[1.0], [1.0, 2.0]], neuron_attributes=[{}, {"spike_amplitudes": values}])


def test_a_list_per_spike_becomes_an_array():
    """What is given as a list per spike follows the spikes like an array."""
    sd = SpikeData([[3.0, 1.0]], neuron_attributes=[{"spike_amplitudes": [30.0, 10.0]}])
    assert sd.neuron_attributes[0]["spike_amplitudes"].tolist() == [10.0, 30.0]
    assert sd.subtime(2.0, 3.0).neuron_attributes[0]["spike_amplitudes"].tolist() == [30.0]


@pytest.mark.parametrize(
    "parts, field",
    [
        ({"length": -1.0}, "length"),
        ({"length": np.nan}, "length"),
        ({"start_time": np.inf}, "start_time"),
        ({"N": 2}, "N must"),
        ({"neuron_attributes": [{}]}, "neuron_attributes"),
        ({"neuron_attributes": [{}, {1: 2}, {}]}, r"neuron_attributes\[1\]"),
        ({"metadata": [1]}, "metadata"),
        ({"raw_data": np.zeros(5), "raw_time": 1.0}, "raw_data"),
        ({"raw_data": np.zeros((2, 5)), "metadata": {}}, "raw_time"),
        ({"raw_data": np.zeros((2, 5)), "raw_time": [0.0, 1.0]}, "raw_time"),
        ({"raw_data": np.zeros((2, 2)), "raw_time": [1.0, 0.0]}, "raw_time"),
        ({"raw_data": np.zeros((2, 2)), "raw_time": 0.0}, "raw_time"),
        ({"raw_time": 1.0}, "raw_data"),
    ],
)
def test_parts_that_do_not_fit_are_named(parts, field):
    """Every part that does not fit raises a ValueError that names it."""
    with pytest.raises(ValueError, match=field):
        make(**parts)


def test_a_given_length_is_never_replaced_by_the_last_spike():
    """The length is the recording's, also through subset, copies and rates."""
    sd = SpikeData([[1.0, 2.0]], length=1000.0)
    assert sd.length == sd.subset([]).length == sd.set_neuron_attribute("a", [1]).length == 1000.0
    assert sd.rates().tolist() == [2.0]


@pytest.mark.parametrize("train, start, length", [([], 0.0, 0.0), ([[]], -5.0, 0.0), ([[2.0], [7.5]], -2.5, 10.0)])
def test_default_length_reaches_the_last_spike(train, start, length):
    """Without a length it is the last spike minus the start, or 0."""
    assert SpikeData(train, start_time=start).length == length


def test_rounded_ends_are_no_disagreement():
    """A start and length whose sum rounds just below the last spike are accepted."""
    last, start = 0.1, -1e6 / 3
    assert start + (last - start) < last
    assert SpikeData([[last]], start_time=start, length=last - start).N == 1


def test_more_units_than_trains_are_silent():
    """N beyond the trains adds units without spikes."""
    sd = SpikeData([[1.0]], N=3, length=2.0)
    assert [times.size for times in sd.train] == [1, 0, 0]
    assert sd.neuron_attributes == [{}, {}, {}]


def test_copies_share_no_mutable_state():
    """What is changed in one object, or in what it was made from, shows in no other."""
    attributes = [{"unit_id": 1, "nested": {"a": [1]}, "template": np.zeros(3)}]
    metadata = {"list": [1], "array": np.zeros(2)}
    sd = SpikeData([[1.0]], length=2.0, neuron_attributes=attributes, metadata=metadata)
    reference, derived = copy.deepcopy(sd), sd.subset([0])
    attributes[0]["nested"]["a"].append(2)
    attributes[0]["template"][0] = 5.0
    metadata["list"].append(2)
    derived.neuron_attributes[0]["nested"]["a"].append(3)
    derived.metadata["list"].append(3)
    derived.metadata["new"] = 1
    assert sd == reference


def pickled(sd):
    return ForkingPickler.loads(ForkingPickler.dumps(sd))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, SpikeData.copy, SpikeData.replace, pickled])
def test_every_way_to_copy_is_a_copy(duplicate):
    """A copy is equal and of its own: what is changed in it does not show, and its arrays are read-only."""
    sd = make(raw_data=np.zeros((1, 10)), metadata={"fs_Hz": 1000.0, "nested": {"list": [1]}}).set_neuron_attribute(
        "template", np.ones((3, 4))
    )
    twin = duplicate(sd)
    assert twin == sd
    twin.metadata["nested"]["list"].append(2)
    twin.neuron_attributes[0]["label"] = "changed"
    assert sd.metadata["nested"] == {"list": [1]}
    assert sd.neuron_attributes[0]["label"] == "a"
    for array in (twin.train[0], twin.neuron_attributes[0]["template"], twin.raw_data):
        assert not array.flags.writeable


def test_arrays_inside_are_read_only():
    """Writing into a train, a template or the raw data through a SpikeData is refused."""
    raw = np.zeros((1, 10))
    sd = SpikeData([[1.0]], length=2.0, neuron_attributes=[{"t": np.zeros(2)}], raw_data=raw, raw_time=1.0)
    for array in (sd.train[0], sd.neuron_attributes[0]["t"], sd.raw_data):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1.0
    assert np.shares_memory(sd.raw_data, raw)
    raw[0, 0] = 1.0  # the caller's own array stays writable


def test_setting_an_attribute_returns_a_new_object():
    """set_neuron_attribute leaves the object alone and takes one value per unit."""
    sd = make()
    changed = sd.set_neuron_attribute("snr", [1.0, 2.0, 3.0])
    assert "snr" not in sd.neuron_attributes[0]
    assert changed.get_neuron_attribute("snr").tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="'snr' must be one for each of the 3 units, found 2"):
        sd.set_neuron_attribute("snr", [1.0, 2.0])
    with pytest.raises(ValueError, match="text"):
        sd.set_neuron_attribute("snr", "abc")


@pytest.mark.parametrize(
    "values, dtype_kind, shape",
    [
        ([1, 2], "i", (2,)),
        ([1.0, 2], "f", (2,)),
        (["a", "b"], "U", (2,)),
        ([True, False], "b", (2,)),
        ([None, 1.0], "O", (2,)),
        ([1, "a"], "O", (2,)),
        ([np.zeros((2, 3)), np.ones((2, 3))], "f", (2, 2, 3)),
        ([np.zeros(2), np.zeros(3)], "O", (2,)),
        ([[1], [2]], "O", (2,)),
        ([(1, 2), None], "O", (2,)),
    ],
)
def test_attribute_columns_have_the_unit_on_the_first_axis(values, dtype_kind, shape):
    """Numbers and text come typed, arrays of one shape stacked, the rest as objects."""
    column = SpikeData([[], []]).set_neuron_attribute("a", values).get_neuron_attribute("a")
    assert (column.dtype.kind, column.shape) == (dtype_kind, shape)


def test_a_missing_attribute_names_what_is_there():
    """Units without an attribute take the default, or raise with the names that exist."""
    sd = SpikeData([[], []], neuron_attributes=[{"snr": 1.0}, {}])
    assert np.isnan(sd.get_neuron_attribute("snr", default=np.nan)[1])
    with pytest.raises(ValueError, match=r"1 of 2 units have no attribute 'snr'.*\['snr'\]"):
        sd.get_neuron_attribute("snr")


@pytest.mark.parametrize(
    "units, by, expected",
    [
        ([2, 0], None, [12, 10]),
        ([-1], None, [12]),
        (1, None, [11]),
        (np.int64(1), None, [11]),
        ([True, False, True], None, [10, 12]),
        (np.array([False, False, False]), None, []),
        ([], None, []),
        (slice(None, None, -1), None, [12, 11, 10]),
        ([12, 10], "unit_id", [12, 10]),
        (11, "unit_id", [11]),
        ("a", "label", [10, 12]),
        (["b", "a"], "label", [11, 10, 12]),
        (np.array([12]), "unit_id", [12]),
    ],
)
def test_subset_keeps_the_order_asked_for(units, by, expected):
    """Indices, masks, slices and values choose units, in the order given."""
    chosen = make().subset(units, by=by)
    assert [entries["unit_id"] for entries in chosen.neuron_attributes] == expected
    assert [train.size for train in chosen.train] == [make().train[i - 10].size for i in expected]


@pytest.mark.parametrize(
    "units, by, error, words",
    [
        ([3], None, IndexError, "3"),
        ([0, 0], None, ValueError, "twice"),
        ([0, -3], None, ValueError, "twice"),
        ([True], None, ValueError, "mask"),
        ([0.5], None, ValueError, "indices"),
        (["a"], None, ValueError, "by="),
        ([99], "unit_id", ValueError, "99.*there are"),
        ([1], "nothing", ValueError, "'nothing'"),
        ([10, 10], "unit_id", ValueError, "twice"),
    ],
)
def test_a_wrong_choice_of_units_is_named(units, by, error, words):
    """A unit that is not there, or is chosen twice, or a mask that does not fit raises."""
    with pytest.raises(error, match=words):
        make().subset(units, by=by)


def test_units_cannot_be_chosen_by_an_array_attribute():
    """Choosing by a value that cannot be compared says which attribute it is."""
    sd = SpikeData([[]], neuron_attributes=[{"template": np.zeros(2)}])
    with pytest.raises(ValueError, match="'template' holds a ndarray"):
        sd.subset([1], by="template")


def test_indexing_gives_spikedata():
    """sd[1], sd[:2], sd[mask] are SpikeData; iterating goes over single units."""
    sd = make()
    assert sd[1] == sd.subset([1])
    assert sd[:2] == sd.subset([0, 1])
    assert sd[np.array([True, False, True])] == sd.subset([0, 2])
    assert [unit.N for unit in sd] == [1, 1, 1]


@given(trains, st.randoms())
def test_any_order_of_units_can_be_undone(train, random):
    """Shuffling the units and shuffling them back gives an equal object."""
    sd = SpikeData(train, length=100.0, neuron_attributes=[{"unit_id": i} for i in range(len(train))])
    order = list(range(sd.N))
    random.shuffle(order)
    assert sd.subset(order).subset(list(range(sd.N)), by="unit_id") == sd


@given(trains)
def test_idces_times_round_trip(train):
    """Paired vectors give the same trains back; spikes of two units at one time both survive."""
    sd = SpikeData(train, length=100.0)
    units, times = sd.idces_times()
    assert (np.diff(times) >= 0).all()
    assert SpikeData.from_idces_times(units, times, N=sd.N, length=100.0) == sd
    assert sd.times.tolist() == times.tolist()


def test_coincident_spikes_of_two_units_both_survive():
    """A spike never overwrites that of another unit at the same time, in any view of the data."""
    sd = SpikeData([[5.0, 6.0], [5.0]], length=10.0)
    assert [part.tolist() for part in sd.idces_times()] == [[0, 1, 0], [5.0, 5.0, 6.0]]
    assert sd.raster(1.0).sum(axis=1).tolist() == [2, 1]
    assert sd.binned(1.0)[5] == 2


@pytest.mark.parametrize(
    "idces, times, n_units, words",
    [
        ([0], [1.0, 2.0], None, "one length"),
        ([0.5], [1.0], None, "integers"),
        ([2], [1.0], 2, r"\[0, 2\)"),
        ([-1], [1.0], None, r"\[0, 0\)"),
    ],
)
def test_bad_pairs_are_refused(idces, times, n_units, words):
    """Vectors that do not pair, or point at no unit, raise."""
    with pytest.raises(ValueError, match=words):
        SpikeData.from_idces_times(idces, times, N=n_units)


@given(trains, st.sampled_from([0.125, 1.0, 3.0, 7.5, 250.0]))
def test_raster_counts_every_spike_once(train, bin_size):
    """Dense, sparse and population counts agree, and none is lost at the end of the recording."""
    sd = SpikeData(train, length=100.0, start_time=0.0)
    raster = sd.raster(bin_size)
    assert raster.shape == (sd.N, max(int(np.ceil(100.0 / bin_size)), 1))
    assert raster.sum(axis=1).tolist() == [len(times) for times in train]
    assert raster.sum(axis=0).tolist() == sd.binned(bin_size).tolist()
    assert (sd.sparse_raster(bin_size).toarray() == raster).all()


def test_a_spike_on_an_edge_belongs_to_the_bin_that_it_opens():
    """0.3 ms lies in the fourth bin of 0.1 ms, although 0.3 / 0.1 is below 3 in floating point."""
    assert SpikeData([[0.3]], length=1.0).raster(0.1)[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_rounding_adds_no_bin():
    """2.1 ms are seven bins of 0.3 ms, although 2.1 / 0.3 is above 7 in floating point."""
    assert SpikeData([[]], length=2.1).raster(0.3).shape == (1, 7)


@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=4), st.floats(-50, 50))
def test_raster_round_trip(counts, start_time):
    """Trains made from a raster count to the same raster."""
    sd = SpikeData.from_raster(counts, 2.5, start_time=start_time)
    assert sd.length == 12.5
    assert sd.raster(2.5).tolist() == counts


@pytest.mark.parametrize("raster", [[1, 2], [[0.5]], [[-1]]])
def test_a_raster_must_be_counts(raster):
    """What is no matrix of counts is no raster."""
    with pytest.raises(ValueError, match="raster must be"):
        SpikeData.from_raster(raster, 1.0)


@pytest.mark.parametrize("bin_size", [0.0, -1.0, np.nan, np.inf])
def test_bins_must_have_a_width(bin_size):
    """A bin size that is not positive and finite raises."""
    with pytest.raises(ValueError, match="bin_size_ms"):
        make().binned(bin_size)


def test_rates_and_intervals():
    """Rates are spikes over the length; intervals are differences, none for one spike."""
    sd = SpikeData([[1.0, 3.0, 7.0], [2.0], []], length=500.0)
    assert sd.rates("Hz").tolist() == [6.0, 2.0, 0.0]
    assert sd.rates("kHz").tolist() == pytest.approx([0.006, 0.002, 0.0])
    assert [part.tolist() for part in sd.interspike_intervals()] == [[2.0, 4.0], [], []]
    assert SpikeData([[0.0, 0.0]]).rates().tolist() == [0.0]
    with pytest.raises(ValueError, match="'Hz' or 'kHz'"):
        sd.rates("MHz")


def test_unit_locations_come_from_position_or_x_and_y():
    """Positions are (N, 2) in um; what is unknown is NaN."""
    attributes = [{"position": np.array([1.0, 2.0, 3.0])}, {"x": 4, "y": 5}, {}, {"x": 1.0, "position": None}]
    locations = SpikeData([[]] * 4, neuron_attributes=attributes).unit_locations
    np.testing.assert_array_equal(locations, [[1, 2], [4, 5], [np.nan, np.nan], [1, np.nan]])
    assert SpikeData([]).unit_locations.shape == (0, 2)


def test_equality_sees_every_part():
    """Objects are equal when all parts are, NaN included; a change of any part shows."""
    sd = make(metadata={"a": np.nan, "b": [np.array([np.nan])]})
    assert sd == make(metadata={"a": np.nan, "b": [np.array([np.nan])]})
    for parts in (
        {"length": 101.0},
        {"start_time": -1.0},
        {"metadata": {}},
        {"neuron_attributes": None},
        {"raw_data": np.zeros((1, 2)), "raw_time": 1.0},
    ):
        assert sd != sd.replace(**parts)
    assert sd != sd.replace(train=[train[:-1] for train in sd.train])
    assert sd != "something else"


def test_repr_tells_what_is_inside():
    """The repr shows units, spikes, duration, rates and attribute names."""
    text = repr(make(raw_data=np.zeros((4, 50)), start_time=-3.0, n_units=2))
    for part in ("2 units", "5 spikes", "0.100 s", "Hz", "unit_id, x, y, label", "4 x 50", "from -3 ms"):
        assert part in text
    assert "0 units" in repr(SpikeData([]))


def test_zero_units_go_through_everything():
    """A recording without units has a length and empty results everywhere."""
    sd = SpikeData([], length=10.0, metadata={"rec_chunks_ms": [(0.0, 10.0)]})
    assert sd.raster(1.0).shape == (0, 10)
    assert sd.times.size == sd.binned(1.0).sum() == 0
    assert sd.rates().shape == (0,)
    assert sd.subset([]).N == sd.subset(np.zeros(0, dtype=bool)).N == sd.subtime(1.0, 2.0).N == 0
    assert sd.split_epochs()[0].length == 10.0
    assert sd.concatenate(sd).length == 20.0
    assert sd.get_neuron_attribute("x", default=0).shape == (0,)
    assert sd.copy() == pickled(sd) == sd
    assert list(sd.to_sorting(1000.0).unit_ids) == []
    assert [part.size for part in sd.idces_times()] == [0, 0]


def test_importing_stays_light():
    """Importing the container loads neither scipy, nor h5py, nor SpikeInterface."""
    code = "import sys, spikelab.spikedata; print([m for m in ('scipy', 'h5py', 'spikeinterface') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
