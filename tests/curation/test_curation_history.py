"""The record of a curation: complete, strict JSON, and joinable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.curation import apply_curation, build_curation_history, chain_histories
from spikelab.spikedata import SpikeData

KEYS = ["curation_parameters", "initial", "curations", "curated", "failed", "metrics", "curated_final"]


def make(*, ids=(7, 8, 9, 10), snr=(9.0, 1.0, np.nan, np.inf)):
    trains = [np.arange(0.0, 100.0, step) for step in (1.0, 2.0, 10.0, 50.0)]
    attributes = [{"snr": value} | ({} if ids is None else {"unit_id": ids[i]}) for i, value in enumerate(snr)]
    return SpikeData(trains, length=1000.0, neuron_attributes=attributes)


def history_of(sd, parameters=None, **thresholds):
    curated, results = sd.curate(**thresholds)
    return curated, sd.build_curation_history(sd, curated, results, parameters)


def test_the_record_is_complete():
    """Who was there, who failed what with which number, and who is left."""
    _, history = history_of(make(), {"min_spikes": 20, "min_snr": 5.0}, min_spikes=5, min_snr=5.0)
    assert list(history) == KEYS
    assert history == {
        "curation_parameters": {"min_spikes": 20, "min_snr": 5.0},
        "initial": [7, 8, 9, 10],
        "curations": [
            {"stage": 1, "criterion": "spike_count", "n_units": 4, "n_passed": 3, "n_removed": 1},
            {"stage": 1, "criterion": "snr", "n_units": 4, "n_passed": 2, "n_removed": 2},
        ],
        "curated": {"spike_count": [7, 8, 9], "snr": [7, 10]},
        "failed": {"spike_count": [10], "snr": [8, 9]},
        "metrics": {
            "7": {"spike_count": 100.0, "snr": 9.0},
            "8": {"spike_count": 50.0, "snr": 1.0},
            "9": {"spike_count": 10.0, "snr": None},
            "10": {"spike_count": 2.0, "snr": "inf"},
        },
        "curated_final": [7],
    }


def test_nothing_in_it_is_beyond_json():
    """NaN and infinities, numpy numbers, tuples and paths come out as strict JSON, and read back the same."""
    odd = {
        "a": np.float32(np.nan),
        "b": (1, np.int64(2)),
        "c": Path("/x"),
        "d": {"e": -np.inf},
        "f": np.arange(2),
        1: True,
    }
    _, history = history_of(make(ids=tuple(np.arange(4))), odd, min_snr=5.0)
    text = json.dumps(history, allow_nan=False)
    assert json.loads(text) == history
    assert history["curation_parameters"] == {
        "a": None,
        "b": [1, 2],
        "c": "/x",
        "d": {"e": "-inf"},
        "f": [0, 1],
        "1": True,
    }
    with pytest.raises(ValueError, match=r"parameters\['x'\] holds a object"):
        history_of(make(), {"x": object()})


def test_units_without_ids_go_by_index():
    """Where a unit lacks unit_id all go by their index in the original."""
    _, history = history_of(make(ids=None), min_spikes=20)
    assert history["initial"] == [0, 1, 2, 3]
    assert history["failed"] == {"spike_count": [2, 3]}
    assert history["curated_final"] == [0, 1]


def test_a_curation_that_keeps_nobody_is_a_record_too():
    """No survivors, or no units at all, give empty lists."""
    assert history_of(make(), min_spikes=10_000)[1]["curated_final"] == []
    assert history_of(SpikeData([]), min_spikes=1)[1]["metrics"] == {}


def test_results_must_belong_to_the_units():
    """Arrays of another length, foreign survivors, failed survivors and repeated ids raise."""
    sd = make()
    curated, results = sd.curate(min_spikes=20)
    with pytest.raises(ValueError, match=r"4 units of sd_original, found 2; .*chain_histories"):
        build_curation_history(sd, curated, curated.curate(min_spikes=20)[1])
    with pytest.raises(ValueError, match="only units of sd_original"):
        build_curation_history(sd, sd, results)
    with pytest.raises(ValueError, match="only units of sd_original"):
        build_curation_history(sd, curated.set_neuron_attribute("unit_id", [7, 99]), results)
    with pytest.raises(ValueError, match=r"repeated: .'7'"):
        history_of(make(ids=(7, "7", 8, 9)), min_spikes=1)


@pytest.mark.parametrize("ids", [(7, 8, 9, 10), None])
def test_two_stages_become_one_record(ids):
    """The second stage's units, with ids or by index, appear under their first names, criteria in order."""
    sd = make(ids=ids)
    names = list(ids or range(4))
    once, first = history_of(sd, {"min_spikes": 5}, min_spikes=5)
    _, second = history_of(once[[1, 0, 2]] if ids else once, {"min_snr": 5.0}, min_spikes=20, min_snr=5.0)
    joined = chain_histories(first, second)
    assert list(joined) == KEYS
    assert joined["initial"] == names
    assert joined["curated_final"] == [names[0]]
    assert [(entry["stage"], entry["criterion"], entry["n_units"]) for entry in joined["curations"]] == [
        (1, "spike_count", 4),
        (2, "spike_count_2", 3),
        (2, "snr", 3),
    ]
    assert joined["failed"]["spike_count"] == [names[3]]
    assert joined["failed"]["spike_count_2"] == [names[2]]
    assert sorted(joined["failed"]["snr"]) == [names[1], names[2]]
    assert joined["metrics"][str(names[1])] == {"spike_count": 50.0, "spike_count_2": 50.0, "snr": 1.0}
    assert joined["metrics"][str(names[3])] == {"spike_count": 2.0}
    assert joined["curation_parameters"] == {"stage_1": {"min_spikes": 5}, "stage_2": {"min_snr": 5.0}}
    json.dumps(joined, allow_nan=False)


