"""How fast tails decay and ring, found from all channels of an event together.

Electrodes and amplifiers are nearly linear, so that a tail is a sum of exponentials and damped oscillations. Their
rates do not depend on when saturation ended, and are much the same on all channels, where spikes differ.

Rates come from the shift invariance of the samples' own subspace (ESPRIT: Roy & Kailath 1989, IEEE Transactions on
Acoustics, Speech, and Signal Processing 37:984), and are refined by least squares in which amplitudes are eliminated
(Golub & Pereyra 1973, SIAM Journal on Numerical Analysis 10:413), with spikes left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import Floats, Mask

Rates = npt.NDArray[np.complexfloating]

_SEEN_MS, _SHIFTED_MS = 8.0, 3.0
"""How much of each tail is looked at, and how long the stretches of it are whose subspace is taken."""
_N_TAILS = 16
"""The strongest tails, which say enough."""
_FASTEST_MS = 0.2
_HIGHEST_HZ = 1_000.0
"""What is faster is as fast as spikes are."""
_RIDGE = 1e-9
_LONGEST_MOVE = 0.1
"""How far a rate moves at once, of itself."""
_NEGLIGIBLE = 1e-6


def shared_rates(tails: Floats, known: Mask, noise: Floats, fs_Hz: float, number: int) -> Rates:
    """Return the rates of at most `number` exponentials that the tails share (1 / samples); one of each conjugate pair.

    Parameters
    ----------
    tails : ndarray, shape (n_tails, n_samples), float
        From where saturation ended.
    known : ndarray, shape (n_tails, n_samples), bool
        Samples that belong to the tail.
    noise : ndarray, shape (n_tails,), float
        Standard deviation of the noise.
    fs_Hz : float
        Sampling rate (Hz).
    number : int
        Exponentials, an oscillation counting as two.
    """
    n_seen, length = (round(ms * fs_Hz / 1000) for ms in (_SEEN_MS, _SHIFTED_MS))
    chosen = strongest_tails(tails, known, noise, fs_Hz)
    if length <= number or chosen.size == 0:
        return np.empty(0, dtype=np.complex128)
    scaled = tails[chosen, :n_seen] / noise[chosen, None]
    stretches = np.lib.stride_tricks.sliding_window_view(scaled, length, axis=1).reshape(-1, length)
    subspace = np.linalg.eigh(stretches.T @ stretches)[1][:, -number:]
    shift = np.linalg.lstsq(subspace[:-1], subspace[1:], rcond=None)[0]
    poles = np.linalg.eigvals(shift).astype(np.complex128)
    rates: Rates = np.log(poles[np.abs(poles) > 0])
    return rates[(rates.imag >= 0) & _are_tails(rates, fs_Hz)]


def strongest_tails(tails: Floats, known: Mask, noise: Floats, fs_Hz: float) -> npt.NDArray[np.intp]:
    """Return the tails that say most of the rates, of those that begin without a gap."""
    n_seen = round(_SEEN_MS * fs_Hz / 1000)
    if tails.shape[1] < n_seen:
        return np.empty(0, dtype=np.intp)
    complete = np.flatnonzero(known[:, :n_seen].all(axis=1))
    power = ((tails[complete, :n_seen] / noise[complete, None]) ** 2).sum(axis=1)
    return complete[np.argsort(-power, kind="stable")[:_N_TAILS]]


def _are_tails(rates: Rates, fs_Hz: float) -> Mask:
    """Return which rates decay, and are slower than spikes."""
    decaying = (-rates.real < 1000 / (_FASTEST_MS * fs_Hz)) & (rates.real < 0)
    slow: Mask = decaying & (rates.imag < 2 * np.pi * _HIGHEST_HZ / fs_Hz)
    return slow


def refined_rates(rates: Rates, tails: Floats, used: Mask, noise: Floats, fs_Hz: float, order: int) -> Rates:
    """Return rates that fit the samples in use better: one step of Gauss and Newton for all tails together.

    Parameters
    ----------
    rates : ndarray, shape (n_rates,), complex
        As they are (1 / samples).
    tails : ndarray, shape (n_tails, n_samples), float
        What they are fitted to.
    used : ndarray, shape (n_tails, n_samples), bool
        Samples that count.
    noise : ndarray, shape (n_tails,), float
        Standard deviation of the noise.
    fs_Hz : float
        Sampling rate (Hz).
    order : int
        Order of the polynomial that is fitted with them.
    """
    basis = np.concatenate([decays(rates, tails.shape[1]), powers(tails.shape[1], order)], axis=1)
    weights = used / noise[:, None] ** 2
    normal = products(basis).weighted(weights)
    normal += _RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(basis.shape[1])
    right = ((weights * tails) @ basis)[:, :, None]
    slopes = _slopes(rates, np.linalg.solve(normal, right)[:, :, 0], tails.shape[1])
    # What a change of the rates does, less what amplitudes and polynomial can do as well.
    weighted = weights[:, :, None] * slopes
    mixed = basis.T @ weighted
    same = mixed.transpose(0, 2, 1) @ np.linalg.solve(normal, np.concatenate([mixed, right], axis=2))
    curvature = (weighted.transpose(0, 2, 1) @ slopes - same[:, :, :-1]).sum(axis=0)
    if not np.trace(curvature) > 0:
        # Tails of size 0, in made-up traces, have any rate.
        return rates
    gradient = ((weighted * tails[:, :, None]).sum(axis=1) - same[:, :, -1]).sum(axis=0)
    step = np.linalg.solve(curvature + _RIDGE * np.trace(curvature) * np.eye(len(curvature)), gradient)
    move = step[: rates.size].astype(np.complex128)
    move[rates.imag > 0] += 1j * step[rates.size :]
    moved = rates + move * np.minimum(1.0, _LONGEST_MOVE * np.abs(rates) / np.maximum(np.abs(move), 1e-12))
    return moved if _are_tails(moved, fs_Hz).all() else rates


def _slopes(rates: Rates, sizes: Floats, n_samples: int) -> Floats:
    """Return how each tail changes with the real parts of the rates, and with the imaginary ones that are not 0."""
    rings = rates.imag > 0
    amplitudes = sizes[:, : rates.size].astype(np.complex128)
    amplitudes[:, rings] -= 1j * sizes[:, rates.size : rates.size + np.count_nonzero(rings)]
    position = np.arange(n_samples)[:, None]
    slopes = amplitudes[:, None, :] * (position * np.exp(position * rates))
    return np.concatenate([slopes.real, -slopes.imag[:, :, rings]], axis=2)


def decays(rates: Rates, n_samples: int) -> Floats:
    """Return the exponentials and damped oscillations of these rates, shape (n_samples, n_functions), float64."""
    waves = np.exp(np.arange(n_samples)[:, None] * rates)
    return np.concatenate([waves.real, waves.imag[:, rates.imag > 0]], axis=1)


def powers(n_samples: int, order: int) -> Floats:
    """Return polynomials up to an order, shape (n_samples, order + 1), float64."""
    polynomials: Floats = np.polynomial.legendre.legvander(np.linspace(-1, 1, n_samples), order)
    return polynomials


@dataclass(frozen=True, eq=False)
class Products:
    """Products of functions, from which weights make normal equations: those of pairs that overlap alone.

    Of functions with ends, as pieces of polynomials are, there are few: memory grows with their number, not its square.

    Attributes
    ----------
    n_functions : int
        Functions.
    first, second : ndarray, shape (n_pairs,), intp
        Numbers of the functions of each pair, each pair once.
    values : ndarray, shape (n_samples, n_pairs), float64
        Their products.
    """

    n_functions: int
    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    values: Floats

    def weighted(self, weights: Floats) -> Floats:
        """Return sums over samples for each row of weights, shape (n_rows, n_functions, n_functions)."""
        sums = np.zeros((len(weights), self.n_functions, self.n_functions))
        sums[:, self.first, self.second] = weights @ self.values
        sums[:, self.second, self.first] = sums[:, self.first, self.second]
        return sums


def products(basis: Floats) -> Products:
    """Return the products of functions, of a basis of shape (n_samples, n_functions)."""
    there = (basis != 0).astype(np.float64)
    first, second = np.nonzero(np.triu(there.T @ there))
    return Products(basis.shape[1], first, second, basis[:, first] * basis[:, second])


def tail_basis(rates: Rates, n_samples: int, order: int, n_derivatives: int) -> Floats:
    """Return an orthonormal basis of what tails of these rates are made of, shape (n_samples, n_functions), float64.

    With the derivatives by the rates, of tails whose own rates differ a little, too.
    """
    waves, position = decays(rates, n_samples), np.linspace(0, 1, n_samples)[:, None]
    functions = [waves * position**number for number in range(n_derivatives + 1)]
    scaled = np.concatenate([*functions, powers(n_samples, order)], axis=1)
    scaled /= np.linalg.norm(scaled, axis=0)
    basis, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    kept: Floats = basis[:, sizes > _NEGLIGIBLE * sizes[0]]
    return kept
