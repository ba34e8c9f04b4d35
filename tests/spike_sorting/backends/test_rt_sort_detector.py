"""The detection model of RT-Sort: trained on spikes, loaded as weights alone, refused for what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import REPOSITORY

from spikelab.simulation import simulate_axons, simulate_recording
from spikelab.spike_sorting import InsufficientActivityError, ModelLoadingError
from spikelab.spike_sorting.backends.rt_sort import train_detector
from spikelab.spike_sorting.backends.rt_sort.labels import Events, Extent, Labelled, read_labelled
from spikelab.spike_sorting.backends.rt_sort.model_folder import bundled_model, check_model_folder

torch = pytest.importorskip("torch")

from spikelab.spike_sorting.backends.rt_sort.detector import (  # noqa: E402 - needs torch
    Detector,
    load_detector,
    save_detector,
)
from spikelab.spike_sorting.backends.rt_sort.scoring import roc  # noqa: E402 - imports nothing that may be absent

SMALL = Extent(duration_s=4.0, n_channels=16)


def tiny(seed: int, **overrides):
    settings = {"n_channels": 36, "n_units": 8, "duration_s": 4.0, "rate_Hz": (5, 15), "peak_uV": (40, 120)}
    return simulate_axons(**{**settings, **overrides}, seed=seed)


def labelled(truth):
    return read_labelled(truth, SMALL, np.random.default_rng(0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of 120 steps on a recording of 4 s."""
    return train_detector([tiny(1)], tmp_path_factory.mktemp("models") / "new" / "model", n_steps=120, duration_s=4.0)


@pytest.fixture
def model(trained, tmp_path) -> Path:
    """A copy of it to be spoilt."""
    return shutil.copytree(trained.folder, tmp_path / "model")


# ------------------------------------------------------------------------------------------------ training


