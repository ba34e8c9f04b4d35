"""Each criterion: its numbers, its limits, and that it never changes what it is given."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.curation import (
    curate_by_firing_rate,
    curate_by_isi_violations,
    curate_by_min_spikes,
    curate_by_snr,
    curate_by_std_norm,
)
from spikelab.spike_sorting._exceptions import EmptyWaveformMetricsError, SpikeSortingClassifiedError
from spikelab.spikedata import SpikeData

# A criterion, the name of its threshold, and whether a larger threshold keeps more units.
CRITERIA = [
    (curate_by_min_spikes, "min_spikes", False),
    (curate_by_firing_rate, "min_rate_hz", False),
    (curate_by_isi_violations, "max_violation", True),
    (curate_by_snr, "min_snr", False),
    (curate_by_std_norm, "max_std_norm", True),
]


@st.composite
def recordings(draw):
    times = st.lists(st.integers(0, 4000).map(lambda n: n / 8), max_size=40)
    train = draw(st.lists(times, max_size=5))
    quality = st.one_of(st.floats(0, 10), st.just(float("nan")))
    attributes = [{"unit_id": i, "snr": draw(quality), "std_norm": draw(quality)} for i in range(len(train))]
    return SpikeData(train, length=500.0, neuron_attributes=attributes)


def ids_of(sd):
    return [entries["unit_id"] for entries in sd.neuron_attributes]


@pytest.mark.parametrize("criterion, name, _", CRITERIA)
@given(sd=recordings(), threshold=st.floats(0, 50))
def test_the_verdict_covers_all_units_and_decides_who_stays(criterion, name, _, sd, threshold):
    """Metric and verdict have one entry per unit given; the units that passed are those that stay, unchanged."""
    before = copy.deepcopy(sd)
    curated, result = criterion(sd, **{name: threshold})
    assert result["metric"].shape == result["passed"].shape == (sd.N,)
    assert (result["metric"].dtype, result["passed"].dtype) == (np.float64, np.bool_)
    assert curated == sd.subset(result["passed"])
    assert curated.length == sd.length
    assert not result["passed"][np.isnan(result["metric"])].any()
    assert sd == before


@pytest.mark.parametrize("criterion, name, larger_keeps_more", CRITERIA)
@given(sd=recordings(), threshold=st.floats(0, 50))
def test_the_verdict_is_the_metric_against_the_threshold(criterion, name, larger_keeps_more, sd, threshold):
    """`passed` says of every unit on which side of the threshold its metric is, the threshold itself included."""
    result = criterion(sd, **{name: threshold})[1]
    is_within = result["metric"] <= threshold if larger_keeps_more else result["metric"] >= threshold
    np.testing.assert_array_equal(result["passed"], is_within)


@pytest.mark.parametrize("criterion, name, larger_keeps_more", CRITERIA)
@given(sd=recordings(), thresholds=st.tuples(st.floats(0, 50), st.floats(0, 50)))
def test_criteria_are_monotone_idempotent_and_blind_to_order(criterion, name, larger_keeps_more, sd, thresholds):
    """A laxer threshold keeps at least as much, a second run changes nothing, and order does not matter."""
    low, high = sorted(thresholds)
    lax, strict = (high, low) if larger_keeps_more else (low, high)
    kept_lax, kept_strict = (criterion(sd, **{name: value})[0] for value in (lax, strict))
    assert set(ids_of(kept_strict)) <= set(ids_of(kept_lax))
    assert criterion(kept_strict, **{name: strict})[0] == kept_strict
    turned = criterion(sd[::-1], **{name: strict})[0]
    assert ids_of(turned) == ids_of(kept_strict)[::-1]


@pytest.mark.parametrize("criterion, name, _", CRITERIA)
def test_methods_are_the_functions(criterion, name, _):
    """sd.curate_by_x(...) is curate_by_x(sd, ...)."""
    sd = SpikeData([[1.0]], length=5.0, neuron_attributes=[{"snr": 3.0, "std_norm": 0.1}])
    method = getattr(sd, criterion.__name__)
    assert method(**{name: 0})[0] == criterion(sd, **{name: 0})[0]


@pytest.mark.parametrize("criterion, name, _", CRITERIA)
@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_negative_threshold_is_named(criterion, name, _, bad):
    """A negative threshold or NaN raises a ValueError with field and value."""
    with pytest.raises(ValueError, match=f"{name} must be zero or more, got {bad}"):
        criterion(SpikeData([[1.0]]), **{name: bad})


def test_the_guides_defaults():
    """Without arguments: 30 spikes, 0.05 Hz, 1 percent below 1.5 ms, SNR 5, std_norm 1."""
    steady = np.arange(30) * 10.0
    attributes = [{"snr": 5.0, "std_norm": 1.0}, {"snr": 4.9, "std_norm": 1.1}]
    sd = SpikeData([steady, steady[:29]], length=590_000.0, neuron_attributes=attributes)
    for criterion, _, _ in CRITERIA:
        if criterion is not curate_by_isi_violations:
            assert criterion(sd)[1]["passed"].tolist() == [True, False]
    close = np.concatenate([steady, [steady[-1] + 1.0]])
    assert sd.replace(train=[steady, close]).curate_by_isi_violations()[1]["passed"].tolist() == [True, False]


def test_a_threshold_itself_passes():
    """A unit exactly at a threshold stays."""
    sd = SpikeData([[0.0, 1.0, 50.0, 60.0]], length=1000.0, neuron_attributes=[{"snr": 5.0, "std_norm": 0.5}])
    assert sd.curate_by_min_spikes(4)[0].N == 1
    assert sd.curate_by_firing_rate(4.0)[0].N == 1
    assert sd.curate_by_isi_violations(25.0)[0].N == 1
    assert sd.curate_by_snr(5.0)[0].N == 1
    assert sd.curate_by_std_norm(0.5)[0].N == 1


def test_rate_is_over_the_recording_not_up_to_the_last_spike():
    """A unit that stops early has a low rate; without any length the rate is 0."""
    assert curate_by_firing_rate(SpikeData([[1.0, 2.0]], length=10_000.0))[1]["metric"].tolist() == [0.2]
    assert curate_by_firing_rate(SpikeData([[0.0]]))[1]["metric"].tolist() == [0.0]


def test_percent_counts_spikes_that_come_too_soon():
    """Percent is violating spikes over all spikes; fewer than two spikes are 0."""
    sd = SpikeData([[0.0, 1.0, 50.0, 50.0], [3.0], [], [10.0, 20.0]], length=100.0)
    metric = curate_by_isi_violations(sd, threshold_ms=1.5)[1]["metric"]
    assert metric.tolist() == [50.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("offset_ms", [0.0, 3_600_000.1, 86_400_000.3])
def test_an_interval_of_exactly_the_threshold_is_no_violation(offset_ms):
    """33 samples at 30 kHz are 1.1 ms at any time of a long recording, whatever the rounding."""
    samples = np.arange(0, 3300, 33)
    sd = SpikeData([offset_ms + samples / 30.0], length=offset_ms + 200.0)
    assert curate_by_isi_violations(sd, threshold_ms=1.1)[1]["metric"].tolist() == [0.0]
    assert curate_by_isi_violations(sd, threshold_ms=1.1001)[1]["metric"].tolist() == [99.0]


def test_hill_is_spikeinterfaces_ratio():
    """ "hill" gives SpikeInterface's isi_violations_ratio, with a censored period too."""
    from spikeinterface.metrics.quality.misc_metrics import isi_violations

    rng = np.random.default_rng(1)
    trains = [np.sort(rng.uniform(0, 60_000, n)) for n in (50, 500, 5000)]
    sd = SpikeData(trains, length=60_000.0)
    for min_isi_ms in (0.0, 0.5):
        metric = curate_by_isi_violations(sd, threshold_ms=2.0, min_isi_ms=min_isi_ms, method="hill")[1]["metric"]
        expected = [isi_violations([t / 1000.0], 60.0, 0.002, min_isi_ms / 1000.0)[0] for t in trains]
        np.testing.assert_allclose(metric, expected)


