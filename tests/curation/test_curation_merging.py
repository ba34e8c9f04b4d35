"""Units that are one neuron become one; what is known about it is recomputed, and nobody else is touched."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.curation import curate_by_merge_duplicates
from spikelab.curation._similarity import best_cosine, compare_neighbours
from spikelab.curation._union import count_meetings, gaps_to_nearest, unite
from spikelab.spikedata import SpikeData

LENGTH_MS, FS_HZ = 60_000.0, 20_000.0
SHAPE = -np.exp(-0.5 * ((np.arange(60) - 20) / 3.0) ** 2) + 0.4 * np.exp(-0.5 * ((np.arange(60) - 32) / 6.0) ** 2)


def poisson(n: int, seed: int, refractory_ms: float = 3.0) -> np.ndarray:
    """Spikes of one neuron: never two within its refractory period."""
    gaps = np.random.default_rng(seed).exponential(LENGTH_MS / n, 2 * n) + refractory_ms
    times = np.cumsum(gaps)
    return times[times < LENGTH_MS - 20.0] + 10.0


def wave(y_um: float, *, lag: int = 0, scale: float = 100.0, n_channels: int = 8) -> np.ndarray:
    """A spike at a depth of `y_um` on channels 20 um apart."""
    reach = np.exp(-np.abs(np.arange(n_channels) * 20.0 - y_um) / 20.0)
    return (scale * reach[:, None] * np.roll(SHAPE, lag)).astype(np.float32)


def units(*parts: tuple[np.ndarray, float, dict[str, object]], **options: object) -> SpikeData:
    attributes = [
        {"unit_id": 10 + i, "position": np.array([0.0, y_um]), "avg_waveform": wave(y_um), **more}
        for i, (_, y_um, more) in enumerate(parts)
    ]
    trains = [train for train, _, _ in parts]
    options = {"metadata": {"fs_Hz": FS_HZ}, "length": LENGTH_MS, **options}
    return SpikeData(trains, neuron_attributes=attributes, **options)


# ---------------------------------------------------------------------------------------------- what is merged


def test_a_duplicate_and_a_split_are_merged_and_the_unit_with_more_spikes_stays():
    """A unit found twice has its spikes once; a unit in two pieces has all of them; input and others are untouched."""
    one, two, other = poisson(600, 1), poisson(400, 2), poisson(300, 3)
    sd = units(
        (one[::3] + 0.05, 10.0, {}), (one, 12.0, {}), (two[::2], 70.0, {}), (two[1::2], 70.0, {}), (other, 140.0, {})
    )
    before = copy.deepcopy(sd)
    merged, result = sd.curate_by_merge_duplicates()
    assert result["passed"].tolist() == [False, True, True, False, True]
    assert [unit["unit_id"] for unit in merged.neuron_attributes] == [11, 12, 14]
    np.testing.assert_array_equal(merged.train[0], one)
    np.testing.assert_array_equal(merged.train[1], two)
    np.testing.assert_array_equal(merged.train[2], other)
    assert merged.neuron_attributes[0]["merged_from"] == [11, 10]
    assert "merged_from" not in merged.neuron_attributes[2]
    assert sd == before


def test_the_guides_example(capsys):
    """The guide's lines run as printed."""
    train = poisson(600, 1)
    sd = units((train, 10.0, {}), (train[::2], 12.0, {}))
    sd_merged, res = sd.curate_by_merge_duplicates(
        dist_um=24.8,           # max inter-electrode distance in um
        cosine_threshold=0.5,   # min waveform similarity
        max_isi_increase=0.04,  # reject merge if ISI violations rise too much
    )  # fmt: skip
    n_absorbed = (~res["passed"]).sum()
    print(f"Merged {n_absorbed} duplicate units")  # noqa: T201
    assert capsys.readouterr().out == "Merged 1 duplicate units\n"
    assert sd_merged.N == 1


