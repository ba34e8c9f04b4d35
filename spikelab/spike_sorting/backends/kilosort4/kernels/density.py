"""Clusters of few spikes, by the density of their features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

SMALLEST = 30
"""Spikes that make a cluster."""
_N_COMPONENTS = 5
"""Principal components in which density is judged: with few spikes, there is nothing but noise in the others."""


def cluster_by_density(features: torch.Tensor) -> npt.NDArray[np.int64]:
    """Return the cluster of each spike: HDBSCAN in the first principal components of the features.

    A graph of nearest neighbours and a test for two humps, as Kilosort4 has them, need many more spikes than features.
    Density needs no more than `SMALLEST` spikes in a cluster, and does not take the halves of one cloud for two.

    Parameters
    ----------
    features : Tensor, shape (n_spikes, n_features), float32
        Features.

    Returns
    -------
    ndarray, shape (n_spikes,), int64
        Clusters, from 0 on without gaps; a spike between them belongs to that of the nearest spike that has one.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import KNeighborsClassifier

    if len(features) < 2 * SMALLEST:
        return np.zeros(len(features), dtype=np.int64)
    centred = (features - features.mean(0)).double()
    components = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:_N_COMPONENTS].T).cpu().numpy()
    found = HDBSCAN(min_cluster_size=SMALLEST, allow_single_cluster=True, copy=True).fit_predict(components)
    inside = found >= 0
    if not inside.any():
        return np.zeros(len(features), dtype=np.int64)
    nearest = KNeighborsClassifier(n_neighbors=1).fit(components[inside], found[inside])
    clusters: npt.NDArray[np.int64] = np.unique(nearest.predict(components), return_inverse=True)[1]
    return clusters
