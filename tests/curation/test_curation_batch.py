"""Several criteria at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.spikedata import SpikeData


def make():
    trains = [np.arange(0.0, 1000.0, step) for step in (5.0, 10.0, 100.0, 1.0)]
    attributes = [
        {"unit_id": f"u{i}", "snr": snr, "std_norm": 0.1 * i, "presence_ratio": presence, "label": "good"}
        for i, (snr, presence) in enumerate([(9.0, 0.99), (2.0, 0.95), (8.0, None), (7.0, 0.5)])
    ]
    return SpikeData(trains, length=1000.0, neuron_attributes=attributes)


def test_every_criterion_is_judged_on_all_units():
    """Results have length N for each criterion, also for units that another criterion removed."""
    sd = make()
    curated, results = sd.curate(min_spikes=50, min_rate_hz=20.0, isi_max=1.0, min_snr=5.0, max_std_norm=0.25)
    assert list(results) == ["spike_count", "firing_rate", "isi_violation", "snr", "std_norm"]
    for result in results.values():
        assert result["metric"].shape == result["passed"].shape == (4,)
    assert [entries["unit_id"] for entries in curated.neuron_attributes] == ["u0"]
    assert results["snr"]["passed"].tolist() == [True, False, True, True]


def test_each_result_is_that_of_the_criterion_alone():
    """curate() and the single criteria agree on every number."""
    sd = make()
    _, results = sd.curate(
        min_spikes=50, min_rate_hz=20.0, isi_max=0.5, isi_method="hill", min_snr=5.0, max_std_norm=0.2
    )
    alone = {
        "spike_count": sd.curate_by_min_spikes(50)[1],
        "firing_rate": sd.curate_by_firing_rate(20.0)[1],
        "isi_violation": sd.curate_by_isi_violations(0.5, method="hill")[1],
        "snr": sd.curate_by_snr(5.0)[1],
        "std_norm": sd.curate_by_std_norm(0.2)[1],
    }
    for name, result in alone.items():
        np.testing.assert_array_equal(results[name]["metric"], result["metric"])
        np.testing.assert_array_equal(results[name]["passed"], result["passed"])


def test_nothing_asked_removes_nothing():
    """Without criteria all units stay and there are no results."""
    curated, results = make().curate()
    assert curated == make()
    assert results == {}


@given(st.integers(0, 250), st.floats(0, 10), st.floats(0, 100))
def test_at_once_is_one_after_the_other(min_spikes, min_snr, isi_max):
    """On stored metrics, criteria together keep what they keep in a row, in any order."""
    sd = make()
    together = sd.curate(min_spikes=min_spikes, min_snr=min_snr, isi_max=isi_max)[0]
    forward = sd.curate(min_spikes=min_spikes)[0].curate(min_snr=min_snr)[0].curate(isi_max=isi_max)[0]
    backward = sd.curate(isi_max=isi_max)[0].curate(min_snr=min_snr)[0].curate(min_spikes=min_spikes)[0]
    assert together == forward == backward


@pytest.mark.parametrize(
    "rule, passed",
    [
        ((">=", 0.95), [True, True, False, False]),
        ((">", 0.95), [True, False, False, False]),
        (("<=", 0.5), [False, False, False, True]),
        (("<", 0.5), [False, False, False, False]),
        (("==", 0.99), [True, False, False, False]),
    ],
)
def test_any_numeric_attribute_can_be_a_criterion(rule, passed):
    """metrics= judges an attribute; a unit without a value fails, whatever the operator."""
    curated, results = make().curate(metrics={"presence_ratio": rule})
    assert results["presence_ratio"]["passed"].tolist() == passed
    assert np.isnan(results["presence_ratio"]["metric"][2])
    assert sum(passed) == curated.N


@pytest.mark.parametrize(
    "metrics, words",
    [
        ({"presense": (">=", 1)}, "'presense', which no unit has.*presence_ratio"),
        ({"snr": ("=>", 1)}, "'=>'; available"),
        ({"snr": 5.0}, "operator, number"),
        ({"snr": (">=", "high")}, "operator, number"),
        ({"snr": (">=", float("nan"))}, "a number to compare with"),
        ({"label": (">=", 1)}, "'label' must be one number"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_named(metrics, words):
    """Unknown attributes and operators, and attributes that are no numbers, raise with what is there."""
    with pytest.raises(ValueError, match=words):
        make().curate(metrics=metrics)


def test_a_criterion_cannot_be_asked_for_twice():
    """min_snr and metrics={"snr": ...} together would hide one result behind the other."""
    with pytest.raises(ValueError, match="'snr' is asked for twice"):
        make().curate(min_snr=1.0, metrics={"snr": (">=", 2.0)})
    assert make().curate(metrics={"snr": (">=", 8.5)})[0].N == 1


def test_a_recording_without_units_passes_through():
    """No units, no results to show, no error."""
    curated, results = SpikeData([], length=5.0).curate(
        min_spikes=1, min_rate_hz=1.0, isi_max=1.0, min_snr=1.0, max_std_norm=1.0, metrics={"a": (">=", 0)}
    )
    assert curated.N == 0
    assert all(result["passed"].shape == (0,) for result in results.values())


def test_the_guides_examples_run_as_printed(capsys):
    """The code of the guide's section on curation runs word for word."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 5, (2, 60_000))
    raw[0, 100:59_900:200] -= 200.0
    sd_raw = sd = SpikeData(
        [np.arange(100, 59_900, 200) / 20.0, [1.0, 5.0]], length=3000.0, raw_data=raw, raw_time=20.0
    )
    sd_curated, res = sd.curate_by_min_spikes(min_spikes=50)
    sd_curated, res = sd.curate_by_firing_rate(min_rate_hz=0.1)
    sd_curated, res = sd.curate_by_isi_violations(
        max_violation=1.0, threshold_ms=1.5,
    )  # fmt: skip
    sd_curated, res = sd.curate_by_snr(min_snr=5.0)
    sd_curated, res = sd.curate_by_std_norm(max_std_norm=1.0)
    sd, metrics = sd.compute_waveform_metrics()
    sd_curated, res = sd.curate_by_snr(min_snr=5.0)
    sd_curated, results = sd.curate(
        min_spikes=50,
        min_rate_hz=0.1,
        isi_max=1.0,
        min_snr=5.0,
    )
    for criterion, res in results.items():
        n_removed = (~res["passed"]).sum()
        print(f"{criterion}: removed {n_removed} units")  # noqa: T201
    history = sd.build_curation_history(
        sd_original=sd_raw,
        sd_curated=sd_curated,
        results=results,
    )
    assert "spike_count: removed 1 units" in capsys.readouterr().out
    assert history["curated_final"] == [0]
    assert metrics["snr"][0] > 5.0