@pytest.mark.parametrize("lag", [-7, 5])
def test_spikes_are_moved_by_the_lag_of_the_waveforms(lag):
    """A unit whose spikes are noted earlier or later is laid on the other one, spikes and waveform."""
    train = poisson(600, 1)
    # Noted `lag` samples too late: its waveform seems `lag` samples early.
    late = train[::2] + lag * 1000.0 / FS_HZ
    sd = units((train, 10.0, {}), (late, 10.0, {"avg_waveform": wave(10.0, lag=-lag)}))
    merged, result = sd.curate_by_merge_duplicates()
    (merge,) = result["merges"]
    assert (merge["lag_samples"], merge["n_common"]) == (-lag, late.size)
    np.testing.assert_array_equal(merged.train[0], train)
    np.testing.assert_allclose(merged.neuron_attributes[0]["avg_waveform"], wave(10.0), atol=0.5)


def test_chains_end_in_one_unit():
    """Three pieces, of which the outer two are not neighbours, become one; exactly the absorbed ones do not pass."""
    train = poisson(900, 4)
    pieces = [train[::3], train[1::3], np.sort(np.concatenate([train[2::3], train[::30] + 0.1]))]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        depths = [0.0, 20.0, 40.0]
        parts = [(pieces[place], depths[place], {"avg_waveform": wave(20.0, lag=-place)}) for place in order]
        moved = [(train + place / FS_HZ * 1000.0, *rest) for (train, *rest), place in zip(parts, order, strict=True)]
        merged, result = units(*moved).curate_by_merge_duplicates()
        assert merged.N == 1
        assert result["passed"].sum() == 1
        assert sum(merge["accepted"] for merge in result["merges"]) == 2
        assert merged.train[0].size == train.size


def test_neighbours_with_like_waveforms_that_meet_by_chance_stay():
    """Two neurons whose templates look alike, and which meet within the refractory period, are two."""
    sd = units((poisson(1200, 5), 10.0, {}), (poisson(1200, 6), 12.0, {}))
    merged, result = sd.curate_by_merge_duplicates()
    assert merged.N == 2
    (merge,) = result["merges"]
    assert merge["reason"] == "spikes meet as those of two neurons do"
    assert 0.5 < merge["chance_ratio"] < 2.0
    assert sd.curate_by_merge_duplicates(max_chance_ratio=None)[0].N == 1


def test_violations_that_rise_forbid_a_merge():
    """A merge after which too many intervals are short is refused, with numbers before and after."""
    train = poisson(600, 7)
    sd = units((train, 10.0, {}), (train[::2] + 1.0, 12.0, {}))
    (merge,) = curate_by_merge_duplicates(sd, max_chance_ratio=None)[1]["merges"]
    assert not merge["accepted"]
    assert merge["violation_before"] == 0.0
    assert merge["violation_after"] == pytest.approx(1 / 3, abs=0.01)
    assert curate_by_merge_duplicates(sd, max_chance_ratio=None, max_isi_increase=0.4)[0].N == 1


@pytest.mark.parametrize(
    "options", [{"dist_um": 1.0}, {"cosine_threshold": 1.01}, {"max_violation_rate": 0.0}, {"max_lag": 0}]
)
def test_every_limit_limits(options):
    """Distance, similarity, violations of the units themselves and lag each forbid a merge by themselves."""
    train = poisson(600, 8)
    twice = np.sort(np.concatenate([train[::2], train[:1] + 1.0]))
    later = {"avg_waveform": wave(12.0, lag=8)}
    sd = units((train, 10.0, {}), (twice - 0.4, 12.0, later))
    assert sd.curate_by_merge_duplicates()[0].N == 1
    # Without a lag the waveforms do not resemble each other.
    assert sd.curate_by_merge_duplicates(**options)[0].N == 2


def test_a_dry_run_tells_and_does_nothing():
    """dry_run=True gives the proposals with their numbers, strict JSON, and the units as they were."""
    train = poisson(600, 1)
    sd = units((train, 10.0, {}), (train[::2], 12.0, {}))
    same, result = sd.curate_by_merge_duplicates(dry_run=True)
    assert same is sd
    assert json.loads(json.dumps(result["merges"], allow_nan=False)) == result["merges"]
    (merge,) = result["merges"]
    assert (merge["unit"], merge["into"], merge["accepted"]) == (11, 10, True)
    assert (merge["distance_um"], merge["n_spikes"]) == (2.0, train[::2].size)
    assert result["metric"].tolist() == pytest.approx([merge["similarity"]] * 2)
    assert result["merges"] == sd.curate_by_merge_duplicates()[1]["merges"]


