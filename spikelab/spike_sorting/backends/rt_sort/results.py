"""What RT-Sort left: read back, and checked against each other and the recording."""

from __future__ import annotations

from pathlib import Path

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting.backends.base import Sorting, check_sorting
from spikelab.spike_sorting.backends.phy_files import load_array

_SORTER = "rt_sort"


def read_results(folder: Path, n_samples: int) -> Sorting:
    """Return the spikes in `folder`: one unit for each sequence that has any.

    Raises
    ------
    SorterCrashedError
        A file is missing, cut, or disagrees with another one.
    """
    import numpy as np

    samples = load_array(folder / "spike_samples.npy", _SORTER).astype(np.int64).ravel()
    labels = load_array(folder / "spike_labels.npy", _SORTER).astype(np.int64).ravel()
    roots = load_array(folder / "root_channels.npy", _SORTER).astype(np.int64).ravel()
    templates = load_array(folder / "templates.npy", _SORTER)
    if templates.ndim != 3 or len(templates) != roots.size:
        msg = f"RT-Sort left templates of shape {templates.shape} and {roots.size} root electrodes"
        raise SorterCrashedError(msg, sorter=_SORTER)
    n_channels = templates.shape[2]
    if roots.size and not (roots.min() >= 0 and roots.max() < n_channels):
        msg = f"RT-Sort left root electrodes that are none of the {n_channels} channels"
        raise SorterCrashedError(msg, sorter=_SORTER)
    unit_ids, units = np.unique(labels, return_inverse=True)
    if unit_ids.size and not (unit_ids[0] >= 0 and unit_ids[-1] < roots.size):
        msg = f"RT-Sort left spikes of sequence {unit_ids[-1]} and {roots.size} sequences"
        raise SorterCrashedError(msg, sorter=_SORTER)
    properties = {"rt_root_channel": [int(roots[unit]) for unit in unit_ids]}
    return check_sorting(Sorting(samples, units, unit_ids, properties), n_samples, _SORTER)
