"""The curve that an artifact's tail follows: the stiffest one that leaves nothing but noise and spikes.

First one polynomial, then with it the exponentials that all channels share, exactly or nearly, then ever shorter pieces
of polynomials.

Every tail has the same number of samples, so that one projection serves all channels. Spikes that ride on the tail
are left out of the fit, sample by sample, by weights of 0; tails cut short by the next pulse are as well.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, Mask
from spikelab.stim_sorting._modes import Products, products, refined_rates, shared_rates, strongest_tails, tail_basis

_KNOTS_MS = (
    (),
    (1.5, 4.0),
    (0.6, 1.4, 2.6, 4.5, 7.0),
    (0.3, 0.6, 1.0, 1.5, 2.1, 2.9, 3.9, 5.2, 7.0),
    (0.4, 0.8, 1.2, 1.7, 2.2, 2.7, 3.2, 3.8, 4.4, 5.0, 5.8, 6.6, 7.5, 8.5),
    (0.2, 0.4, 0.6, 0.8, 1.1, 1.4, 1.8, 2.2, 2.6, 3.0, 3.5, 4.0, 4.5, 5.0, 5.6, 6.2, 6.8, 7.5, 8.2, 9.0),
)
"""Where the pieces of the curve meet: the polynomial itself first, then pieces that are short where tails are steep."""
_KNOT_SPACING_MS = (float("inf"), 6.0, 4.0, 2.5, 1.5, 1.0)
"""Spacing beyond those, in longer windows."""
_KNOT_SPACING_FRAC = 0.04
"""Spacing as a fraction of the time since those, once that is more: late parts of a tail are slow."""
_SPIKE_SD = 4.5
"""A sample this far from the curve belongs to a spike."""
_SPIKE_BEFORE_MS, _SPIKE_AFTER_MS = 0.3, 0.7
"""What else of the spike is left out of the fit."""
_ANCHOR_MS = 0.25
"""What is never left out."""
_MAX_SPIKE_SHARE = 0.35
_LONGEST_SPIKE_MS, _LONGEST_FIRST_SPIKE_MS = 1.2, 0.6
"""If more than this of the tail is far from the curve, or a longer stretch, or its begin, then the curve is wrong."""
_BLOCK_MS = 0.4
_MISFITS = ((slice(0, None), 1.3), (slice(0, 8), 2.0), (slice(8, 25), 1.6), (slice(25, None), 1.6))
_EARLY_MISFIT = 4.0
"""Median of the blocks' squared averages in parts of the tail, in units of their standard error: spikes that were not
left out concern a few blocks, a curve that is too stiff concerns most; and their mean in the first blocks."""
_CLEARLY_LESS = 0.6
_N_ROUNDS = 4
_N_REFINED = 2
"""How often shared rates are refined: spikes move the first guess."""
_RIDGE = 1e-6
_SMOOTHING = 3e-4


@dataclass(frozen=True)
class Pieces:
    """The curve in pieces, by its number in `_KNOTS_MS`."""

    number: int


@dataclass(frozen=True)
class Shared:
    """Exponentials that the tails share, an oscillation counting as two, and their derivatives by the rates."""

    n_exponentials: int
    n_derivatives: int = 0


_STEPS: tuple[Pieces | Shared, ...] = (
    Pieces(0),
    Shared(2),
    Shared(2, n_derivatives=2),
    Shared(4),
    *(Pieces(number) for number in range(1, len(_KNOTS_MS))),
)
"""What is tried, in order. One oscillation, or two decays; the same where channels differ; then twice as many."""


@dataclass(frozen=True, eq=False)
class Level:
    """One stiffness of the curve.

    Attributes
    ----------
    basis : ndarray, shape (n_samples, n_functions)
        Its functions.
    projection : ndarray, shape (n_samples, n_functions)
        Gives the coefficients of whole tails.
    products : Products
        From which weights make normal equations.
    smoothing : ndarray, shape (n_functions, n_functions)
        A little stiffness, for where no samples are left.
    """

    basis: Floats
    projection: Floats
    products: Products
    smoothing: Floats


@lru_cache(maxsize=64)
def make_level(n_samples: int, fs_Hz: float, order: int, number: int) -> Level:
    """Return one stiffness of the curve for tails of `n_samples`."""
    from scipy.interpolate import BSpline

    length_ms = n_samples / fs_Hz * 1000
    inner = [knot for knot in _KNOTS_MS[number] if knot < 0.9 * length_ms]
    inner += _late_knots(max(inner, default=0.0), length_ms, _KNOT_SPACING_MS[number])
    knots = np.r_[[0.0] * (order + 1), inner, [length_ms] * (order + 1)]
    times_ms = np.minimum((np.arange(n_samples) + 0.5) / fs_Hz * 1000, length_ms)
    basis = BSpline.design_matrix(times_ms, knots, order).toarray()
    n_functions = basis.shape[1]
    bends = np.diff(np.eye(n_functions), n=min(3, n_functions - 1), axis=0)
    smoothing = _SMOOTHING * n_samples / n_functions * (bends.T @ bends + 1e-3 * np.eye(n_functions))
    projection = basis @ np.linalg.inv(basis.T @ basis + smoothing)
    return Level(basis, projection, products(basis), smoothing)


def _late_knots(last_ms: float, length_ms: float, spacing_ms: float) -> list[float]:
    """Return the knots of longer windows, after those that are listed."""
    if not np.isfinite(spacing_ms):
        return []
    begin_ms = max(last_ms, 10.0 - spacing_ms)
    knots: list[float] = []
    knot_ms, step_ms = begin_ms + spacing_ms, spacing_ms
    while knot_ms < length_ms - 0.5 * step_ms:
        knots.append(knot_ms)
        step_ms = max(spacing_ms, _KNOT_SPACING_FRAC * (knot_ms - begin_ms))
        knot_ms += step_ms
    return knots


def _shared_level(tails: Floats, known: Mask, noise: Floats, fs_Hz: float, order: int, step: Shared) -> Level | None:
    """Return the polynomial and the exponentials that the tails share, or None if they share none."""
    rates = shared_rates(tails, known, noise, fs_Hz, step.n_exponentials)
    if rates.size == 0:
        return None
    some = strongest_tails(tails, known, noise, fs_Hz)
    whole: Mask = np.all(known[some], axis=1)
    for _ in range(_N_REFINED):
        level = _level_of(tail_basis(rates, tails.shape[1], order, 0))
        _, used = _robust_fit(tails[some], known[some], whole, noise[some], level, fs_Hz)
        rates = refined_rates(rates, tails[some], used, noise[some], fs_Hz, order)
    return _level_of(tail_basis(rates, tails.shape[1], order, step.n_derivatives))


def _level_of(basis: Floats) -> Level:
    """Return the level of orthonormal functions."""
    return Level(basis, basis / (1 + _RIDGE), products(basis), _RIDGE * np.eye(basis.shape[1]))


def fit_tails(tails: Floats, known: Mask, noise: Floats, fs_Hz: float, order: int) -> tuple[Floats, Floats]:
    """Return the curve that each tail follows, and the tail's distance from it.

    Parameters
    ----------
    tails : ndarray, shape (n_tails, n_samples), float
        Samples, from where saturation ended; what is not `known` counts for nothing.
    known : ndarray, shape (n_tails, n_samples), bool
        Samples that belong to the tail.
    noise : ndarray, shape (n_tails,), float
        Standard deviation of the noise.
    fs_Hz : float
        Sampling rate (Hz).
    order : int
        Order of the polynomial.

    Returns
    -------
    curves, residuals : ndarray, shape (n_tails, n_samples), float64
    """
    tails = np.where(known, tails, 0.0)
    curves = np.zeros(tails.shape)
    whole: Mask = np.all(known, axis=1)
    # Where there is nothing but noise, nothing is taken away.
    used = _without_spikes(tails, known, noise, fs_Hz)
    pending = np.flatnonzero(~(_is_noise(tails, used, noise, fs_Hz) & _is_spikes(tails, known, used, noise, fs_Hz)))
    for step in _STEPS:
        if pending.size == 0:
            break
        level: Level | None
        if isinstance(step, Shared):
            level = _shared_level(tails[pending], known[pending], noise[pending], fs_Hz, order, step)
        else:
            level = make_level(tails.shape[1], fs_Hz, order, step.number)
        if level is None:
            continue
        fitted, used = _robust_fit(tails[pending], known[pending], whole[pending], noise[pending], level, fs_Hz)
        curves[pending] = fitted
        left = np.where(known[pending], tails[pending] - fitted, 0.0)
        good = _is_noise(left, used, noise[pending], fs_Hz)
        pending = pending[~(good & _is_spikes(left, known[pending], used, noise[pending], fs_Hz))]
    if pending.size:
        # No curve leaves only noise and spikes: the one through all samples, unless that leaves about as much.
        level = make_level(tails.shape[1], fs_Hz, order, len(_KNOTS_MS) - 1)
        plain = _weighted(tails[pending], known[pending], level)
        left, left_plain = (
            np.abs(np.where(known[pending], tails[pending] - one, 0.0)).sum(axis=1) for one in (curves[pending], plain)
        )
        curves[pending] = np.where((left_plain < _CLEARLY_LESS * left)[:, None], plain, curves[pending])
    return curves, np.where(known, tails - curves, 0.0)


def _robust_fit(
    tails: Floats, known: Mask, whole: Mask, noise: Floats, level: Level, fs_Hz: float
) -> tuple[Floats, Mask]:
    """Return curves that spikes do not pull, and the samples that decided them."""
    curves = np.empty(tails.shape)
    curves[whole] = (tails[whole] @ level.projection) @ level.basis.T
    curves[~whole] = _weighted(tails[~whole], known[~whole], level)
    used = known.copy()
    # The first fit has taken a part of each spike with it: what is left of it counts as one sooner.
    limits = np.linspace(0.75, 1.0, _N_ROUNDS) * _SPIKE_SD
    changed = np.arange(len(tails))
    for limit in limits:
        if changed.size == 0:
            break
        away = _without_spikes(
            tails[changed] - curves[changed], known[changed], noise[changed], fs_Hz, limit
        )  # fmt: skip
        moved = (away != used[changed]).any(axis=1)
        changed, away = changed[moved], away[moved]
        used[changed] = away
        curves[changed] = _weighted(tails[changed], away, level)
    return curves, used


def _weighted(tails: Floats, used: Mask, level: Level) -> Floats:
    """Return least-squares curves through the samples in use."""
    weights = used.astype(np.float64)
    normal = level.products.weighted(weights) + level.smoothing
    right = (weights * tails) @ level.basis
    coefficients = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    curves: Floats = coefficients @ level.basis.T
    return curves


def _without_spikes(residuals: Floats, known: Mask, noise: Floats, fs_Hz: float, limit: float = _SPIKE_SD) -> Mask:
    """Return the known samples that are not near a sample far from the curve."""
    # What comes first holds the curve where it is steepest, and nothing before it does.
    anchor = slice(0, max(1, round(_ANCHOR_MS * fs_Hz / 1000)))
    far = (np.abs(residuals) > limit * noise[:, None]) & known
    far[:, anchor] = False
    rows = np.flatnonzero(far.any(axis=1))
    used = known.copy()
    if rows.size:
        before, after = (max(1, round(ms * fs_Hz / 1000)) for ms in (_SPIKE_BEFORE_MS, _SPIKE_AFTER_MS))
        used[rows] &= ~spread(far[rows], before, after)
        used[:, anchor] = known[:, anchor]
    return used


def spread(mask: Mask, before: int, after: int) -> Mask:
    """Return `mask` with each true sample stretched over `before` samples before and `after` after it."""
    counts = np.cumsum(np.pad(mask, ((0, 0), (after + 1, before))), axis=1, dtype=np.int32)
    stretched: Mask = counts[:, before + after + 1 :] > counts[:, : -before - after - 1]
    return stretched


def _is_spikes(residuals: Floats, known: Mask, used: Mask, noise: Floats, fs_Hz: float) -> Mask:
    """Return where what was left out may be spikes: not too much of the tail, nowhere too long, not its begin."""
    longest, first = (round(ms * fs_Hz / 1000) for ms in (_LONGEST_SPIKE_MS, _LONGEST_FIRST_SPIKE_MS))
    left_out = known & ~used
    far = np.abs(residuals) > _SPIKE_SD * noise[:, None]
    few = left_out.sum(axis=1) <= _MAX_SPIKE_SHARE * known.sum(axis=1)
    short = longest_runs(far) <= longest
    spikes: Mask = few & short & ~np.all(left_out[:, :first], axis=1)
    return spikes


def longest_runs(mask: Mask) -> npt.NDArray[np.intp]:
    """Return the length of the longest stretch of true samples in each row."""
    position = np.arange(1, mask.shape[1] + 1)
    last_false = np.maximum.accumulate(np.where(mask, 0, position), axis=1)
    longest: npt.NDArray[np.intp] = (position - last_false).max(axis=1)
    return longest


def _is_noise(residuals: Floats, used: Mask, noise: Floats, fs_Hz: float) -> Mask:
    """Return which residuals average out, as noise does and a curve that is too stiff does not."""
    block = max(2, round(_BLOCK_MS * fs_Hz / 1000))
    starts = np.arange(0, residuals.shape[1], block)
    sums = np.add.reduceat(np.where(used, residuals, 0.0), starts, axis=1)
    counts = np.add.reduceat(used, starts, axis=1, dtype=np.int32)
    scores = np.minimum(sums**2 / np.maximum(counts, 1) / noise[:, None] ** 2, 9.0)
    scores[counts == 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a tail of nothing but spikes has no blocks left
        early = np.nan_to_num(np.nanmean(scores[:, :4], axis=1))
        good: Mask = early < _EARLY_MISFIT
        for part, limit in _MISFITS:
            good &= np.nan_to_num(np.nanmedian(scores[:, part], axis=1)) < limit if part.start < starts.size else True
    return good