# ------------------------------------------------------------------------------------ what a merged unit carries


def test_attributes_of_a_merged_unit_are_those_of_all_its_spikes():
    """Waveform, template, place, SNR, spread, counts and attributes per spike follow; what cannot be known is NaN."""
    train = poisson(900, 9)
    mask = np.arange(train.size) % 3 == 0
    small, large = wave(20.0, scale=60.0), wave(20.0, scale=90.0)
    few = {"snr": 6.0, "std_norm": 0.2, "amplitude": 60.0, "channel": 2, "x": 1.0, "y": 20.0,
           "presence_ratio": 0.9, "drift_ptp": 1.0,
           "num_spikes": 1, "firing_rate": 1.0, "spike_amplitudes": np.full(mask.sum(), 60.0), "avg_waveform": small,
           "template": small.T, "template_full": small.T}  # fmt: skip
    many = {**few, "snr": 9.0, "std_norm": 0.1, "amplitude": 90.0, "spike_amplitudes": np.full((~mask).sum(), 90.0),
            "avg_waveform": large, "template": large.T, "template_full": large.T, "channel": 1, "x": 0.0}  # fmt: skip
    sd = units((train[mask], 20.0, few), (train[~mask], 24.0, many))
    unit = sd.curate_by_merge_duplicates()[0].neuron_attributes[0]
    share = mask.sum() / train.size
    mean = large + share * (small - large)
    np.testing.assert_allclose(unit["avg_waveform"], mean, rtol=1e-5)
    np.testing.assert_allclose(unit["template_full"], mean.T, rtol=1e-5)
    assert unit["template"].shape[1] < mean.shape[0]
    np.testing.assert_allclose(unit["position"], [0.0, 24.0 - 4.0 * share])
    np.testing.assert_array_equal(unit["spike_amplitudes"], np.where(mask, 60.0, 90.0))
    assert unit["amplitude"] == pytest.approx(90.0 - 30.0 * share)
    assert unit["snr"] == pytest.approx(9.0 * (1 - share / 3), rel=1e-5)
    deviations = np.concatenate([np.tile([48.0, 72.0], 300), np.tile([81.0, 99.0], 600)])  # 60 +- 12 and 90 +- 9
    assert unit["std_norm"] == pytest.approx(deviations.std() / deviations.mean(), rel=0.02)
    assert (unit["channel"], unit["x"]) == (1, 0.0)
    assert (unit["num_spikes"], unit["firing_rate"]) == (train.size, pytest.approx(train.size / 60.0))
    assert unit["presence_ratio"] == 1.0
    assert np.isnan(unit["drift_ptp"])


# ------------------------------------------------------------------------------------------------- definitions


def test_the_cosine_is_that_of_a_plain_computation_and_channels_do_not_bleed():
    """For random waveforms, each lag shifts every channel by itself; the best of the lags is found."""
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(size=(3, 12)).astype(np.float32) for _ in range(6)]
    first, second = np.array([0, 1, 2]), np.array([3, 4, 5])
    similarity, lag = best_cosine(waveforms, first, second, max_lag=4)
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        found = {}
        for shift in range(-4, 5):
            padded = np.pad(waveforms[j], ((0, 0), (4, 4)))[:, 4 + shift : 16 + shift]
            norms = np.linalg.norm(waveforms[i]) * np.linalg.norm(waveforms[j])
            found[shift] = float((waveforms[i] * padded).sum() / norms)
        assert similarity[pair] == pytest.approx(max(found.values()), abs=1e-5)
        assert found[int(lag[pair])] == pytest.approx(max(found.values()), abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 300), max_size=25), st.lists(st.integers(0, 300), max_size=25))
