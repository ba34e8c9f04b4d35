"""Settings that are chosen for a probe: what they keep to, and that they are used."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.simulation import make_probe, simulate_recording
from spikelab.spike_sorting import recommend_settings
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.backends.kilosort4.parameters import check_parameters
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.probes.dictionary import probe_dictionary
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

LAYOUTS = ("linear", "neuropixels1", "neuropixels2", "mea", "tetrode")

coordinates = st.floats(-5000, 5000, allow_nan=False, width=32)
probes = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=80, unique=True)
rates = st.floats(8_000, 60_000)
durations = st.floats(1, 1e6)


@settings(deadline=None)
@given(probe=probes, fs_Hz=rates, duration_s=durations)
def test_whatever_the_probe_the_settings_are_allowed_and_fit_it(probe, fs_Hz, duration_s):
    """Any positions and any rate give settings that Kilosort4 takes, odd, and no more channels than there are."""
    values = recommend_settings(probe, fs_Hz, duration_s).values
    check_parameters(values)
    assert values.get("nearest_chans", 1) <= len(probe)
    assert values.get("nearest_templates", 1) <= len(probe)
    nt = values.get("nt", 61)
    assert nt % 2 == 1
    assert abs(nt / fs_Hz - 2e-3) <= 1.5e-3 * 1000 / fs_Hz + 1 / fs_Hz
    assert nt == 61 or (values["templates_from_data"] is True and 0 < values["nt0min"] < nt)


@settings(deadline=None)
@given(probe=probes, shift_um=st.tuples(coordinates, coordinates), seed=st.integers(0, 1000))
def test_where_the_probe_lies_and_how_it_is_numbered_does_not_matter(probe, shift_um, seed):
    """Moved as a whole, or with its channels in another order, a probe gets the same settings."""
    places = np.round(np.array(probe, dtype=float))
    moved = np.random.default_rng(seed).permutation(places + np.round(np.array(shift_um)))
    assert recommend_settings(moved, 30_000.0, 60.0) == recommend_settings(places, 30_000.0, 60.0)


@settings(deadline=None)
@given(probe=probes, names=st.sets(st.sampled_from(["nblocks", "nt", "batch_size", "do_CAR", "dmin"])))
def test_what_is_given_is_not_recommended(probe, names):
    """A setting that the user has set is never among those that are recommended, and a reason stands by each other."""
    mine = {"nblocks": 3, "nt": 51, "batch_size": 12_345, "do_CAR": True, "dmin": 11.0}
    advice = recommend_settings(probe, 30_000.0, 60.0, given={name: mine[name] for name in names})
    assert not names & set(advice.values)
    assert all(one.reason.endswith(".") and len(one.reason) < 140 for one in advice.settings)
    if "nt" in names:
        assert advice.values["nt0min"] == 16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_forms_of_a_probe_get_the_same_settings(layout):
    """A probe, Kilosort's dictionary of it and, on one shank, its bare positions are one and the same."""
    probe = make_probe(layout)
    recording = simulate_recording(layout, duration_s=1.0).recording
    advice = recommend_settings(probe, 20_000.0, 60.0)
    assert recommend_settings(probe_dictionary(recording), 20_000.0, 60.0) == advice
    if probe.shank_ids is None or len(set(probe.shank_ids)) == 1:
        assert recommend_settings(probe.contact_positions, 20_000.0, 60.0) == advice


def long_probe(n_rows: int, row_um: float, n_columns: int = 2, column_um: float = 32.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(n_columns) * column_um, np.arange(n_rows) * row_um)
    return np.column_stack([x.ravel(), y.ravel()])


