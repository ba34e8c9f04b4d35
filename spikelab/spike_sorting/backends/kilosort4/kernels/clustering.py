"""Clustering in graphs, without the rounds that change nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from kilosort import clustering_qr

_ARRAYS = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Any, torch.Tensor]


def cluster(
    Xd: torch.Tensor,  # noqa: N803 - upstream's name
    iclust: torch.Tensor | None = None,
    kn: npt.NDArray[np.int64] | None = None,  # noqa: ARG001 - upstream needs the matrix that comes with it, too
    nskip: int = 1,
    n_neigh: int = 10,
    max_sub: int | None = 25_000,
    nclust: int = 200,
    seed: int = 1,
    niter: int = 200,
    lam: float = 0,
    device: torch.device | None = None,
    verbose: bool = False,
) -> _ARRAYS:
    """Return the clusters of spikes; stands in for ``kilosort.clustering_qr.cluster``.

    Spikes and the subset among which their neighbours are sought take turns in choosing the cluster of most of their
    neighbours. A round depends on the clusters before it alone: from the first that changes nothing on, all do.

    Parameters
    ----------
    Xd : Tensor, shape (n_spikes, n_features), float32
        Features.
    iclust : Tensor, shape (n_spikes,), optional
        Clusters to begin with; k-means++ with `seed` chooses them otherwise.
    kn : None
        Neighbours are always sought anew.
    nskip, n_neigh, max_sub : int
        Every how many spikes one is a neighbour of others, how many neighbours one has, and among how many.
    nclust : int
        Clusters at the beginning.
    seed : int
        Of k-means++.
    niter : int
        Rounds at most.
    lam : float
        Weight of the number of links that chance gives.
    device : torch.device, optional
        Where to compute.
    verbose : bool
        Whether upstream's k-means++ logs memory.

    Returns
    -------
    iclust : ndarray, shape (n_spikes,), int64
        Cluster of each spike, without gaps.
    isub : ndarray, shape (n_subset,), int64
        Cluster of each of the subset.
    M : scipy.sparse.csr_matrix, shape (n_spikes, n_subset)
        Who is whose neighbour.
    iclust_init : Tensor, shape (n_spikes,)
        Clusters at the beginning.
    """
    neighbours, graph = clustering_qr.neigh_mat(Xd, nskip=nskip, n_neigh=n_neigh, max_sub=max_sub)
    links, of_spike, of_subset = clustering_qr.Mstats(graph, device=device)
    features, kn_ = Xd.to(device), torch.from_numpy(neighbours).to(device)
    ones = torch.ones(kn_.shape, device=device)
    rows = torch.arange(len(kn_), device=device)[:, None].expand(kn_.shape)
    first = clustering_qr.kmeans_plusplus(features, niter=nclust, seed=seed, device=device, verbose=verbose)
    first = first if iclust is None else iclust
    model = (lam, links, of_spike, of_subset)

    def subset_of(clusters: torch.Tensor, n_clusters: int) -> torch.Tensor:
        chosen: torch.Tensor = clustering_qr.assign_isub(
            clusters, kn_, ones, n_clusters, graph.shape[1], *model, device=device
        )
        return chosen

    def one_round(clusters: torch.Tensor) -> torch.Tensor:
        chosen: torch.Tensor = clustering_qr.assign_iclust(
            rows, subset_of(clusters, nclust), kn_, ones, nclust, *model, device=device
        )
        return chosen

    last = repeat_until_settled(one_round, first.clone(), niter)
    _, last = torch.unique(last, return_inverse=True)
    subset = subset_of(last, int(last.max()) + 1)
    return last.cpu().numpy(), subset.cpu().numpy(), graph, first.clone()


def repeat_until_settled(
    one_round: Callable[[torch.Tensor], torch.Tensor], clusters: torch.Tensor, n_rounds: int
) -> torch.Tensor:
    """Return what `n_rounds` rounds give, without those whose result is known.

    Parameters
    ----------
    one_round : callable
        Gives the next clusters from those before, and depends on nothing else.
    clusters : Tensor, shape (n_spikes,)
        To begin with.
    n_rounds : int
        How often.
    """
    before = None
    for number in range(n_rounds):
        after = one_round(clusters)
        if torch.equal(after, clusters.to(after.dtype)):
            return after
        if before is not None and torch.equal(after, before):
            # Two states take turns: the number of rounds left decides which one is the last.
            return after if (n_rounds - number) % 2 else clusters
        before, clusters = clusters, after
    return clusters
