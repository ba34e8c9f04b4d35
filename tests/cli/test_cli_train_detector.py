"""The command that trains a detection model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikelab.simulation import simulate_axons
from spikelab.spike_sorting.descriptions import describe
from spikelab.spikedata import SpikeData

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder whose units are the true ones, with the recording that they came from."""
    truth = simulate_axons(n_channels=16, n_units=3, duration_s=3.0, rate_Hz=(10, 15))
    trains = [truth.sorting.get_unit_spike_train(unit) / 20.0 for unit in truth.sorting.unit_ids]
    folder = tmp_path_factory.mktemp("sorted") / "culture"
    folder.mkdir()
    sd = SpikeData(trains, length=3000.0, metadata={"fs_Hz": 20_000.0, "recording": describe(truth.recording)})
    sd.save(folder / "spikedata_curated.h5")
    return folder


def test_a_model_is_trained_on_results(spikelab, results, tmp_path):
    """The spikes of a results folder become a model, and the command says how good it is."""
    said = spikelab("train-detector", tmp_path / "model", results, "--steps", 3, "--seconds", 3, "--seed", 5)
    assert said.exit_code == 0, said.output
    assert "a threshold finds" in said.output
    training = json.loads((tmp_path / "model" / "training.json").read_text())
    assert (training["n_recordings"], training["n_channels"], training["n_steps"]) == (1, 16, 3)
    assert training["n_troughs"] > 100
    assert training["seed"] == 5


@pytest.mark.parametrize(
    "arguments,says", [((), "--simulated"), (("--simulated", "mea", "--seconds", 2), "empty folder")]
)
def test_a_call_that_cannot_work_is_told(spikelab, tmp_path, arguments, says):
    """Nothing to learn from, and a folder in use, are a wrong call that says what to do."""
    (tmp_path / "mine").write_text("mine")
    said = spikelab("train-detector", tmp_path, *arguments)
    assert said.exit_code == 2
    assert says in said.output
