"""How fast tails decay and ring, found from all channels of an event together.

Electrodes and amplifiers are nearly linear, so that a tail is a sum of exponentials and damped oscillations. Their
rates do not depend on when saturation ended, and are much the same on all channels, where spikes differ.

Rates come from the shift invariance of the samples' own subspace (ESPRIT: Roy & Kailath 1989, IEEE Transactions on
Acoustics, Speech, and Signal Processing 37:984).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Rates = npt.NDArray[np.complexfloating]

_SEEN_MS, _SHIFTED_MS = 8.0, 3.0
"""How much of each tail is looked at, and how long the stretches of it are whose subspace is taken."""
_N_TAILS = 16
"""The strongest tails, which say enough."""
_FASTEST_MS = 0.2
_HIGHEST_HZ = 1_000.0
"""What is faster is as fast as spikes are."""


def shared_rates(tails: Floats, known: npt.NDArray[np.bool_], noise: Floats, fs_Hz: float, number: int) -> Rates:
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
    complete = np.flatnonzero(known[:, :n_seen].all(axis=1))
    if tails.shape[1] < n_seen or length <= number or complete.size == 0:
        return np.empty(0, dtype=np.complex128)
    scaled = tails[complete, :n_seen] / noise[complete, None]
    strongest = np.argsort(-(scaled**2).sum(axis=1), kind="stable")[:_N_TAILS]
    stretches = np.lib.stride_tricks.sliding_window_view(scaled[strongest], length, axis=1).reshape(-1, length)
    subspace = np.linalg.eigh(stretches.T @ stretches)[1][:, -number:]
    shift = np.linalg.lstsq(subspace[:-1], subspace[1:], rcond=None)[0]
    poles = np.linalg.eigvals(shift).astype(np.complex128)
    rates: Rates = np.log(poles[np.abs(poles) > 0])
    lasts = (-rates.real < 1000 / (_FASTEST_MS * fs_Hz)) & (rates.real < 0)
    return rates[lasts & (rates.imag >= 0) & (rates.imag < 2 * np.pi * _HIGHEST_HZ / fs_Hz)]


def decays(rates: Rates, n_samples: int) -> Floats:
    """Return the exponentials and damped oscillations of these rates, shape (n_samples, n_functions), float64."""
    waves = np.exp(np.arange(n_samples)[:, None] * rates)
    return np.concatenate([waves.real, waves.imag[:, rates.imag > 0]], axis=1)
