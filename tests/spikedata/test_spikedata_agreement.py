"""Agreement of several sortings of one recording."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.spikedata import SpikeData
from spikelab.spikedata.agreement import compare_sorters

RNG = np.random.default_rng(1)
TRUE = [np.sort(RNG.uniform(0, 10_000, n)).round(1) for n in (100, 60, 40)]


def sorting(trains, ids=None, **metadata):
    attributes = None if ids is None else [{"unit_id": unit_id} for unit_id in ids]
    return SpikeData(trains, length=10_000.0, neuron_attributes=attributes, metadata={"fs_Hz": 20_000.0, **metadata})


def three():
    """All three units; c and most of a; a alone."""
    return {"A": sorting(TRUE, "abc"), "B": sorting([TRUE[2] + 0.1, TRUE[0][:80]]), "C": sorting([TRUE[0]])}


def test_units_that_several_have():
    """Each unit stands once, with its id in each sorting that has it, those that most have first."""
    agreement = compare_sorters(three())
    assert [dict(unit.unit_ids) for unit in agreement.units] == [
        {"A": "a", "B": 1, "C": 0},
        {"A": "c", "B": 0},
        {"A": "b"},
    ]
    assert [agreement.n_found_by(k) for k in (3, 2, 1)] == [1, 1, 1]
    assert agreement.units[0].agreement == pytest.approx((0.8 + 1.0 + 0.8) / 3)
    table = agreement.table()
    assert table["n_sortings"].tolist() == [3, 2, 1]
    assert table["C"].tolist() == [0, None, None]


def test_the_best_of_matches_that_contradict_each_other_counts():
    """Where a chain of matches would make one unit of two of one sorting, its weakest match is left."""
    first, second, third, fourth = (TRUE[0][:n] for n in (100, 95, 75, 60))
    sortings = {"A": sorting([first, fourth]), "B": sorting([second]), "C": sorting([third])}
    units = [dict(unit.unit_ids) for unit in compare_sorters(sortings).units]
    assert units == [{"A": 0, "B": 0}, {"A": 1, "C": 0}]


def test_each_pair():
    """Of each pair, the matches are there with their agreement, the best first, and what matches nothing."""
    pairs = {pair.names: pair for pair in compare_sorters(three()).pairs}
    assert set(pairs) == {("A", "B"), ("A", "C"), ("B", "C")}
    rows = pairs["A", "B"].matches[["unit_id", "match", "agreement", "n_matched"]].to_numpy().tolist()
    assert rows == [["c", 0, 1.0, 40], ["a", 1, pytest.approx(0.8), 80]]
    assert pairs["A", "B"].unmatched == (["b"], [])
    assert pairs["B", "C"].unmatched == ([0], [])


def test_the_threshold_and_the_window_are_taken():
    """Units agree from min_agreement on, and spikes are one within delta_ms."""
    strict = compare_sorters(three(), min_agreement=0.9)
    assert [dict(unit.unit_ids) for unit in strict.units] == [
        {"A": "a", "C": 0},
        {"A": "c", "B": 0},
        {"A": "b"},
        {"B": 1},
    ]
    late = {"A": sorting([TRUE[0]]), "B": sorting([(TRUE[0] + 0.3)[:-1]])}
    assert [compare_sorters(late, delta_ms=delta).n_found_by(2) for delta in (0.4, 0.2)] == [1, 0]


def test_it_is_plain_json():
    """Everything survives a JSON file, ids of numpy's too."""
    sortings = {"A": sorting(TRUE, np.arange(3)), "B": sorting(TRUE[:2], ["x", "y"])}
    said = compare_sorters(sortings).to_dict()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["found_by"] == {"2": 2, "1": 1}


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_no_unit_is_lost_or_counted_twice(data):
    """Whatever matches contradict each other, each unit of each sorting is in one group, a sorting once in each."""
    shares = st.lists(st.tuples(*[st.integers(0, 100)] * 3), min_size=1, max_size=4)
    sortings = {}
    for name in "ABC":
        trains = [
            np.sort(
                np.concatenate([train[: len(train) * share // 100] for train, share in zip(TRUE, part, strict=True)])
            )
            for part in data.draw(shares)
        ]
        sortings[name] = sorting(trains)
    agreement = compare_sorters(sortings, min_agreement=0.2)
    members = sorted(member for unit in agreement.units for member in unit.unit_ids.items())
    assert members == sorted((name, unit) for name, sd in sortings.items() for unit in range(sd.N))


@pytest.mark.parametrize(
    "other, said",
    [
        (sorting([], source_file=["/data/a.raw.h5"]), "B has no unit"),
        (sorting(TRUE, source_file=["/data/b.raw.h5"]), "a.raw.h5 and b.raw.h5"),
        (sorting(TRUE, source_stream="well001"), "stream well000 and stream well001"),
        (sorting(TRUE, recording='{"start_frame": 20000}'), "samples from 0 on and samples from 20000 on"),
        (SpikeData(TRUE, length=10_000.0, metadata={"fs_Hz": 30_000.0}), "20000 Hz and 30000 Hz"),
        (SpikeData([TRUE[0] / 2], length=5_000.0), "0 to 10 s and 0 to 5 s"),
    ],
)
def test_sortings_of_different_recordings_are_refused(other, said):
    """Sortings that say that they are of different recordings, periods or rates are not compared, nor empty ones."""
    one = sorting(TRUE, source_file=["/lab/a.raw.h5"], source_stream="well000", recording='{"start_frame": 0}')
    with pytest.raises(ValueError, match=said):
        compare_sorters({"A": one, "B": other})


@pytest.mark.parametrize("numbers", [{"delta_ms": 0}, {"min_agreement": 0}, {"min_agreement": 1.1}])
def test_impossible_numbers_are_refused(numbers):
    """A number out of its range is an error that names it."""
    with pytest.raises(ValueError, match=next(iter(numbers))):
        compare_sorters(three(), **numbers)


def test_moved_files_are_one_recording():
    """The folder of a recording, and what one side does not say, make no difference."""
    here, there = (sorting(TRUE, source_file=[f"/{folder}/a.raw.h5"]) for folder in ("lab", "home"))
    assert compare_sorters({"A": here, "B": there, "C": sorting(TRUE)}).n_found_by(3) == 3
