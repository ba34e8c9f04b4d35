"""Filtering a batch: mean and median removed, high pass, whitening; the same operations with fewer passes over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from kilosort.preprocessing import fft_highpass, get_drift_matrix
from torch.fft import fft, fftshift, ifft

_TIMES_AT_ONCE = 2048
"""Times whose channels are sorted at once: they fit into the cache."""


class BatchFilter:
    """Filters batches as ``kilosort.io.BinaryFiltered.filter`` does; keeps the spectrum of the high-pass filter."""

    def __init__(self) -> None:
        self._spectrum: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def as_method(self) -> Callable[..., torch.Tensor]:
        """Return a function that takes the recording first, as a method of a class does."""

        def filter_batch(
            bfile: Any,
            X: torch.Tensor,
            ops: Mapping[str, Any] | None = None,
            ibatch: int | None = None,
            skip_preproc: bool = False,
        ) -> torch.Tensor:
            return self(bfile, X, ops, ibatch, skip_preproc)

        return filter_batch

    def __call__(
        self, bfile: Any, X: torch.Tensor, ops: Mapping[str, Any] | None, ibatch: int | None, skip_preproc: bool
    ) -> torch.Tensor:
        """Return the batch, filtered.

        Parameters
        ----------
        bfile : kilosort.io.BinaryFiltered
            The open recording: which filters apply.
        X : Tensor, shape (n_channels_in_file, n_times), float32
            Samples.
        ops : mapping, optional
            Kilosort's state, for drift correction.
        ibatch : int, optional
            Number of the batch, for drift correction.
        skip_preproc : bool
            Only remove mean and median.

        Returns
        -------
        Tensor, shape (n_channels, n_times), float32
        """
        X = centred(X if bfile.chan_map is None else X[bfile.chan_map], bfile.invert_sign, bfile.do_CAR)
        if skip_preproc:
            return X
        if bfile.hp_filter is not None:
            X = self._high_pass(X, bfile.hp_filter)
        if bfile.artifact_threshold < np.inf and bool((X.abs() >= bfile.artifact_threshold).any()):
            return torch.zeros_like(X)
        if bfile.whiten_mat is None:
            return X
        matrix = bfile.whiten_mat
        if bfile.dshift is not None and ops is not None and ibatch is not None:
            matrix = get_drift_matrix(ops, bfile.dshift[ibatch], device=bfile.device) @ matrix
        whitened: torch.Tensor = matrix @ X
        return whitened

    def _high_pass(self, X: torch.Tensor, hp_filter: torch.Tensor) -> torch.Tensor:
        spectrum = self._spectrum_of(hp_filter, X.shape[1])
        filtered = ifft(fft(X).mul_(spectrum))
        # The filter has its peak in the middle.
        shifted: torch.Tensor = fftshift(filtered.real, dim=-1)
        return shifted

    def _spectrum_of(self, hp_filter: torch.Tensor, n_times: int) -> torch.Tensor:
        if self._spectrum is None or self._spectrum[0] is not hp_filter or self._spectrum[1] != n_times:
            spectrum = torch.conj(fft_highpass(hp_filter, NT=n_times)).resolve_conj()
            self._spectrum = (hp_filter, n_times, spectrum)
        return self._spectrum[2]


def centred(X: torch.Tensor, invert: bool, common_reference: bool) -> torch.Tensor:
    """Return a new tensor of the channels without their means, and without the median channel if asked for."""
    X = -X if invert else X
    X = X - X.mean(1, keepdim=True)
    return X.sub_(median_of_channels(X)) if common_reference else X


def median_of_channels(X: torch.Tensor) -> torch.Tensor:
    """Return the median over channels at each time, the lower one of two, exactly as torch does.

    Parameters
    ----------
    X : Tensor, shape (n_channels, n_times), float32
        Samples.

    Returns
    -------
    Tensor, shape (n_times,), float32
    """
    if X.device.type != "cpu":
        return torch.median(X, 0).values
    # numpy's vectorised sort of a few values is several times faster than torch's selection.
    samples, middle = X.numpy(), (len(X) - 1) // 2
    medians = np.empty(samples.shape[1], samples.dtype)
    for start in range(0, len(medians), _TIMES_AT_ONCE):
        ordered = np.ascontiguousarray(samples[:, start : start + _TIMES_AT_ONCE].T)
        ordered.sort(axis=1)
        # What is not a number is sorted to the end; one of them makes the median none.
        has_nan = np.isnan(ordered[:, -1])
        medians[start : start + _TIMES_AT_ONCE] = np.where(has_nan, np.nan, ordered[:, middle])
    return torch.from_numpy(medians)
