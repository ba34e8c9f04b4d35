"""Comparison with other sortings and with the truth."""

from __future__ import annotations

import numpy as np
import pytest
from spikeinterface.comparison import compare_sorter_to_ground_truth
from spikeinterface.core import NumpySorting

from spikelab.spikedata import SpikeData

RNG = np.random.default_rng(1)
TRUE = [np.sort(RNG.uniform(0, 10_000, n)).round(1) for n in (100, 60, 40)]


def truth():
    ids = [{"unit_id": name} for name in "abc"]
    return SpikeData(TRUE, length=10_000.0, neuron_attributes=ids, metadata={"fs_Hz": 20_000.0})


def found():
    """Unit 0 is c; unit 1 has 80 of a's spikes and 20 of its own; b is missed; unit 2 is nobody."""
    own = RNG.uniform(0, 10_000, 20)
    return SpikeData([TRUE[2] + 0.1, np.concatenate([TRUE[0][:80], own]), np.arange(5.0)], length=10_001.0)


def test_the_true_units_that_were_found():
    """Accuracy, precision and recall of each true unit are the shares that they are called after."""
    table = found().compare_ground_truth(truth())
    assert list(table.index) == ["a", "b", "c"]
    assert table["match"].tolist() == [1, None, 0]
    assert table.loc["c", ["accuracy", "precision", "recall"]].tolist() == [1.0, 1.0, 1.0]
    assert table.loc["b"].tolist() == [None, 0.0, 0.0, 0.0, 60, 0, 0]
    assert table.loc["a", ["precision", "recall"]].tolist() == pytest.approx([0.8, 0.8], abs=0.03)


def test_the_numbers_are_spikeinterfaces():
    """Each number is that of SpikeInterface's own comparison with ground truth."""
    table = found().compare_ground_truth(truth().to_sorting())
    theirs = compare_sorter_to_ground_truth(truth().to_sorting(), found().to_sorting(20_000.0)).get_performance()
    for name in ("accuracy", "precision", "recall"):
        np.testing.assert_allclose(table[name], theirs[name].astype(float), atol=1e-12)


def test_two_sortings_of_one_recording():
    """Compared the other way round, precision and recall change places, and the matches are the same."""
    one, two = found().compare_sorter(truth()), truth().compare_sorter(found())
    assert one["match"].tolist() == ["c", "a", None]
    for unit, match in ((0, "c"), (1, "a")):
        assert two.loc[match, "match"] == unit
        swapped = two.loc[match, ["accuracy", "recall", "precision", "n_spikes_other", "n_spikes", "n_matched"]]
        ours = one.loc[unit, ["accuracy", "precision", "recall", "n_spikes", "n_spikes_other", "n_matched"]]
        assert ours.tolist() == swapped.tolist()


def test_only_the_time_that_both_cover_counts():
    """A sorting of the first half is not blamed for the second, also when it does not know where it ends."""
    half = NumpySorting.from_unit_dict({0: (TRUE[0][TRUE[0] < 5000] * 20).round().astype(int)}, 20_000.0)
    row = truth().compare_sorter(half).loc["a"]
    assert (row["precision"], row["recall"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="the time that both cover"):
        truth().compare_sorter(truth().subtime(0.0, 100.0, shift_to=20_000.0))


@pytest.mark.parametrize("n_units", [0, 2])
def test_nothing_to_compare_with(n_units):
    """No units on either side, and units without spikes, give rows of zeros or none."""
    silent = SpikeData([[]] * n_units, length=10_000.0)
    assert truth().compare_sorter(silent)["accuracy"].tolist() == [0.0, 0.0, 0.0]
    assert silent.compare_sorter(truth())["accuracy"].tolist() == [0.0] * n_units
    assert silent.compare_ground_truth(truth())["match"].tolist() == [None] * 3