def test_hill_without_duration_fails_a_unit_that_violates():
    """Spikes that all fall on one instant have an infinite ratio, and a silent unit has none."""
    metric = curate_by_isi_violations(SpikeData([[0.0, 0.0], []]), method="hill")[1]["metric"]
    assert metric.tolist() == [np.inf, 0.0]


def test_methods_and_periods_are_checked():
    """An unknown method, or a censored period as long as the refractory one, raises."""
    sd = SpikeData([[1.0]])
    with pytest.raises(ValueError, match=r"^method must be 'percent' or 'hill', got 'allen'"):
        curate_by_isi_violations(sd, method="allen")
    with pytest.raises(ValueError, match="min_isi_ms must be below threshold_ms"):
        curate_by_isi_violations(sd, threshold_ms=1.0, min_isi_ms=1.0, method="hill")
    with pytest.raises(ValueError, match="threshold_ms must be zero or more, got -1"):
        curate_by_isi_violations(sd, threshold_ms=-1)


@pytest.mark.parametrize("criterion, name", [(curate_by_snr, "snr"), (curate_by_std_norm, "std_norm")])
@pytest.mark.parametrize(
    "attributes", [None, [{"snr": 1.0, "std_norm": 1.0}, {}], [{"snr": None, "std_norm": None}] * 2]
)
def test_without_metric_and_raw_data_the_error_is_classified(criterion, name, attributes):
    """A metric that is neither stored on every unit nor computable is a classified failure and a ValueError."""
    sd = SpikeData([[1.0], [2.0]], length=5.0, neuron_attributes=attributes)
    with pytest.raises(EmptyWaveformMetricsError, match=f"{name} must .* of 2 units .*with_raw_data") as caught:
        criterion(sd)
    assert isinstance(caught.value, SpikeSortingClassifiedError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.metric_name == name


def test_no_units_need_no_raw_data():
    """Nothing to judge is no failure."""
    for criterion, _, _ in CRITERIA:
        curated, result = criterion(SpikeData([], length=5.0))
        assert curated.N == result["metric"].size == result["passed"].size == 0
