"""The first centres of a clustering, by k-means++, computed on the channels alone that a spike has features on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from kilosort.clustering_qr import subsample_idx

_CANDIDATES = 100
"""Spikes that are drawn as candidates for each centre: upstream's number."""
_ROWS_AT_ONCE = 2048
"""Spikes of one product on a CPU: with their gains they stay in the cache."""
_TABLE_AT_MOST = 5000
"""Spikes of which all products are kept, which takes 100 MB."""
_DRAWN_FROM_AT_MOST = 1 << 24
"""Spikes that torch draws from at most."""


@dataclass(frozen=True)
class Block:
    """Spikes with features in the same columns.

    Parameters
    ----------
    rows : slice
        Where they are among the spikes in order.
    columns : Tensor, shape (n_columns,), int64
        Columns in which any of them is not zero.
    doubled : Tensor, shape (n_columns, n_rows), float32
        Twice their features there.
    """

    rows: slice
    columns: torch.Tensor
    doubled: torch.Tensor


def kmeans_plusplus(
    Xg: torch.Tensor,  # noqa: N803 - upstream's name
    niter: int = 200,
    seed: int = 1,
    device: torch.device | None = None,  # noqa: ARG001 - upstream passes it
    verbose: bool = False,  # noqa: ARG001 - upstream passes it
) -> torch.Tensor:
    """Return the nearest centre of each spike; stands in for ``kilosort.clustering_qr.kmeans_plusplus``.

    Each centre is the one of some spikes, drawn by their distance from the centres before, that takes most off the
    distances of all spikes. The features of a spike are zero on channels away from it, and so are their products.

    Parameters
    ----------
    Xg : Tensor, shape (n_spikes, n_features), float32
        Features.
    niter : int
        How many centres.
    seed : int
        Of torch's and numpy's generators, which stay as upstream leaves them.
    device : torch.device, optional
        Where Xg is.
    verbose : bool
        Passed by upstream; nothing is logged.

    Returns
    -------
    Tensor, shape (n_spikes,), int32
        Number of the centre.
    """
    norms = torch.norm(Xg, 2, dim=1) ** 2
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - later steps of upstream draw from it
    order, blocks = in_blocks(Xg)
    explain = _explainer(Xg, blocks)
    left, drawable = norms[order], _drawable(len(Xg), Xg.device)
    # What the centres so far explain of each spike, and the best of them; in order, as everything below.
    explained, best = torch.zeros_like(left), torch.zeros(len(left), dtype=torch.int, device=Xg.device)
    for number in range(niter):
        by_candidate = explain(_draw(torch.relu(left - explained), order, drawable))
        of_centre = by_candidate[_gains(by_candidate, explained).argmax()]
        best.masked_fill_(of_centre > explained, number)
        torch.maximum(explained, of_centre, out=explained)
    return torch.empty_like(best).index_copy_(0, order, best)


def in_blocks(X: torch.Tensor) -> tuple[torch.Tensor, list[Block]]:
    """Return an order of the rows of X in which those with the same zeros come together, and these.

    Parameters
    ----------
    X : Tensor, shape (n_rows, n_columns), float32
        Any values.

    Returns
    -------
    order : Tensor, shape (n_rows,), int64
    blocks : list of Block
    """
    patterns, pattern_of = torch.unique(X != 0, dim=0, return_inverse=True)
    pattern_of, order = torch.sort(pattern_of, stable=True)
    ends = torch.searchsorted(pattern_of, torch.arange(len(patterns), device=X.device), right=True).tolist()
    return order, list(_split(X, order, patterns, [0, *ends]))


def _split(X: torch.Tensor, order: torch.Tensor, patterns: torch.Tensor, ends: list[int]) -> Iterator[Block]:
    at_once = _ROWS_AT_ONCE if X.device.type == "cpu" else len(X)
    for number, pattern in enumerate(patterns):
        columns = pattern.nonzero()[:, 0]
        for first in range(ends[number], ends[number + 1], at_once):
            rows = slice(first, min(first + at_once, ends[number + 1]))
            yield Block(rows, columns, 2 * X[order[rows]][:, columns].T.contiguous())


def _drawable(n_spikes: int, device: torch.device) -> torch.Tensor | None:
    """Return the spikes from which candidates are drawn, or None for all."""
    if n_spikes <= _DRAWN_FROM_AT_MOST:
        return None
    _, index = subsample_idx(n_spikes, n_spikes - _DRAWN_FROM_AT_MOST)
    return torch.from_numpy(index).to(device)


def _draw(in_order: torch.Tensor, order: torch.Tensor, drawable: torch.Tensor | None) -> torch.Tensor:
    """Return numbers of spikes, drawn without replacement with the weights `in_order`."""
    weights = torch.empty_like(in_order).index_copy_(0, order, in_order)
    if drawable is None:
        return torch.multinomial(weights, _CANDIDATES)
    return drawable[torch.multinomial(weights[drawable], _CANDIDATES)]


def _explainer(X: torch.Tensor, blocks: list[Block]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that gives what spikes, if they were centres, explain of each spike in order.

    The next call overwrites what it has returned.
    """
    explained = X.new_empty((_CANDIDATES, len(X)))
    if len(X) > _TABLE_AT_MOST:
        return lambda candidates: _explain(X[candidates], blocks, explained)
    # Few spikes are drawn again and again.
    table = _explain(X, blocks, X.new_empty((len(X), len(X))))
    return lambda candidates: torch.index_select(table, 0, candidates, out=explained)


def _explain(centres: torch.Tensor, blocks: list[Block], explained: torch.Tensor) -> torch.Tensor:
    norms = (centres**2).sum(1, keepdim=True)
    for block in blocks:
        torch.addmm(norms, centres[:, block.columns], block.doubled, beta=-1, out=explained[:, block.rows])
    return explained


def _gains(by_candidate: torch.Tensor, explained: torch.Tensor) -> torch.Tensor:
    """Return what each candidate explains beyond `explained`, of all spikes."""
    total = torch.zeros_like(by_candidate[:, 0])
    at_once = _ROWS_AT_ONCE if total.device.type == "cpu" else len(explained)
    for some, before in zip(torch.split(by_candidate, at_once, 1), torch.split(explained, at_once), strict=True):
        total += (some - before).relu_().sum(1)
    return total
