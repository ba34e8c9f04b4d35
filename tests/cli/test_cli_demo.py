"""The demo: what it simulates, and how it judges."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spikelab.cli.demo import Plate, Score, compare_with_truth, length_s, read_truth, simulate
from spikelab.cli.output import make_console
from spikelab.spikedata import SpikeData

FS_HZ = 20_000.0


def a_truth(n_units: int, seed: int = 0):
    """True spikes of units that fire 20 times a second for 10 s."""
    from spikeinterface.core import NumpySorting

    rng = np.random.default_rng(seed)
    samples = [np.sort(rng.choice(np.arange(0, 200_000, 100), 200, replace=False)) for _ in range(n_units)]
    labels = [np.full(200, unit) for unit in range(n_units)]
    order = np.argsort(np.concatenate(samples), kind="stable")
    return NumpySorting.from_samples_and_labels(
        [np.concatenate(samples)[order]], [np.concatenate(labels)[order]], FS_HZ, unit_ids=np.arange(n_units)
    )


def trains_ms(truth, units):
    return [truth.get_unit_spike_train(unit) / FS_HZ * 1000 for unit in units]


def test_a_sorting_is_scored_by_the_true_units_that_it_matches():
    """Of four true units one is kept whole, one with a tenth of its spikes missing, one half, and one not at all."""
    truth = a_truth(4)
    whole, most, half = trains_ms(truth, [0, 1, 2])
    kept = SpikeData([whole, most[20:], half[::2]], length=10_000.0)
    assert compare_with_truth(truth, kept, 7, FS_HZ) == Score(n_true=4, n_found=7, n_kept=3, n_matched=2)


def test_nothing_kept_matches_nothing():
    """A sort whose units all fail curation has a score, not an error."""
    assert compare_with_truth(a_truth(2), SpikeData([], length=10_000.0), 5, FS_HZ) == Score(2, 5, 0, 0)


@pytest.mark.parametrize("asked_s, quick, seconds", [(None, False, 60.0), (None, True, 30.0), (12.5, False, 12.5)])
def test_a_well_is_as_long_as_is_asked_for(asked_s, quick, seconds):
    """A minute, half of it with --quick, or what --duration says."""
    assert length_s(asked_s, quick=quick) == seconds


@pytest.mark.parametrize(
    "options, says", [(("--quick", "--duration", 30), "Leave one out"), (("--duration", 5), "--duration")]
)
def test_lengths_that_cannot_be_are_refused(spikelab, tmp_path, options, says):
    """Two lengths, and one that is too short to sort, are a wrong call; nothing is simulated."""
    said = spikelab("demo", "--folder", tmp_path / "demo", *options)
    assert said.exit_code == 2
    assert says in said.output
    assert not (tmp_path / "demo").exists()


@pytest.fixture
def small(tmp_path) -> Plate:
    return Plate(tmp_path / "demo", duration_s=0.5, n_channels=9, n_units=3)


def test_the_simulated_plate_is_made_once(small):
    """A second call leaves recording and truth as they are."""
    console = make_console()
    console.file = io.StringIO()
    simulate(small, console)
    before = {path.name: path.stat().st_mtime_ns for path in small.folder.iterdir()}
    assert set(before) == {"demo_0.5s.raw.h5", "demo_0.5s.truth.npz"}
    simulate(small, console)
    assert {path.name: path.stat().st_mtime_ns for path in small.folder.iterdir()} == before
    assert "there already" in console.file.getvalue()


def test_the_simulated_plate_is_the_same_everywhere(small, tmp_path):
    """Two machines simulate the same samples and the same truth."""
    import h5py

    other = Plate(tmp_path / "other", small.duration_s, small.n_channels, small.n_units)
    console = make_console()
    console.file = io.StringIO()
    samples = []
    for plate in (small, other):
        simulate(plate, console)
        with h5py.File(plate.recording) as file:
            samples.append(file["wells/well001/rec0000/groups/routed/raw"][:])
    assert samples[0].dtype == np.uint16
    assert abs(float(samples[0].mean()) - 512) < 5
    np.testing.assert_array_equal(*samples)
    trains = [read_truth(plate, "well001").to_spike_vector() for plate in (small, other)]
    assert len(trains[0]) > 0
    np.testing.assert_array_equal(*trains)


def test_without_kilosort_the_demo_says_how_to_install_it(spikelab, monkeypatch, tmp_path):
    """Nothing is simulated on a machine that cannot sort; the exit code is 3."""
    from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend

    monkeypatch.setattr(Kilosort4Backend, "installed", lambda self, config: None)
    result = spikelab("demo", "--folder", tmp_path / "demo")
    assert result.exit_code == 3
    assert "pip install" in result.stderr
    assert not (tmp_path / "demo").exists()
