"""Convolution of every channel with a few short templates, as matrix products that stay in the cache; windows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import conv1d, pad

BLOCK = 32
"""Outputs of one row of the product: longer rows multiply more zeros, shorter ones copy more samples."""
_CHUNK_VALUES = 1 << 19
"""Values of one chunk on a CPU: as many as stay in the cache until they are used."""


class Responses:
    """Responses of channels to templates, computed chunk by chunk.

    On a CPU each row of a Toeplitz matrix product gives the responses at `BLOCK` times; a row sums over the samples in
    the order in which a convolution does. On a GPU it is torch's own convolution, in one chunk, so that its rounding
    (TF32 where torch allows it) is that of any other convolution there.

    Parameters
    ----------
    X : Tensor, shape (n_channels, n_times), float32
        The signals; zero before and after.
    W : Tensor, shape (n_templates, n_taps), float32
        The templates; n_taps is odd.
    """

    def __init__(self, X: torch.Tensor, W: torch.Tensor) -> None:
        self.X, self.W = X, W
        n_channels, n_times = X.shape
        if X.device.type == "cpu":
            self._block = BLOCK
            n_blocks = -(-n_times // BLOCK)
            self._blocks = min(n_blocks, max(1, _CHUNK_VALUES // (n_channels * len(W) * BLOCK)))
        else:
            self._block, self._blocks = n_times, 1

    def chunks(self) -> Iterator[torch.Tensor]:
        """Compute and yield each chunk, shape (n_channels, n_columns); the next one takes its memory.

        A column is one template at one time. Columns beyond the last time mean nothing.
        """
        if self.X.device.type != "cpu":
            responses = conv1d(self.X[:, None], self.W[:, None], padding=self.W.shape[1] // 2)
            yield responses.reshape(len(self.X), -1)
            return
        (n_channels, n_times), reach = self.X.shape, self.W.shape[1] // 2
        matrix = toeplitz(self.W, self._block)
        n_chunks = -(-n_times // (self._block * self._blocks))
        n_rows = n_chunks * self._blocks
        padded = pad(self.X, (reach, n_rows * self._block - n_times + reach))
        rows = padded.as_strided((n_channels, n_rows, len(matrix)), (padded.shape[1], self._block, 1))
        chunk = self.X.new_empty((n_channels * self._blocks, matrix.shape[1]))
        for first in range(0, n_rows, self._blocks):
            taken = rows[:, first : first + self._blocks].reshape(len(chunk), -1)
            torch.mm(taken, matrix, out=chunk)
            yield chunk.view(n_channels, -1)

    @property
    def span(self) -> int:
        """Times in a chunk."""
        return self._blocks * self._block

    def locate(self, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return template of columns, and time since the first one of the chunk, int64."""
        block, within = column // (len(self.W) * self._block), column % (len(self.W) * self._block)
        return within // self._block, block * self._block + within % self._block

    def at(self, channels: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return the responses to all templates, of some channels at each of some times.

        Parameters
        ----------
        channels : Tensor, shape (n_some, n_at), int64
            Channels for each time.
        time : Tensor, shape (n_at,), int64

        Returns
        -------
        Tensor, shape (n_templates, n_some, n_at), float32
        """
        n_taps = self.W.shape[1]
        padded = pad(self.X, (n_taps // 2, n_taps // 2))
        samples = padded[channels[:, :, None], time[:, None] + torch.arange(n_taps, device=time.device)]
        return (samples @ self.W.T).permute(2, 0, 1)


def toeplitz(W: torch.Tensor, block: int) -> torch.Tensor:
    """Return the matrix that turns ``block + n_taps - 1`` samples into `block` outputs of each template.

    Parameters
    ----------
    W : Tensor, shape (n_templates, n_taps)
        The templates.
    block : int
        Outputs of one template.

    Returns
    -------
    Tensor, shape (block + n_taps - 1, n_templates * block)
        Column ``template * block + j`` holds the template from row j on.
    """
    n_templates, n_taps = W.shape
    matrix = torch.zeros((block + n_taps - 1, n_templates, block), dtype=W.dtype, device=W.device)
    for j in range(block):
        matrix[j : j + n_taps, :, j] = W.T
    return matrix.view(len(matrix), -1)


def sliding_max(values: torch.Tensor, reach: int) -> torch.Tensor:
    """Return the largest of each value and `reach` values on both sides of it, along the last axis.

    Parameters
    ----------
    values : Tensor, shape (n_rows, n_columns), float32
        None of them below zero.
    reach : int
        Values on each side.

    Returns
    -------
    Tensor, shape (n_rows, n_columns), float32
    """
    window, n_columns = 2 * reach + 1, values.shape[1]
    largest, covered = pad(values, (reach, reach)), 1
    while covered < window:
        step = min(covered, window - covered)
        largest = torch.maximum(largest[:, : largest.shape[1] - step], largest[:, step:])
        covered += step
    return largest[:, :n_columns]
