"""The curve that tails follow, and what it leaves of a spike."""

import numpy as np
import pytest

from spikelab.simulation import add_stim_artifacts, simulate_recording
from spikelab.stim_sorting._modes import products, refined_rates, shared_rates
from spikelab.stim_sorting._tail import fit_tails, make_level

FS_HZ, N_SAMPLES, NOISE_UV = 20_000.0, 300, 8.0
AFTER_MS = np.arange(N_SAMPLES) / FS_HZ * 1000
RINGING = np.exp(-AFTER_MS / 2.5) * np.cos(2 * np.pi * 0.3 * AFTER_MS + 0.4)
FAST = np.exp(-AFTER_MS / 0.6)
OWN_MS = AFTER_MS / np.exp(0.05 * np.random.default_rng(9).standard_normal(12))[:, None]
RINGING_APART = np.exp(-OWN_MS / 2.5) * np.cos(2 * np.pi * 0.3 * OWN_MS + 0.4)


def noisy(tail, seed=0):
    """Twelve channels of different size with noise, and a spike of 120 uV on the second one after 2 ms."""
    rng = np.random.default_rng(seed)
    artifacts = np.linspace(3_000, 800, 12)[:, None] * tail
    tails = artifacts + rng.normal(0, NOISE_UV, artifacts.shape)
    tails[1] -= 120 * np.exp(-(((AFTER_MS - 2.0) / 0.15) ** 2))
    return tails, artifacts


@pytest.mark.parametrize("tail", [RINGING, FAST, RINGING_APART], ids=["ringing", "fast", "ringing, speeds differ"])
def test_a_spike_stays_on_a_tail_as_fast_as_itself(tail):
    """All channels tell how a tail decays, so that the curve takes next to nothing of a spike that one of them has."""
    tails, artifacts = noisy(tail)
    curves, _ = fit_tails(tails, np.ones(tails.shape, dtype=bool), np.full(12, NOISE_UV), FS_HZ, 3)
    assert np.abs(curves - artifacts).max() < 2.5 * NOISE_UV
    assert np.sqrt(((curves - artifacts) ** 2).mean()) < 0.4 * NOISE_UV


def test_rates_are_those_of_the_tails():
    """Frequency and time constant of an oscillation that the channels share come out within 1 %."""
    tails, _ = noisy(RINGING)
    (rate,) = shared_rates(tails, np.ones(tails.shape, dtype=bool), np.full(12, NOISE_UV), FS_HZ, 2)
    assert rate.imag * FS_HZ / (2 * np.pi) == pytest.approx(300, rel=0.01)
    assert -1000 / (rate.real * FS_HZ) == pytest.approx(2.5, rel=0.02)


def test_rates_are_refined_to_a_tenth_of_a_percent():
    """From rates 2 % off, two steps without the samples of the spike come within 0.1 % of the true ones."""
    tails, _ = noisy(RINGING)
    used = np.abs(AFTER_MS - 2.0) > 0.5
    rates = np.array([1.02 * complex(-1 / 2.5, 2 * np.pi * 0.3) / 20])
    for _ in range(2):
        rates = refined_rates(rates, tails, np.tile(used, (12, 1)), np.full(12, NOISE_UV), FS_HZ, 3)
    assert rates[0].imag * FS_HZ / (2 * np.pi) == pytest.approx(300, rel=1e-3)
    assert -1000 / (rates[0].real * FS_HZ) == pytest.approx(2.5, rel=1e-3)


def test_tails_without_size_keep_their_rates():
    """Where tails are zero, as in made-up traces, there is nothing to refine, and no error."""
    rates = np.array([complex(-0.1, 0.05)])
    some = np.ones((2, 100), dtype=bool)
    assert refined_rates(rates, np.zeros((2, 100)), some, np.ones(2), FS_HZ, 3) is rates


def test_tails_may_differ_from_channel_to_channel():
    """With tail_spread each channel's tail has a speed of its own; without, all are alike but for their size."""
    clean = simulate_recording("tetrode", duration_s=1.0).recording
    for spread, alike in ((0.0, True), (0.2, False)):
        truth = add_stim_artifacts(clean, [500.0], amplitude_uV=4_000, tail_spread=spread)
        added = (truth.recording.get_traces().astype(float) - clean.get_traces())[10_020:10_100]
        scaled = added / added[0]
        assert bool(np.ptp(scaled, axis=1).max() < 0.02) == alike


@pytest.mark.parametrize("fs_Hz", [20_000.0, 30_000.0])
def test_long_windows_take_little_memory(fs_Hz):
    """All curves of a tail of 300 ms together are 120 functions at most, and 200 MB; short ones are as they were."""
    make_level.cache_clear()
    n_functions, n_bytes = [], 0
    for number in range(6):
        level = make_level(round(0.3025 * fs_Hz), fs_Hz, 3, number)
        n_functions.append(level.basis.shape[1])
        n_bytes += level.basis.nbytes + level.projection.nbytes + level.products.values.nbytes
    make_level.cache_clear()
    assert n_functions == sorted(n_functions)
    assert n_functions[-1] <= 120
    assert n_bytes < 200e6
    assert make_level(round(0.0325 * fs_Hz), fs_Hz, 3, 5).basis.shape[1] == 4 + 20 + 22


def test_weights_make_normal_equations():
    """Products of the pairs that overlap give the weighted normal equations of all functions, pieces or not."""
    weights = np.random.default_rng(0).random((3, N_SAMPLES))
    for basis in (make_level(N_SAMPLES, FS_HZ, 3, 4).basis, np.random.default_rng(1).normal(size=(N_SAMPLES, 5))):
        expected = np.einsum("ns,si,sj->nij", weights, basis, basis)
        np.testing.assert_allclose(products(basis).weighted(weights), expected, atol=1e-9)
