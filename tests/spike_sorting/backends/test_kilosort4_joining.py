"""Clusters are merged when their spikes say so, and not because two spikes that overlap are taken for one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("kilosort")

from kilosort import CCG

from spikelab.spike_sorting.backends.kilosort4.kernels.joining import avoided, contradicts, is_evidence

SHARE = 0.25
"""Kilosort4's own ccg_threshold."""


def refractory(rate_Hz: float, seconds: float, seed: int) -> np.ndarray:
    """Return times (s) of a unit that is refractory for 4 ms."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(0.004 + rng.exponential(1 / rate_Hz, int(2 * rate_Hz * seconds) + 20))
    return times[times < seconds]


def two_units_that_hide_each_other(rate_Hz: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times of independent units, without those of the second that overlap with one of the first."""
    one, two = refractory(rate_Hz, seconds, 1), refractory(rate_Hz, seconds, 2)
    nearest = np.abs(two[:, None] - one).min(axis=1)
    return one, two[nearest > 0.0015]


def halves(rate_Hz: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of one unit, shared out at random."""
    times = refractory(rate_Hz, seconds, 3)
    is_first = np.random.default_rng(4).random(len(times)) < 0.5
    return times[is_first], times[~is_first]


def test_units_that_hide_each_other_stay_two():
    """Two units that miss each other's spikes within 1 ms are one for Kilosort4's test, and two for ours."""
    one, two = two_units_that_hide_each_other(12.0, 60.0)
    assert CCG.check_CCG(one, two)[1]
    found, expected = avoided(one, two, 1.0)
    assert not is_evidence(found, expected, SHARE)
    assert contradicts(found, expected, SHARE)


def test_halves_of_a_unit_are_one():
    """The spikes of one unit avoid each other for its refractory period, which is evidence."""
    found, expected = avoided(*halves(20.0, 60.0), 1.0)
    assert is_evidence(found, expected, SHARE)
    assert not contradicts(found, expected, SHARE)


@pytest.mark.parametrize("pair", [halves(1.0, 60.0), two_units_that_hide_each_other(0.5, 60.0)])
def test_few_spikes_show_nothing(pair):
    """From a few dozen spikes neither is concluded."""
    found, expected = avoided(*pair, 1.0)
    assert not is_evidence(found, expected, SHARE)
    assert not contradicts(found, expected, SHARE)
