"""Merging clusters that are one unit, by correlograms without the lags at which two spikes are taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from kilosort import CCG, template_matching
from scipy.stats import poisson

from spikelab.spike_sorting.backends.kilosort4.kernels.replacement import replaced

_ALIKE = 0.97
"""Cosine of two mean waveforms, at their best shift, from which on they are one unit unless their spikes say no."""
_SIMILAR = 0.5
"""The same from which on they are one unit if their spikes say so; Kilosort4's number."""
_LEVEL = 0.05
"""Probability that counts as evidence; Kilosort4's number."""
_LONGEST_MS = 10
_TBIN_S, _N_BINS = 1e-3, 500

_Spikes = npt.NDArray[np.float64]


def merge_clusters(
    ops: dict[str, Any],
    means: torch.Tensor,
    clusters: npt.NDArray[np.int32],
    st: npt.NDArray[np.float64],
    tF: torch.Tensor,
    *,
    censored_lag_ms: float,
    device: torch.device,
) -> Any:
    """Return what ``kilosort.template_matching.merging_function`` returns, with a verdict on pairs of its own.

    Kilosort4 takes two clusters for one unit when their spikes avoid each other at any lag of up to 1 to 10 ms. Two
    units beside each other do so at lags below about 1 ms, as one of two spikes that overlap is seldom found. Those
    lags are left out. Few spikes show nothing: waveforms that are alike are then enough.

    Parameters
    ----------
    ops, means, clusters, st, tF, device
        As upstream's.
    censored_lag_ms : float
        Lags up to this are left out (ms).
    """
    upstream = CCG.check_CCG
    values: Any = (means, clusters, None, st, tF)
    for similarity, verdict in ((_ALIKE, _may_be_one), (_SIMILAR, is_evidence)):
        with replaced(CCG, "check_CCG", _judging(upstream, verdict, censored_lag_ms)):
            means, clusters, _, st, tF = values
            values = template_matching.merging_function(
                ops, means, clusters, st, tF, r_thresh=similarity, device=device, check_dt=True
            )
    return values


def _judging(upstream: Callable[..., Any], verdict: Callable[[_Spikes, _Spikes, float], bool], ms: float) -> Any:
    def check(st1: _Spikes, st2: _Spikes | None = None, **settings: Any) -> tuple[bool, bool, float]:
        if st2 is None:
            alone: tuple[bool, bool, float] = upstream(st1, **settings)
            return alone
        return False, verdict(*avoided(st1, st2, ms), settings["ccg_threshold"]), 0.0

    return check


def avoided(times_s: _Spikes, others_s: _Spikes, censored_lag_ms: float) -> tuple[_Spikes, _Spikes]:
    """Return how many pairs of spikes are at lags from `censored_lag_ms` to some longer ones, and by chance.

    Parameters
    ----------
    times_s, others_s : ndarray, shape (n_spikes,), float64
        Spike times of two clusters (s).
    censored_lag_ms : float
        Lags up to this are left out (ms).

    Returns
    -------
    found, expected : ndarray, shape (n_lags,), float64
        Pairs, and those that chance gives: the densest of lags from 10 to 50 ms on either side, and of all beyond.
    """
    counts, _ = CCG.compute_CCG(times_s, others_s, nbins=_N_BINS, tbin=_TBIN_S)
    lags_ms = np.abs(np.arange(-_N_BINS, _N_BINS + 1))
    sides = (counts[_N_BINS + 10 : _N_BINS + 50], counts[_N_BINS - 50 : _N_BINS - 10], counts[lags_ms >= 250])
    chance = max(side.mean() for side in sides)
    first = int(np.ceil(censored_lag_ms)) + 1
    limits = np.arange(first + 1, _LONGEST_MS + 1)
    found = np.array([counts[(lags_ms >= first) & (lags_ms <= limit)].sum() for limit in limits])
    return found, chance * 2.0 * (limits - first + 1)


def is_evidence(found: _Spikes, expected: _Spikes, share: float) -> bool:
    """Return whether the spikes avoid each other, which two units do not."""
    return bool(((found < share * expected) & (poisson.cdf(found, expected) < _LEVEL / len(found))).any())


def contradicts(found: _Spikes, expected: _Spikes, share: float) -> bool:
    """Return whether the spikes are together at short lags, more often than those of one unit are."""
    return bool(poisson.sf(found[0] - 1, share * expected[0]) < _LEVEL)


def _may_be_one(found: _Spikes, expected: _Spikes, share: float) -> bool:
    return not contradicts(found, expected, share)
