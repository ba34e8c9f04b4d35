"""Units that follow a larger one: found whatever their order, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.curation import curate_by_redundancy
from spikelab.curation.redundancy import redundancy_pct
from spikelab.spikedata import SpikeData

LENGTH_MS = 60_000.0

trains = st.lists(
    st.lists(st.integers(0, 2000), max_size=40).map(lambda ticks: np.sort(np.array(ticks, dtype=float)) / 10),
    min_size=1,
    max_size=6,
)


def poisson(rate_Hz: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.sort(generator.uniform(0, LENGTH_MS, generator.poisson(rate_Hz * LENGTH_MS / 1000)))


def units(*parts: tuple[np.ndarray, float], **attributes: object) -> SpikeData:
    sizes = [{"amplitude": size, "unit_id": index, **attributes} for index, (_, size) in enumerate(parts)]
    return SpikeData([np.sort(train) for train, _ in parts], length=LENGTH_MS, neuron_attributes=sizes)


def slow_redundancy(parts: list[np.ndarray], sizes: list[float], window_ms: float) -> list[float]:
    """The definition, pair by pair and spike by spike."""
    keys = [(size, len(train), -index) for index, (train, size) in enumerate(zip(parts, sizes, strict=True))]

    def meeting(mine: np.ndarray, others: list[int], shift_ms: float) -> int:
        return sum(
            any(np.any(np.abs(parts[other] - time - shift_ms) <= window_ms + 1e-6) for other in others) for time in mine
        )

    def beyond(mine: np.ndarray, others: list[int]) -> float:
        chance = np.mean([meeting(mine, others, shift) for shift in (-7.0, -5.0, 5.0, 7.0)])
        return max(meeting(mine, others, 0.0) - chance, 0.0) / max(len(mine) - chance, 1.0)

    def is_partner(mine: np.ndarray, other: int) -> bool:
        common = meeting(mine, [other], 0.0)
        is_part = common < 0.2 * (len(mine) + len(parts[other]) - common) and common > 0.6 * len(mine)
        return beyond(mine, [other]) >= 0.1 and not is_part

    found = []
    for mine, key in zip(parts, keys, strict=True):
        larger = [other for other, other_key in enumerate(keys) if other_key > key]
        found.append(100 * beyond(mine, [other for other in larger if is_partner(mine, other)]))
    return found


@settings(deadline=None, max_examples=50)
@given(parts=trains, data=st.data(), window_ms=st.sampled_from([0.0, 0.4, 1.0]))
def test_the_fast_count_is_the_definition(parts, data, window_ms):
    """Spikes that coincide are those that a search of all pairs finds, also bursts within one window."""
    sizes = data.draw(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=len(parts), max_size=len(parts)))
    found = redundancy_pct(parts, sizes, window_ms)
    np.testing.assert_allclose(found, slow_redundancy(parts, sizes, window_ms), atol=1e-9)


@settings(deadline=None)
@given(parts=trains, seed=st.integers(0, 99))
def test_the_order_of_units_does_not_matter(parts, seed):
    """Units of different sizes get the same verdict wherever they stand."""
    order = np.random.default_rng(seed).permutation(len(parts))
    sizes = np.arange(len(parts), dtype=float)
    here = redundancy_pct(parts, sizes, 0.4)
    there = redundancy_pct([parts[index] for index in order], sizes[order], 0.4)
    np.testing.assert_array_equal(here[order], there)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_shadow_goes_and_the_larger_unit_stays(order):
    """A unit that fires 0.2 ms after a larger one is removed, also when it has as many spikes, whatever comes first."""
    train = poisson(5, seed=1)
    parts = [(train, 120.0), (train + 0.2, 30.0)]
    curated, result = curate_by_redundancy(units(*(parts[index] for index in order)))
    assert [unit["amplitude"] for unit in curated.neuron_attributes] == [120.0]
    assert result["metric"][order.index(1)] > 99


def test_units_that_meet_by_chance_stay():
    """Independent units stay, even beside one that fires 100 times a second."""
    sd = units((poisson(100, seed=2), 300.0), (poisson(5, seed=3), 40.0), (poisson(2, seed=4), 50.0))
    curated, result = curate_by_redundancy(sd, max_redundancy=20.0)
    assert curated.N == 3
    assert result["metric"].max() < 10


def test_a_unit_of_its_own_that_often_fires_with_another_stays():
    """Half of the spikes together with a larger unit is synchrony, not a shadow."""
    large = poisson(5, seed=5)
    own = np.concatenate([large[::2] + 0.1, poisson(2.5, seed=6)])
    assert curate_by_redundancy(units((large, 120.0), (own, 60.0)))[0].N == 2


def test_a_small_unit_on_which_a_larger_template_fires_too_stays():
    """A unit that lies wholly within a larger one, and is a small part of it, is real."""
    own = poisson(0.5, seed=7)
    large = np.sort(np.concatenate([poisson(5, seed=10), own + 0.2]))
    assert curate_by_redundancy(units((large, 120.0), (own, 60.0)))[0].N == 2


def test_what_several_units_leave_behind_goes():
    """A unit whose spikes are the shadows of two larger ones is as redundant as that of one."""
    one, two = poisson(5, seed=12), poisson(5, seed=13)
    shadow = np.concatenate([one[::8] + 0.2, two[::8] - 0.1])
    curated, result = curate_by_redundancy(units((one, 120.0), (two, 110.0), (shadow, 20.0)))
    assert [unit["unit_id"] for unit in curated.neuron_attributes] == [0, 1]
    assert result["metric"][2] > 90


def test_units_that_burst_together_stay():
    """In bursts of many units nearly every spike is beside one of a larger unit, which is chance there."""
    rng = np.random.default_rng(14)
    starts = np.arange(500.0, LENGTH_MS, 2000.0)
    trains = [np.sort((starts[:, None] + rng.uniform(0, 300, (len(starts), 20))).ravel()) for _ in range(25)]
    curated, result = curate_by_redundancy(units(*((train, 200.0 - 5 * index) for index, train in enumerate(trains))))
    assert curated.N == 25
    assert result["metric"].max() < 40


def test_what_the_sorter_says_of_sizes_counts_too():
    """A shadow's average waveform is as large as that of its unit; its amplitude for the sorter is not."""
    train = poisson(5, seed=11)
    attributes = [{"amplitude": 100.0, "ks_amplitude": 40.0}, {"amplitude": 101.0, "ks_amplitude": 12.0}]
    sd = SpikeData([train, train + 0.1], length=LENGTH_MS, neuron_attributes=attributes)
    assert curate_by_redundancy(sd)[1]["passed"].tolist() == [True, False]


