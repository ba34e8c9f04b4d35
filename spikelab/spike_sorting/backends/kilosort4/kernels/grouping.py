"""Clustering group by group across the probe, also where a group has few spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from kilosort import clustering_qr, hierarchical, swarmsplitter

from spikelab.spike_sorting.backends.kilosort4.kernels.density import cluster_by_density

_N_FIRST = 200
"""Clusters with which k-means++ begins; with fewer spikes than that it has none left to choose."""


def cluster_groups(
    ops: Mapping[str, Any],
    st: npt.NDArray[np.float64],
    tF: torch.Tensor,
    *,
    least: int,
    density_below: int,
    extracted: bool,
    device: torch.device,
    progress: Any,
) -> tuple[npt.NDArray[np.int32], torch.Tensor]:
    """Return the cluster of each spike and the mean features of each cluster.

    Kilosort4 makes one unit of all spikes around a centre that has fewer than 1,000 of them, which in a short
    recording is every centre. With ``least=1000, density_below=0`` this gives what ``kilosort.clustering_qr.run``
    gives.

    Parameters
    ----------
    ops : mapping
        What Kilosort4 knows.
    st : ndarray, shape (n_spikes, n_columns), float64
        Spikes.
    tF : Tensor, shape (n_spikes, n_channels_near, n_pcs), float32
        Their features.
    least : int
        Spikes around a centre from which on they are clustered.
    density_below : int
        Spikes around a centre below which their density decides, not Kilosort4's graph.
    extracted : bool
        Whether learned templates found the spikes, not universal ones.
    device : torch.device
        Where to compute.
    progress : object
        Whose ``emit(percent)`` is called.

    Returns
    -------
    clusters : ndarray, shape (n_spikes,), int32
        Cluster of each spike.
    means : Tensor, shape (n_clusters, n_channels, n_pcs)
        Mean features.

    Raises
    ------
    ValueError
        No centre has a spike.
    """
    positions, channels = (clustering_qr.xy_templates if extracted else clustering_qr.xy_up)(ops)
    template = st[:, 1 if extracted else 5].astype("int32")
    x_um, y_um = clustering_qr.x_centers(ops), clustering_qr.y_centers(ops)
    # Upstream computes the rows of centres first: ties are broken by chance, drawn in this order.
    nearest, _, _ = clustering_qr.get_nearest_centers(positions, x_um, y_um)
    clusters = np.zeros(len(st), "int32")
    means: list[torch.Tensor] = []
    n_clusters, centres = 0, np.unique(nearest.numpy())
    for number, centre in enumerate(centres):
        features, chosen, near = clustering_qr.get_data_cpu(
            ops, positions, channels, template, tF, y_um[centre % y_um.size], x_um[centre // y_um.size],
            dmin=ops["dmin"], dminx=ops["dminx"], ix=nearest == centre,
        )  # fmt: skip
        if features is None:
            continue
        chosen = chosen.numpy()  # a tensor of one number would be taken for that number
        times_s = st[chosen, 0] / ops["fs"] if extracted else None
        found = _cluster_one(features, ops["settings"], times_s, least, density_below, device)
        clusters[chosen] = found + n_clusters
        means.append(_means(features, found, near, ops))
        n_clusters += len(means[-1])
        progress.emit(int(100 * (number + 1) / len(centres)))
    if not means:
        msg = "Kilosort4 has no spike around any of the centres at which it clusters"
        raise ValueError(msg)
    return clusters, torch.cat(means)


def _cluster_one(
    features: torch.Tensor, settings: Mapping[str, Any], times_s: Any, least: int, density_below: int, device: Any
) -> Any:
    """Return the cluster of each spike around one centre, as whole numbers without gaps."""
    if least <= len(features) < density_below:
        return cluster_by_density(features)
    if len(features) < max(least, _N_FIRST + 1):
        return np.zeros(len(features), dtype=np.int64)
    first, subset, neighbours, _ = clustering_qr.cluster(
        features,
        nskip=settings["cluster_downsampling"],
        n_neigh=settings["cluster_neighbors"],
        max_sub=settings["max_cluster_subset"],
        lam=1,
        seed=settings["cluster_init_seed"],
        device=device,
    )
    tree, quality, leaves = hierarchical.maketree(neighbours, first, subset)
    tree, quality = swarmsplitter.split(features.numpy(), tree, quality, first, leaves, meta=times_s)
    return swarmsplitter.new_clusters(first, leaves, tree, quality)


def _means(features: torch.Tensor, found: Any, near: torch.Tensor, ops: Mapping[str, Any]) -> torch.Tensor:
    """Return the mean features of each cluster around one centre, on all channels."""
    n_pcs = ops["settings"]["n_pcs"]
    means = torch.zeros((int(found.max()) + 1, ops["Nchan"], n_pcs))
    for cluster in range(len(means)):
        means[cluster, near] = features[found == cluster].mean(0).reshape(-1, n_pcs).cpu()
    return means
