"""Waveforms of isolated spikes, from which universal templates are learned; only large samples are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import pad

_AT_ONCE = 1 << 14
"""Samples whose surroundings are gathered at once: it bounds memory when many are large."""


def extract_snippets(
    X: torch.Tensor,
    nt: int,
    twav_min: int,
    Th_single_ch: float,  # noqa: N803 - upstream's name
    loc_range: Sequence[int] = (4, 5),
    long_range: Sequence[int] = (6, 30),
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return the waveforms of peaks that are alone around; stands in for ``kilosort.spikedetect.extract_snippets``.

    Parameters
    ----------
    X : Tensor, shape (n_channels, n_times), float32
        The whitened batch, with `nt` samples of its neighbours on either side.
    nt : int
        Samples of a waveform.
    twav_min : int
        Sample of a waveform at which its peak is.
    Th_single_ch : float
        What a peak exceeds.
    loc_range : (int, int)
        Channels and samples, on both sides, among which a peak is the largest.
    long_range : (int, int)
        Channels and samples, on both sides, among which it is the only peak.
    device : torch.device, optional
        Where X is.

    Returns
    -------
    Tensor, shape (n_peaks, nt), float32
        Ordered by channel, then by time.
    """
    magnitude = X.abs()
    large = (magnitude > Th_single_ch).nonzero()
    largest = torch.cat([around.amax(1) for around in _surroundings(magnitude, large, loc_range)])
    peaks = large[largest == magnitude[large[:, 0], large[:, 1]]]
    is_peak = torch.zeros(X.shape, dtype=torch.uint8, device=X.device)
    is_peak[peaks[:, 0], peaks[:, 1]] = 1
    n_peaks = torch.cat([around.sum(1) for around in _surroundings(is_peak, peaks, long_range)])
    inside = (peaks[:, 1] >= nt) & (peaks[:, 1] < X.shape[1] - nt)
    alone = peaks[(n_peaks == 1) & inside]
    return X[alone[:, :1], alone[:, 1:] - twav_min + torch.arange(nt, device=device)]


def _surroundings(values: torch.Tensor, at: torch.Tensor, reach: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yield the values around each of `at`, zero beyond the ends, some at a time, shape (n_some, n_around)."""
    padded = pad(values, (reach[1], reach[1], reach[0], reach[0]))
    rows = torch.arange(2 * reach[0] + 1, device=at.device)[:, None]
    columns = torch.arange(2 * reach[1] + 1, device=at.device)
    offsets = (rows * padded.shape[1] + columns).flatten()
    for some in torch.split(at, _AT_ONCE):
        yield padded.view(-1)[(some[:, 0] * padded.shape[1] + some[:, 1])[:, None] + offsets]