@pytest.mark.parametrize("ids", [(7, 8, 9, 10), None])
def test_chaining_is_associative(ids):
    """Three stages give one record, whichever two are joined first."""
    once, first = history_of(make(ids=ids), {"a": 1}, min_spikes=3)
    twice, second = history_of(once, {"a": 2}, min_spikes=20)
    _, third = history_of(twice, {"a": 3}, min_spikes=60, min_snr=1.0)
    left = chain_histories(chain_histories(first, second), third)
    right = chain_histories(first, chain_histories(second, third))
    assert left == right
    assert list(left["failed"]) == ["spike_count", "spike_count_2", "spike_count_3", "snr"]
    assert list(left["curation_parameters"]) == ["stage_1", "stage_2", "stage_3"]


def test_a_repetition_inside_the_second_history_keeps_its_names_apart():
    """A criterion that only the later stages applied, twice, is found under two names."""
    once, first = history_of(make(), min_snr=0.5)
    twice, second = history_of(once, min_spikes=5)
    _, third = history_of(twice, min_spikes=60)
    joined = chain_histories(first, chain_histories(second, third))
    assert list(joined["failed"]) == ["snr", "spike_count", "spike_count_3"]
    assert joined["failed"]["spike_count_3"] == [8]
    assert joined == chain_histories(chain_histories(first, second), third)


def test_inputs_of_a_chain_stay_as_they_were():
    """Joining changes neither history."""
    once, first = history_of(make(), min_spikes=5)
    _, second = history_of(once, min_spikes=20)
    before = json.dumps([first, second])
    joined = chain_histories(first, second)
    joined["metrics"]["7"]["new"] = 1
    joined["initial"].append(0)
    assert json.dumps([first, second]) == before


def test_stages_must_follow_one_another():
    """A second history that starts from other units raises."""
    once, first = history_of(make(), min_spikes=5)
    _, second = history_of(once.subset([0]), min_spikes=5)
    with pytest.raises(ValueError, match="must start from the 3 units"):
        chain_histories(first, second)


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_chained_survivors_are_those_of_the_trains(counts, first_min, second_min):
    """For any trains the joined record ends with the units that meet both thresholds."""
    sd = SpikeData([np.arange(n) * 1.0 for n in counts], length=10.0)
    once, first = history_of(sd, min_spikes=first_min)
    _, second = history_of(once, min_spikes=second_min)
    expected = [unit for unit, n in enumerate(counts) if n >= max(first_min, second_min)]
    assert chain_histories(first, second)["curated_final"] == expected


# ------------------------------------------------------------------------------------------------ done again


def twins(*, ids=True):
    """Six units, of which two pairs are one neuron each, and one has hardly any spikes."""
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, -80.0, 20.0, 0.0], [0.0, -20.0, 5.0, 0.0]])
    one, two, few = (np.cumsum(rng.exponential(100.0, n) + 3.0) for n in (80, 60, 3))
    trains = [one, one[::2] + 0.1, two[::2], two[1::2], few, few + 7.0]
    attributes = [
        {"position": np.array([0.0, y]), "avg_waveform": shape, "snr": 9.0, "spike_amplitudes": np.arange(len(train))}
        | ({"unit_id": f"u{i}"} if ids else {})
        for i, (train, y) in enumerate(zip(trains, (0, 5, 100, 104, 300, 400), strict=True))
    ]
    return SpikeData(trains, length=12_000.0, neuron_attributes=attributes)


def stage(sd, name, curated_and_results):
    curated, results = curated_and_results
    return curated, build_curation_history(sd, curated, {name: results} if "metric" in results else results)


@pytest.mark.parametrize("ids", [True, False])
def test_a_history_does_it_again(ids):
    """Criteria, merges and criteria again, read back from JSON, leave the same trains and attributes."""
    sd = twins(ids=ids)
    once, first = stage(sd, "", sd.curate(min_spikes=5))
    twice, second = stage(once, "merge_duplicates", once.curate_by_merge_duplicates())
    thrice, third = stage(twice, "", twice.curate(min_spikes=70))
    history = json.loads(json.dumps(chain_histories(chain_histories(first, second), third), allow_nan=False))
    assert (sd.N, once.N, twice.N, thrice.N) == (6, 4, 2, 1)
    assert [len(merges) for merges in history["merges"].values()] == [2]
    assert history["failed"]["merge_duplicates"] == (["u1", "u3"] if ids else [1, 3])
    assert apply_curation(sd, history) == thrice
    assert apply_curation(sd, chain_histories(first, second)) == twice
    assert apply_curation(once, second) == twice


def test_a_history_belongs_to_its_units():
    """Other units, and a history that contradicts itself, raise a ValueError."""
    sd = twins()
    _, history = stage(sd, "", sd.curate(min_spikes=5))
    with pytest.raises(ValueError, match="before curation"):
        apply_curation(sd.subset([0, 1]), history)
    with pytest.raises(ValueError, match="its steps leave"):
        apply_curation(sd, {**history, "curated_final": ["u0"]})
    odd = {"unit": "u9", "into": "u0", "lag_ms": 0.0, "lag_samples": 0, "delta_ms": 0.4, "accepted": True}
    with pytest.raises(ValueError, match="'u9' cannot be merged into 'u0'"):
        apply_curation(sd, {**history, "merges": {"spike_count": [odd]}})


def test_what_is_no_history_is_refused():
    """Any other mapping is told apart by what it lacks."""
    with pytest.raises(ValueError, match=r"no history of curation: it lacks \['initial'"):
        SpikeData([[1.0]], length=5.0).apply_curation({"criteria": []})
