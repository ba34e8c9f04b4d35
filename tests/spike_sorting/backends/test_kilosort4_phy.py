"""Phy's own library and SpikeInterface read what a sort with Kilosort4 leaves, also after it was moved."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile
from spikelab.spikedata import SpikeData

pytest.importorskip("kilosort")

N_CHANNELS, FS_HZ = 12, 20_000.0


def _sorted_in(session: Path, recording: Any) -> SimpleNamespace:
    """Sort in `session`, put the results where a run puts them, and move it all somewhere else."""
    run = RunFolder(inter=session / "inter", results=session / "results")
    folder = run.inter / "partial"
    folder.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params={"nblocks": 0}, n_jobs=1)
    job = SortJob(recording, folder, run, config, ProgressFile(run.progress, "sort"))
    Kilosort4Backend().sort(job)
    run.sorter_output.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(run.sorter_output)
    moved = session.with_name(f"{session.name} moved")
    session.rename(moved)
    results = moved / run.sorter_output.relative_to(session)
    sorting = Kilosort4Backend().read(results, recording.get_num_samples())
    return SimpleNamespace(results=results, sorting=sorting, run=RunFolder(moved / "inter", moved / "results"))


@pytest.fixture(scope="module")
def truth():
    return simulate_recording("linear", n_channels=N_CHANNELS, duration_s=8, n_units=6, rate_Hz=(8, 15), fs_Hz=FS_HZ)


@pytest.fixture(scope="module")
def done(tmp_path_factory, truth):
    """A sort of a flat file, which is read where it lies; file and results were moved together afterwards."""
    session = tmp_path_factory.mktemp("phy") / "session"
    return _sorted_in(session, truth.recording.save(folder=session / "recording", verbose=False))


@pytest.fixture
def model(done):
    """What Phy itself makes of params.py."""
    model_module = pytest.importorskip("phylib.io.model")
    opened = model_module.load_model(done.results / "params.py")
    yield opened
    opened.close()


def test_phy_has_our_spikes(model, done):
    """Times, clusters and templates in Phy are those of the sort."""
    np.testing.assert_array_equal(model.spike_samples, done.sorting.samples)
    np.testing.assert_array_equal(model.spike_clusters, done.sorting.unit_ids[done.sorting.units])
    assert model.n_templates >= done.sorting.unit_ids.size > 0
    assert (model.sample_rate, model.n_channels) == (FS_HZ, N_CHANNELS)


def test_phy_has_the_data(model, truth):
    """Phy shows the recording's own samples, and the waveforms of spikes, although everything was moved."""
    np.testing.assert_array_equal(model.traces[1000:2000], truth.recording.get_traces(start_frame=1000, end_frame=2000))
    waveforms = model.get_waveforms([10, 11], np.arange(N_CHANNELS))
    assert waveforms.shape[::2] == (2, N_CHANNELS)
    assert np.ptp(waveforms) > 0


def test_phy_has_geometry_features_and_labels(model, truth, done):
    """Positions, features, the templates of a unit, and Kilosort's labels are there for Phy's views."""
    np.testing.assert_array_equal(model.channel_positions, truth.recording.get_channel_locations())
    assert model.get_features([0, 1], [0, 1]).shape[:2] == (2, 2)
    assert model.get_template(int(done.sorting.unit_ids[0])).template.shape[0] > 0
    labels = [model.metadata["KSLabel"][int(unit)] for unit in done.sorting.unit_ids]
    assert labels == done.sorting.unit_properties["ks_label"]


def test_spikeinterface_reads_the_results(done):
    """SpikeInterface's read_kilosort has the same units, trains and labels."""
    from spikeinterface.extractors import read_kilosort

    sorting = read_kilosort(done.results)
    assert sorting.sampling_frequency == FS_HZ
    assert sorted(sorting.unit_ids.tolist()) == done.sorting.unit_ids.tolist()
    for number, unit in enumerate(done.sorting.unit_ids):
        train = done.sorting.samples[done.sorting.units == number]
        np.testing.assert_array_equal(sorting.get_unit_spike_train(unit), train)
    assert set(sorting.get_property("KSLabel")) <= {"good", "mua"}


def test_the_results_are_a_spikedata(done, model, truth):
    """A folder of Kilosort4 comes in with its spikes, labels, data and the templates that Phy shows."""
    sd = SpikeData.from_phy(done.results)
    assert (sd.length, sd.raw_data.shape) == (8000.0, (N_CHANNELS, 160_000))
    assert sd.get_neuron_attribute("unit_id").tolist() == done.sorting.unit_ids.tolist()
    for unit, entries in enumerate(sd.neuron_attributes):
        np.testing.assert_allclose(sd.train[unit] * 20.0, done.sorting.samples[done.sorting.units == unit])
        assert entries["KSLabel"] in {"good", "mua"}
        template = model.get_template(entries["unit_id"])
        assert template.best_channel == np.ptp(entries["template_full"], axis=0).argmax()
        np.testing.assert_allclose(entries["template_full"][:, template.channel_ids], template.template, rtol=1e-3)
    assert (sd.compare_ground_truth(truth.sorting)["accuracy"] > 0.8).sum() >= 3
    _, metrics = sd.compute_waveform_metrics()
    assert metrics["snr"].min() > 1


def test_paths_for_phy_are_relative(done):
    """No path in params.py is that of a machine: data and results move together."""
    text = (done.results / "params.py").read_text(encoding="utf-8")
    params: dict[str, Any] = {}
    exec(text, params)
    assert not Path(params["dat_path"]).is_absolute()
    assert (done.results / params["dat_path"]).resolve().is_file()
    assert str(done.results.parents[2]) not in text


def test_phy_opens_results_without_data(done, tmp_path):
    """Results alone, whose data are gone, still open: Phy then shows no traces."""
    model_module = pytest.importorskip("phylib.io.model")
    alone = shutil.copytree(done.results, tmp_path / "alone")
    opened = model_module.load_model(alone / "params.py")
    np.testing.assert_array_equal(opened.spike_samples, done.sorting.samples)
    assert opened.traces is None
    opened.close()


def test_phy_has_a_copy_made_for_the_sort(tmp_path):
    """A recording that is no flat file is copied into the run's folder, and Phy finds the copy after a move, too."""
    model_module = pytest.importorskip("phylib.io.model")
    # phylib itself cannot open results of a single unit.
    lazy = simulate_recording("linear", n_channels=8, duration_s=5, n_units=4, rate_Hz=(8, 15), fs_Hz=FS_HZ).recording
    copied = _sorted_in(tmp_path / "session", lazy)
    opened = model_module.load_model(copied.results / "params.py")
    np.testing.assert_array_equal(opened.traces[:1000], lazy.get_traces(end_frame=1000))
    opened.close()
