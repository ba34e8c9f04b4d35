"""Clustering around centres, at its edges."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("kilosort")


def test_a_centre_with_a_single_spike_is_a_cluster_of_its_own():
    """One spike around a centre is no obstacle, and its features are the mean of its cluster."""
    import torch

    from spikelab.spike_sorting.backends.kilosort4.kernels.grouping import cluster_groups

    class Progress:
        def emit(self, percent: int) -> None:
            assert 0 <= percent <= 100

    y_um = np.array([0.0, 400.0])
    ops = {
        "xcup": np.zeros(2),
        "ycup": y_um,
        "xc": np.zeros(2),
        "yc": y_um,
        "iC": torch.tensor([[0, 1]]),
        "dmin": 20.0,
        "dminx": 32.0,
        "fs": 20_000.0,
        "Nchan": 2,
        "settings": {"n_pcs": 3},
    }
    st = np.zeros((4, 6))
    st[:, 5] = [0, 0, 1, 0]
    features = torch.arange(12, dtype=torch.float32).reshape(4, 1, 3)
    clusters, means = cluster_groups(
        ops,
        st,
        features,
        least=200,
        density_below=4000,
        extracted=False,
        device=torch.device("cpu"),
        progress=Progress(),
    )
    assert clusters.tolist() == [0, 0, 1, 0]
    torch.testing.assert_close(means[1, 1], features[2, 0])
    assert means[1, 0].abs().sum() == 0


@pytest.mark.parametrize("sizes", [(150, 60), (300, 30, 200), (90,)])
def test_few_spikes_of_several_units_are_told_apart(sizes):
    """Clouds of some dozens of spikes in many features are clusters, and none of them falls apart."""
    import torch

    from spikelab.spike_sorting.backends.kilosort4.kernels.density import cluster_by_density

    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(0, 3, (len(sizes), 60))
    features = centres[truth] + rng.normal(0, 1, (len(truth), 60))
    order = rng.permutation(len(truth))
    found = cluster_by_density(torch.from_numpy(features[order]).float())
    assert len(set(zip(truth[order].tolist(), found.tolist(), strict=True))) == len(sizes) == found.max() + 1


@pytest.mark.parametrize("features", [np.zeros((50, 6)), np.ones((1, 3)), np.empty((0, 4))])
def test_spikes_without_any_difference_are_one_cluster(features):
    """Features that are all alike, and a handful of spikes, make one cluster."""
    import torch

    from spikelab.spike_sorting.backends.kilosort4.kernels.density import cluster_by_density

    assert not cluster_by_density(torch.from_numpy(features).float()).any()
