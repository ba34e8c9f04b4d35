"""Simulated action potentials travel along axons as they are said to."""

from __future__ import annotations

import numpy as np
import pytest
import spikeinterface.core as si
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.simulation import simulate_axons
from spikelab.simulation._propagating import AxonalRecording


def simulated(**overrides):
    return simulate_axons(**{"n_channels": 100, "duration_s": 1.0, "n_units": 3, **overrides})


units = {
    "seed": st.integers(0, 2**32),
    "velocity_m_per_s": st.floats(0.2, 2.0).map(lambda v: (v, v)),
    "length_um": st.floats(50, 1500).map(lambda length: (length, length)),
    "fs_Hz": st.sampled_from([20_000.0, 30_000.0]),
    "layout": st.sampled_from(["mea", "neuropixels1", "linear"]),
}


@settings(max_examples=10, deadline=None)
@given(**units)
def test_the_trough_comes_when_the_spike_has_travelled_there(fs_Hz, **drawn):
    """On each channel the trough is at distance along the axon over velocity after that on the root, to a sample."""
    truth = simulated(fs_Hz=fs_Hz, duration_s=0.01, **drawn)
    for unit, root in enumerate(truth.root_channels):
        troughs = truth.templates_uV[unit].argmin(axis=0)
        velocity = truth.axons[unit].velocity_m_per_s
        travelled_ms = truth.distance_um[unit] / (1000 * velocity)
        np.testing.assert_allclose((troughs - troughs[root]) / fs_Hz * 1000, travelled_ms, atol=1000 / fs_Hz)
        np.testing.assert_allclose(truth.delays_ms[unit], travelled_ms)
        assert truth.templates_uV[unit].min() == pytest.approx(-truth.peak_uV[unit], rel=1e-5)
        assert truth.templates_uV[unit, :, root].min() == truth.templates_uV[unit].min()


@settings(max_examples=10, deadline=None)
@given(**units)
def test_an_axon_is_a_tree_on_which_the_way_grows(**drawn):
    """Each point lies a step behind the one before it, the way grows by that step, and no branch is too long."""
    for axon in simulated(duration_s=0.01, **drawn).axons:
        first, later = axon.parent[0], axon.parent[1:]
        assert first == -1
        assert (later >= 0).all()
        assert (later < np.arange(1, len(axon.parent))).all()
        steps_um = np.linalg.norm(axon.points_um[1:] - axon.points_um[later], axis=1)
        np.testing.assert_allclose(axon.distance_um[1:] - axon.distance_um[later], steps_um)
        assert axon.distance_um.max() <= drawn["length_um"][1]
        assert (axon.thickness[1:] <= axon.thickness[later]).all()


def test_later_pieces_are_seen_later_and_fainter():
    """Of channels that see an axon well, one that sees a later piece sees it later, and fainter than at the start."""
    truth = simulate_axons(n_channels=400, n_units=6, duration_s=0.01, length_um=(300, 300), seed=3)
    for unit in range(6):
        clear = truth.templates_uV[unit].min(axis=0) < -5
        order = np.argsort(truth.distance_um[unit, clear])
        delays_ms = truth.delays_ms[unit, clear][order]
        assert (np.diff(delays_ms) >= 0).all()
        assert delays_ms[-1] > 0.1
        far = truth.distance_um[unit] > 100
        assert truth.templates_uV[unit][:, far].min() > -0.5 * truth.peak_uV[unit]


def test_spikes_are_where_the_truth_says():
    """Without noise, the samples around a spike are the unit's template, with its trough on the root channel."""
    truth = simulated(n_units=1, noise_uV=0.0, gain_uV=0.5, rate_Hz=(2, 2), seed=1)
    frame = truth.sorting.get_unit_spike_train(truth.sorting.unit_ids[0])[0]
    template_uV, root = truth.templates_uV[0], truth.root_channels[0]
    trough = template_uV[:, root].argmin()
    seen_uV = truth.recording.get_traces(
        start_frame=frame - trough, end_frame=frame - trough + len(template_uV), return_in_uV=True
    )
    np.testing.assert_allclose(seen_uV, template_uV, atol=0.2501)


def test_same_seed_same_bytes():
    """The same arguments give the same samples, spikes and axons, also in parts and from JSON; another seed others."""
    first, again, other = (simulated(seed=seed) for seed in (5, 5, 6))
    samples = first.recording.get_traces()
    assert samples.tobytes() == again.recording.get_traces().tobytes()
    np.testing.assert_array_equal(first.sorting.to_spike_vector(), again.sorting.to_spike_vector())
    np.testing.assert_array_equal(first.axons[0].points_um, again.axons[0].points_um)
    assert not np.array_equal(samples, other.recording.get_traces())
    copy = si.load(first.recording.to_dict())
    assert isinstance(copy, AxonalRecording)
    np.testing.assert_array_equal(copy.get_traces(start_frame=700, end_frame=900), samples[700:900])


def test_shapes_agree():
    """Recording, sorting, templates, delays and axons speak of the same channels and units; no units are no error."""
    for n_units in (3, 0):
        truth = simulated(n_units=n_units, duration_s=0.05)
        assert truth.recording.get_traces().shape == (1000, 100)
        assert truth.templates_uV.shape[::2] == truth.delays_ms.shape == truth.distance_um.shape == (n_units, 100)
        assert len(truth.axons) == len(truth.root_channels) == truth.sorting.get_num_units() == n_units


def test_branching_has_an_end():
    """However long an axon is and however often it branches, it stays of a size that can be computed."""
    truth = simulated(duration_s=0.01, n_units=1, length_um=(3000, 3000), branch_interval_um=20)
    assert len(truth.axons[0].points_um) < 20_000


@pytest.mark.parametrize(
    "wrong", [{"velocity_m_per_s": (0, 1)}, {"length_um": (5, 2)}, {"branch_interval_um": 1.0}, {"fs_Hz": 1.0}]
)
def test_what_cannot_be_is_refused(wrong):
    """A value outside of what is documented is a ValueError that names it."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        simulated(**wrong)