def test_a_union_has_every_spike_once(one, other):
    """Spikes within delta of the first train's are dropped, all others kept; close pairs are all counted."""
    first, second = np.sort(np.array(one, dtype=float)) / 10, np.sort(np.array(other, dtype=float)) / 10
    union = unite(first, second, delta_ms=0.4)
    near = [bool(np.any(np.abs(first - time) <= 0.4 + 1e-6)) for time in second]
    assert union.kept.tolist() == [not is_near for is_near in near]
    assert union.times_ms.tolist() == sorted([*first.tolist(), *second[union.kept].tolist()])
    assert union.n_common == sum(near)
    own = second[union.kept]
    before = sum(bool(np.any((time - first > 0) & (time - first < 1.5 - 1e-6))) for time in own)
    after = sum(bool(np.any((first - time >= 0) & (first - time < 1.5 - 1e-6))) for time in own)
    assert count_meetings(gaps_to_nearest(first, second), 0.4, 1.5) == before + after


def test_the_order_of_units_does_not_matter():
    """Units in another order merge into the same trains."""
    a, b, c = poisson(500, 11), poisson(400, 12), poisson(300, 13)
    parts = [
        (a, 0.0, {}),
        (a[::2], 5.0, {}),
        (b[::2], 60.0, {}),
        (b[1:280:2], 65.0, {}),
        (c, 130.0, {}),
        (c[::3], 131.0, {}),
    ]
    sd = units(*parts)
    expected = {train.tobytes() for train in sd.curate_by_merge_duplicates()[0].train}
    assert len(expected) == 3
    turned = sd.subset([5, 2, 0, 4, 3, 1]).curate_by_merge_duplicates()[0]
    assert {train.tobytes() for train in turned.train} == expected


# --------------------------------------------------------------------------------------------------- bad input


def test_units_that_cannot_be_compared_are_named():
    """A missing or odd attribute, and a missing rate, raise a ValueError that names unit, field and remedy."""
    sd = units((poisson(50, 1), 0.0, {}), (poisson(50, 2), 10.0, {}))
    without = sd.replace(neuron_attributes=[sd.neuron_attributes[0], {"avg_waveform": wave(0.0)}])
    with pytest.raises(ValueError, match=r"unit 1 has no attribute 'position'.*set_neuron_attribute"):
        without.curate_by_merge_duplicates()
    with pytest.raises(ValueError, match=r"unit 0 has no attribute 'avg_waveform'.*set_neuron_attribute"):
        sd.set_neuron_attribute("avg_waveform", [None, wave(0.0)]).curate_by_merge_duplicates()
    with pytest.raises(ValueError, match=r"one shape .*\(8, 60\) at unit 0 and \(4, 60\) at unit 1"):
        sd.set_neuron_attribute("avg_waveform", [wave(0.0), wave(0.0, n_channels=4)]).curate_by_merge_duplicates()
    with pytest.raises(ValueError, match="unit 1 must be finite"):
        sd.set_neuron_attribute("avg_waveform", [wave(0.0), wave(0.0) * np.nan]).curate_by_merge_duplicates()
    train = poisson(600, 1)
    shifted = units((train, 0.0, {}), (train[::2], 0.0, {"avg_waveform": wave(0.0, lag=3)}), metadata={})
    with pytest.raises(ValueError, match=r"metadata=\{'fs_Hz': ...\}, or max_lag=0"):
        shifted.curate_by_merge_duplicates()


@pytest.mark.parametrize(
    "name",
    [
        "dist_um",
        "max_violation_rate",
        "isi_threshold_ms",
        "cosine_threshold",
        "max_lag",
        "delta_ms",
        "max_isi_increase",
        "max_chance_ratio",
    ],
)
def test_a_negative_threshold_is_named(name):
    """Each threshold says its own name."""
    with pytest.raises(ValueError, match=f"{name} must be zero or more, got -1"):
        curate_by_merge_duplicates(units((poisson(50, 1), 0.0, {})), **{name: -1})


def test_nothing_to_merge_is_no_error():
    """No units, one unit, silent units and units without a known place pass as they are."""
    assert SpikeData([], length=1.0).curate_by_merge_duplicates()[0].N == 0
    nowhere = {"position": np.array([np.nan, np.nan])}
    sd = units((poisson(50, 1), 0.0, nowhere), (np.zeros(0), 0.0, {}), (poisson(50, 1), 0.0, nowhere))
    merged, result = sd.curate_by_merge_duplicates()
    assert merged == sd
    assert np.isnan(result["metric"]).all()
    pairs = compare_neighbours(sd.unit_locations, [wave(0.0)] * 3, 24.8, 10)
    assert pairs.first.size == 0