def test_without_sizes_the_unit_with_more_spikes_is_the_larger():
    """A result that says nothing of sizes is judged by numbers of spikes."""
    train = poisson(5, seed=8)
    assert curate_by_redundancy(SpikeData([train[::2], train], length=LENGTH_MS))[1]["passed"].tolist() == [False, True]


def test_nothing_is_redundant_of_nothing():
    """No units, and units without a spike, pass."""
    assert curate_by_redundancy(SpikeData([], length=0.0))[0].N == 0
    assert curate_by_redundancy(SpikeData([[], []], length=10.0))[0].N == 2


@pytest.mark.parametrize("options", [{"max_redundancy": -1.0}, {"window_ms": -0.1}])
def test_a_negative_threshold_is_refused(options):
    """The message names what was negative."""
    with pytest.raises(ValueError, match=next(iter(options))):
        curate_by_redundancy(SpikeData([[1.0]], length=10.0), **options)


def test_the_pipeline_puts_it_last_and_on_record():
    """The stage of curation removes it after the other criteria, keeps it in the history, and None leaves it out."""
    from spikelab.spike_sorting.config import CurationConfig
    from spikelab.spike_sorting.stages.curate import curate_in_stages

    train = poisson(5, seed=9)
    good = {"snr": 10.0, "std_norm": 0.1}
    sd = units((train, 120.0), (train + 0.2, 30.0), **good)
    curated, history = curate_in_stages(sd, CurationConfig(isi_viol_max=None))
    assert curated.N == 1
    assert history["failed"]["redundancy"] == [1]
    assert history["curations"][-1]["criterion"] == "redundancy"
    assert history["metrics"]["1"]["redundancy"] > 99
    assert curate_in_stages(sd, CurationConfig(isi_viol_max=None, redundancy_max=None))[0].N == 2


def test_a_larger_unit_that_is_far_away_does_not_count():
    """What fires with a unit across the array is no residue of its template; without positions nobody is far away."""
    large = poisson(8, 1)
    sd = units((large, 200.0), (large[::2] + 0.1, 40.0))
    near = sd.set_neuron_attribute("position", [(0.0, 0.0), (0.0, 300.0)])
    far = sd.set_neuron_attribute("position", [(0.0, 0.0), (0.0, 900.0)])
    assert [curate_by_redundancy(one)[0].N for one in (sd, near, far)] == [1, 1, 2]
    assert curate_by_redundancy(far, reach_um=1000.0)[0].N == 1
