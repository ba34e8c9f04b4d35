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

    Attributes
    ----------
    values : Tensor, shape (n_chunks, n_channels, n_columns), float32
        Response of a channel in each column; a column is one template at one time. Empty until `chunks` has passed.
    """

    def __init__(self, X: torch.Tensor, W: torch.Tensor) -> None:
        self._X, self._W = X, W
        n_channels, self._n_times = X.shape
        self._n_templates = len(W)
        if X.device.type == "cpu":
            self._block = BLOCK
            n_blocks = -(-self._n_times // BLOCK)
            self._blocks = min(n_blocks, max(1, _CHUNK_VALUES // (n_channels * self._n_templates * BLOCK)))
            n_chunks = -(-n_blocks // self._blocks)
        else:
            self._block, self._blocks, n_chunks = self._n_times, 1, 1
        n_columns = self._blocks * self._n_templates * self._block
        self.values = torch.empty((n_chunks, n_channels, n_columns), device=X.device)

    def chunks(self) -> Iterator[torch.Tensor]:
        """Compute and yield each chunk, shape (n_channels, n_columns); columns beyond the last time mean nothing."""
        if self._X.device.type != "cpu":
            responses = conv1d(self._X[:, None], self._W[:, None], padding=self._W.shape[1] // 2)
            self.values = responses.reshape(1, len(self._X), -1)
            yield self.values[0]
            return
        n_channels, n_taps = len(self._X), self._W.shape[1]
        matrix = toeplitz(self._W, self._block)
        n_rows, span = len(self.values) * self._blocks, len(matrix)
        around = (n_taps // 2, n_rows * self._block - self._n_times + n_taps // 2)
        padded = pad(self._X, around)
        rows = padded.as_strided((n_channels, n_rows, span), (padded.shape[1], self._block, 1))
        for number, chunk in enumerate(self.values):
            taken = rows[:, number * self._blocks : (number + 1) * self._blocks].reshape(-1, span)
            torch.mm(taken, matrix, out=chunk.view(len(taken), -1))
            yield chunk

    def locate(self, chunk: torch.Tensor | int, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return template and time of columns.

        Parameters
        ----------
        chunk, column : Tensor, int64
            Index of the chunk, and of the column in it.

        Returns
        -------
        template, time : Tensor, int64
        """
        block, within = column // (self._n_templates * self._block), column % (self._n_templates * self._block)
        time = (chunk * self._blocks + block) * self._block + within % self._block
        return within // self._block, time

    def columns(self, channels: torch.Tensor, chunk: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Return the responses of channels in columns, shape (n_channels, n_columns), float32."""
        n_channels, n_columns = self.values.shape[1:]
        first = chunk * (n_channels * n_columns) + column
        return torch.take(self.values, first + channels[:, None] * n_columns)

    def at(self, channels: torch.Tensor, template: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return responses, float32, of the shape to which the three indices broadcast."""
        block, within = time // self._block, time % self._block
        column = ((block % self._blocks) * self._n_templates + template) * self._block + within
        return self.values[block // self._blocks, channels, column]


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
