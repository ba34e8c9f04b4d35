"""Filtering a batch: mean and median removed, high pass, whitening; the same operations with fewer passes over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from kilosort.preprocessing import fft_highpass, get_drift_matrix
from scipy.fft import next_fast_len
from torch.fft import fftshift, ifft, irfft, rfft

_TIMES_AT_ONCE = 2048
"""Times whose channels are sorted at once: they fit into the cache."""
_FEW_CHANNELS = 8
"""Channels up to which exchanging neighbours is faster than sorting."""
_VALUES_AT_ONCE = 1 << 20
"""Values that are transformed at once on a CPU."""
_NEGLIGIBLE = 1e-8
"""Part of a filter that is below the rounding of float32."""


class BatchFilter:
    """Filters batches as ``kilosort.io.BinaryFiltered.filter`` does; keeps the high-pass filter it made last."""

    def __init__(self) -> None:
        self._made: tuple[torch.Tensor, HighPass] | None = None

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
        if self._made is None or self._made[0] is not hp_filter or self._made[1].n_times != X.shape[1]:
            self._made = (hp_filter, make_high_pass(hp_filter, X.shape[1]))
        return self._made[1].apply(X)


@dataclass(frozen=True)
class HighPass:
    """A filter for batches of one length, in the Fourier domain.

    Upstream's spectrum is as long as the batch, whatever primes that length is made of, and times before the first
    are those at the end. The filter dies out within a few milliseconds: with that much of the other end before and
    after the batch, and zeros up to a length that is quick to transform, the same sums come out.

    Parameters
    ----------
    n_times : int
        Length of a batch.
    reach : int
        Samples of the other end on each side of it; 0 where the transform is as long as the batch.
    length : int
        Samples that are transformed.
    spectrum : Tensor, shape (length // 2 + 1,), complex64
        Of the filter, whose time 0 comes first.
    """

    n_times: int
    reach: int
    length: int
    spectrum: torch.Tensor

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        """Return the filtered channels of X, shape (n_channels, n_times), float32, in the memory of X."""
        # On a CPU as many channels at once as stay in the cache.
        at_once = max(1, _VALUES_AT_ONCE // self.length) if X.device.type == "cpu" else len(X)
        room = X.new_zeros((min(at_once, len(X)), self.length))
        last = self.reach + self.n_times
        for channels in torch.split(X, at_once):
            padded = room[: len(channels)]
            padded[:, self.reach : last] = channels
            if self.reach:
                padded[:, : self.reach] = channels[:, -self.reach :]
                padded[:, last : last + self.reach] = channels[:, : self.reach]
            channels.copy_(irfft(rfft(padded).mul_(self.spectrum), n=self.length)[:, self.reach : last])
        return X


def make_high_pass(hp_filter: torch.Tensor, n_times: int) -> HighPass:
    """Return the filter that upstream applies to batches of `n_times` samples.

    Parameters
    ----------
    hp_filter : Tensor, shape (n_taps,), float32
        Upstream's impulse response, with its peak in the middle.
    n_times : int
        Length of a batch.
    """
    centred = fftshift(ifft(torch.conj(fft_highpass(hp_filter.double(), NT=n_times))).real)
    reach = _reach(centred)
    length = int(next_fast_len(n_times, real=True))
    if length != n_times:
        length = int(next_fast_len(n_times + 2 * reach, real=True))
    if length == n_times or 2 * reach >= n_times:
        return HighPass(n_times, 0, n_times, rfft(centred).to(torch.complex64))
    response = centred.new_zeros(length)
    response[: reach + 1] = centred[: reach + 1]
    response[-reach:] = centred[-reach:]
    return HighPass(n_times, reach, length, rfft(response).to(torch.complex64))


def _reach(response: torch.Tensor) -> int:
    """Return the lag beyond which all of a response, whose lag 0 comes first, adds less than rounding does."""
    middle = len(response) // 2
    magnitude = response.abs()
    sides = magnitude[: middle + 1].clone()
    sides[1 : len(response) - middle] += magnitude[middle + 1 :].flip(0)
    beyond = sides.flip(0).cumsum(0).flip(0)
    return max(1, int((beyond > _NEGLIGIBLE * beyond[0]).sum()))


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
    if len(X) <= _FEW_CHANNELS:
        return _middle_of_few(X)
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


def _middle_of_few(X: torch.Tensor) -> torch.Tensor:
    """Return what `median_of_channels` does, by exchanging neighbours of all times at once until they are in order."""
    channels: list[torch.Tensor] = list(X)
    for step in range(len(channels)):
        for one in range(step % 2, len(channels) - 1, 2):
            pair = channels[one], channels[one + 1]
            channels[one], channels[one + 1] = torch.minimum(*pair), torch.maximum(*pair)
    return channels[(len(channels) - 1) // 2]