@pytest.mark.parametrize(
    "probe,name,value",
    [
        (long_probe(8, 25), "nblocks", 0),
        (long_probe(100, 60, 1), "nblocks", 0),
        (long_probe(50, 20), "nblocks", 1),
        (long_probe(192, 20), "nblocks", 5),
        (long_probe(2, 25, 2, 25), "do_CAR", False),
        (long_probe(50, 20), "do_CAR", None),
        (long_probe(64, 17.5, 100, 17.5), "x_centers", 7),
        (long_probe(50, 20), "x_centers", None),
        (long_probe(16, 100, 1), "min_template_size", 33.3),
        (long_probe(16, 100, 1), "nearest_templates", 16),
        (long_probe(50, 20), "nearest_templates", None),
        (long_probe(10, 20, 2, 50), "dminx", 50),
        (long_probe(50, 20), "dmin", 20),
    ],
)
def test_the_guide_is_followed(probe, name, value):
    """Each rule of Kilosort's guide on probes gives its number; None: nothing is said."""
    assert recommend_settings(probe, 30_000.0, 600.0).values.get(name) == value


@pytest.mark.parametrize("fs_Hz,nt", [(20_000.0, 41), (30_000.0, None), (40_000.0, 81), (32_000.0, 65)])
def test_templates_last_2_ms(fs_Hz, nt):
    """The length of templates follows the sampling rate; at 30 kHz Kilosort4's own is right."""
    assert recommend_settings(long_probe(16, 20), fs_Hz, 60.0).values.get("nt") == nt