def test_training_finds_more_than_a_threshold(trained):
    """Seconds of training find more spikes of a recording never seen than a threshold or an untrained network."""
    held_out = labelled(tiny(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = Detector()
    found = {
        "trained": roc([held_out], [load_detector(trained.folder).probabilities(held_out.traces)]),
        "threshold": roc([held_out], [-held_out.traces]),
        "untrained": roc([held_out], [untrained.probabilities(held_out.traces)]),
    }
    shares = {name: curve.found_at(1.0) for name, curve in found.items()}
    assert shares["trained"] > max(shares["threshold"], shares["untrained"])


def test_the_same_seed_gives_the_same_model(tmp_path):
    """Training is repeatable to the byte, and leaves torch's own generator alone."""
    state = torch.random.get_rng_state()
    folders = [
        train_detector([tiny(1)], tmp_path / str(k), n_steps=2, seed=seed, duration_s=2.0, n_channels=8).folder
        for k, seed in enumerate((5, 5, 6))
    ]
    first, again, other = ((folder / "state_dict.pt").read_bytes() for folder in folders)
    assert first == again
    assert first != other
    assert torch.equal(state, torch.random.get_rng_state())


def test_labels_are_where_the_troughs_are():
    """A clear label lies within a sample of where the spike passes its channel, and loud channels have all of them."""
    truth = tiny(3, n_units=1, noise_uV=2.0, peak_uV=(150, 150))
    found = read_labelled(truth, Extent(duration_s=4.0, n_channels=36), np.random.default_rng(0))
    spikes = truth.sorting.get_unit_spike_train(truth.sorting.unit_ids[0])
    for channel in np.flatnonzero(-truth.templates_uV[0].min(axis=0) > 30):
        expected = spikes + truth.delays_ms[0, channel] * 20
        labels = np.sort(found.clear.samples[found.clear.channels == channel])
        inside = expected[np.abs(expected[:, None] - labels).min(axis=1) <= 1.5]
        assert len(inside) == len(labels) >= len(spikes) - 2


def test_the_unit_of_the_traces_makes_no_difference():
    """A recording without gains, or of another gain, has the labels and scaled traces that it has in microvolts."""
    truth = tiny(4, n_units=2, gain_uV=0.5)
    bare = truth.recording.select_channels(truth.recording.channel_ids)
    bare.delete_property("gain_to_uV")
    assert not bare.has_scaleable_traces()
    known, unknown = labelled(truth), labelled((bare, truth.sorting))
    np.testing.assert_allclose(unknown.traces, known.traces, atol=1e-3)
    np.testing.assert_array_equal(unknown.clear.samples, known.clear.samples)


def test_curves_count_what_is_found_and_what_is_false():
    """Of three troughs two are found before the first false detection, and none that is faint counts as false."""
    n_samples, troughs = 2000, np.array([100, 500, 900])
    score = np.zeros((1, n_samples), dtype=np.float32)
    score[0, [100, 503, 1300, 1700]] = [0.9, 0.8, 0.5, 0.7]
    zeros = np.zeros(3, dtype=np.int64)
    recording = Labelled(-score, 20_000.0, Events(zeros, troughs), Events(zeros[:1], np.array([1700])))
    curve = roc([recording], [score])
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8], atol=1e-6)
    np.testing.assert_allclose(curve.found_frac, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(curve.false_Hz, [0, 0])
    worse = score.copy()
    worse[0, 1300] = 0.85
    np.testing.assert_allclose(roc([recording], [worse]).false_Hz, [0, 10])


@pytest.mark.parametrize(
    "sources,error,match",
    [
        (list, ValueError, "at least one"),
        (lambda: [simulate_recording("tetrode", duration_s=2.0, n_units=0)], InsufficientActivityError, "no unit"),
        (lambda: [tiny(0, duration_s=2.0), tiny(0, duration_s=2.0, fs_Hz=30_000.0)], ValueError, "20000 Hz, 30000 Hz"),
        (lambda: [tiny(0, duration_s=0.5)], ValueError, "at least 1 s"),
        (lambda: [(1, 2)], ValueError, "recording, sorting"),
        (lambda: [REPOSITORY], ValueError, "results folder"),
    ],
    ids=["nothing", "silence", "two rates", "half a second", "no recording", "no results"],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path, sources, error, match):
    """Sources that cannot be used are an error that says why, and leave no folder."""
    with pytest.raises(error, match=match):
        train_detector(sources(), tmp_path / "model", n_steps=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(tmp_path):
    """A model is never written over something else."""
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ValueError, match="empty folder"):
        train_detector([tiny(1)], tmp_path, n_steps=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


# ------------------------------------------------------------------------------------------------ the files


def test_a_saved_model_is_the_same_model(tmp_path):
    """A model that is saved and loaded gives the same probabilities, but for the 16 bits of its weights."""
    traces = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    detector = Detector()
    assert sum(weights.numel() for weights in detector.parameters()) == 3049
    save_detector(detector, tmp_path)
    loaded = load_detector(tmp_path)
    np.testing.assert_allclose(loaded.probabilities(traces), detector.probabilities(traces), atol=1e-3)
    again = tmp_path / "again"
    again.mkdir()
    save_detector(loaded, again)
    assert (again / "state_dict.pt").read_bytes() == (tmp_path / "state_dict.pt").read_bytes()


def test_the_files_are_laid_out_as_rt_sort_reads_them(trained):
    """Names, shapes and numbers are those that the packages with RT-Sort were seen to write and load."""
    described = json.loads((trained.folder / "init_dict.json").read_text())
    assert described["architecture_params"] == ["20", 8, "relu", 0, 0, 0, 0]
    assert described["input_scale"] == pytest.approx(1 / 12.6)
    assert described["device"] == "cpu"
    weights = torch.load(trained.folder / "state_dict.pt", weights_only=True)
    expected = {"model.last_layer": (1, 8), "model.conv.0": (8, 1), "model.conv.2": (8, 8)}
    expected |= {"model.conv.4": (8, 8), "model.conv.6": (1, 8)}
    shapes = {f"{name}.weight": (*shape, 21) for name, shape in expected.items()}
    shapes |= {f"{name}.bias": (shape[0],) for name, shape in expected.items()}
    assert {name: tuple(value.shape) for name, value in weights.items()} == shapes
    assert torch.equal(weights["model.last_layer.weight"], weights["model.conv.6.weight"])


def test_probabilities_do_not_depend_on_what_else_is_judged():
    """Each sample is judged by the 40 around it alone, and the ends of a recording not at all."""
    traces = np.random.default_rng(1).normal(size=(3, 400)).astype(np.float32)
    detector = Detector()
    whole = detector.probabilities(traces)
    np.testing.assert_allclose(detector.probabilities(traces[1:2, 100:300])[0, 40:-40], whole[1, 140:260], atol=1e-5)
    assert not whole[:, :40].any()
    assert not whole[:, -40:].any()
    assert detector.probabilities(traces[:, :80]).shape == (3, 80)


class Hostile:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def write_hostile(folder: Path) -> None:
    weights = {f"model.{name}": value for name, value in Detector().state_dict().items()}
    torch.save({**weights, "extra": Hostile(folder / "harm")}, folder / "state_dict.pt")


def describe_other(folder: Path) -> None:
    path = folder / "init_dict.json"
    described = json.loads(path.read_text()) | {"architecture_params": ["4", 50, "relu", 0, 0, 0, 0]}
    path.write_text(json.dumps(described))


def change_weights(folder: Path, **changed) -> None:
    path = folder / "state_dict.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({**weights, **{name.replace("_", "."): value for name, value in changed.items()}}, path)


SPOILT = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no weights": (lambda folder: (folder / "state_dict.pt").unlink(), "no state_dict.pt"),
    "no description": (lambda folder: (folder / "init_dict.json").unlink(), "no init_dict.json"),
    "empty weights": (lambda folder: (folder / "state_dict.pt").write_bytes(b""), "empty file"),
    "half the weights": (
        lambda folder: (folder / "state_dict.pt").write_bytes((folder / "state_dict.pt").read_bytes()[:5000]),
        "cannot be read",
    ),
    "text for weights": (lambda folder: (folder / "state_dict.pt").write_text("weights"), "cannot be read"),
    "a description that is no JSON": (lambda folder: (folder / "init_dict.json").write_text("{"), "cannot be read"),
    "a description of nothing": (lambda folder: (folder / "init_dict.json").write_text("[]"), "has no num_channels_in"),
    "another architecture": (describe_other, "another architecture"),
    "weights of another shape": (
        lambda folder: change_weights(folder, model_conv_0_weight=torch.zeros(50, 1, 5)),
        r"expected weights of shape \[8, 1, 21\]",
    ),
    "a tensor for named weights": (
        lambda folder: torch.save(torch.zeros(3), folder / "state_dict.pt"),
        "expected named weights",
    ),
    "weights that are no numbers": (
        lambda folder: change_weights(folder, model_conv_0_bias=torch.full((8,), torch.nan)),
        "no numbers",
    ),
    "code among the weights": (write_hostile, "more than weights"),
}


@pytest.mark.parametrize("spoil,match", SPOILT.values(), ids=SPOILT)
def test_a_spoilt_model_is_refused(model, spoil, match):
    """What is wrong with a model folder is a ModelLoadingError that names it, and no code in it is run."""
    spoil(model)
    with pytest.raises(ModelLoadingError, match=match) as raised:
        load_detector(model)
    assert raised.value.model_path == str(model)
    assert not (model / "harm").exists()


@pytest.mark.parametrize("probe", ["mea", "neuropixels"])
def test_a_model_comes_with_the_package(probe):
    """There is a model for each kind of probe, of 16 kB at most, and it says how it was trained."""
    folder = bundled_model(probe)
    assert check_model_folder(folder)["sample_size"] == 200
    load_detector(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16_000
    training = json.loads((folder / "training.json").read_text())
    assert training["found_frac"] > training["found_by_threshold_frac"]
    assert training["fs_Hz"] == {"mea": 20_000.0, "neuropixels": 30_000.0}[probe]