@pytest.mark.parametrize("n_channels", [4, 32, 64, 384])
@pytest.mark.parametrize("duration_s", [1, 5, 10, 60, 3600])
def test_a_recording_has_more_than_one_batch(n_channels, duration_s):
    """Kilosort4 measures noise in all batches but the last: there are at least two, however short the recording."""
    advice = recommend_settings(long_probe(n_channels // 2, 20), 20_000.0, duration_s)
    assert 2 * advice.values.get("batch_size", 60_000) <= duration_s * 20_000


def test_templates_of_kilosort_keep_their_length():
    """Without templates from the data only 61 samples work: nothing else is recommended, and a wrong nt is told."""
    options = {"templates_from_data": False}
    assert "nt" not in recommend_settings(long_probe(16, 20), 20_000.0, 60.0, given=options).values
    (warning,) = recommend_settings(long_probe(16, 20), 30_000.0, 60.0, given={**options, "nt": 41}).warnings
    assert "nt=61" in warning


def test_float_data_are_brought_to_microvolts():
    """Volts as floats get a scale, whole numbers none."""
    probe = long_probe(16, 20)
    assert recommend_settings(probe, 30_000.0, 60.0, "float32", gain_uV=1e6).values["scale"] == 1e6
    assert "scale" not in recommend_settings(probe, 30_000.0, 60.0, "int16", gain_uV=0.195).values
    assert "scale" not in recommend_settings(probe, 30_000.0, 60.0, "float32", gain_uV=1.0).values


def test_a_long_duplicate_window_is_told():
    """Above 0.5 ms the removal of duplicates hides refractory violations: a warning says so."""
    assert not recommend_settings(long_probe(16, 20), 30_000.0, 60.0, given={"duplicate_spike_ms": 0.5}).warnings
    (warning,) = recommend_settings(long_probe(16, 20), 30_000.0, 60.0, given={"duplicate_spike_ms": 0.6}).warnings
    assert "0.5 ms" in warning


@pytest.mark.parametrize("probe", [[], [(0.0, np.nan)], [(0.0,)], {"xc": [0.0], "yc": [0.0], "kcoords": [0, 1]}])
def test_a_probe_that_is_none_is_refused(probe):
    """Positions that are missing, no numbers or not as many as shanks are a ValueError."""
    with pytest.raises(ValueError, match="position"):
        recommend_settings(probe, 30_000.0, 60.0)


@pytest.mark.parametrize("downsampling", [None, 5])
def test_density_decides_where_kilosort_compares_with_too_few_spikes(downsampling):
    """Groups of which fewer spikes are compared than there are clusters at first are left to their density."""
    given = {} if downsampling is None else {"cluster_downsampling": downsampling}
    values = recommend_settings(long_probe(2, 20), 30_000.0, 60.0, given=given).values
    assert values["density_below"] == 200 * (downsampling or 20)
    assert values["min_spikes_to_cluster"] < 100
    assert values["censored_lag_ms"] == 1.0


def test_recommendations_do_not_change():
    """They are values."""
    advice = recommend_settings(long_probe(2, 20), 30_000.0, 60.0)
    with pytest.raises(FrozenInstanceError):
        advice.settings[0].value = 7
    json.dumps(advice.to_list(), allow_nan=False)


@pytest.mark.parametrize("params", [{"advise": False}, {"min_spikes_to_cluster": 500}, {"nblocks": 0}])
def test_the_key_of_the_sort_changes_with_the_advice(params):
    """With and without advice are two sorts; saying that advice is wanted is none of its own."""
    backend = Kilosort4Backend()
    assert backend.settings(KILOSORT4.override(kilosort_params=params)) != backend.settings(KILOSORT4)
    assert backend.settings(KILOSORT4.override(kilosort_params={"advise": True})) == backend.settings(KILOSORT4)


# --------------------------------------------------------------------------------------------------- real sorts


def sort_job(folder: Path, recording: object, **params: object) -> SortJob:
    run = RunFolder(inter=folder / "inter", results=folder / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params=params, n_jobs=1)
    return SortJob(recording, output, run, config, ProgressFile(run.progress, "sort"))


def test_a_tetrode_sorts(tmp_path):
    """Half a minute of a tetrode, with which Kilosort4 fails by its defaults, gives its units, each once."""
    pytest.importorskip("kilosort")
    from spikeinterface.comparison import compare_sorter_to_ground_truth
    from spikeinterface.core import NumpySorting

    truth = simulate_recording("tetrode", n_units=3, duration_s=30.0, rate_Hz=(8, 12), seed=3)
    recording = truth.recording.save(folder=tmp_path / "recording", n_jobs=1, verbose=False, progress_bar=False)
    job = sort_job(tmp_path, recording)
    noted = Kilosort4Backend().sort(job)
    assert {one["name"] for one in noted["recommended"]} >= {"do_CAR", "nblocks", "nt", "min_spikes_to_cluster"}
    found = Kilosort4Backend().read(job.folder, recording.get_num_samples())
    labels = found.unit_ids[found.units]
    sorting = NumpySorting.from_samples_and_labels([found.samples], [labels], 20_000.0, unit_ids=found.unit_ids)
    compared = compare_sorter_to_ground_truth(truth.sorting, sorting, exhaustive_gt=True)
    assert len(compared.get_well_detected_units(0.8)) == 3
    assert found.unit_ids.size <= 4


def test_our_groups_are_those_of_upstream(tmp_path, monkeypatch):
    """With upstream's own number of spikes our loop over groups gives upstream's clusters and means, to the bit."""
    pytest.importorskip("kilosort")
    from spikelab.spike_sorting.backends.kilosort4 import steps

    truth = simulate_recording("linear", n_channels=12, duration_s=8, n_units=6, rate_Hz=(30, 40), seed=3)
    recording = truth.recording.save(folder=tmp_path / "recording", n_jobs=1, verbose=False, progress_bar=False)
    for name in ("upstream", "ours"):
        monkeypatch.setattr(steps, "UPSTREAM_LEAST", 1000 if name == "upstream" else -1)
        job = sort_job(tmp_path / name, recording, advise=False, nblocks=0, dmin=300.0, min_spikes_to_cluster=1000)
        Kilosort4Backend().sort(job)
    for name in ("spike_times", "spike_clusters", "templates", "amplitudes"):
        ours, theirs = (np.load(tmp_path / side / "inter" / "output" / f"{name}.npy") for side in ("ours", "upstream"))
        assert ours.size
        np.testing.assert_array_equal(ours, theirs)
