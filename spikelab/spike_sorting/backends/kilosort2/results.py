"""Kilosort2's files: read back, and checked against each other and the recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting.backends.base import Sorting, check_sorting
from spikelab.spike_sorting.backends.phy_files import load_array, unit_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_CHANNELS = "n_channels"
"""File that says how many channels the recording has: Kilosort2's numbers of them are held against it."""
_SORTER = "kilosort2"


def read_results(folder: Path, n_samples: int, *, good_only: bool) -> Sorting:
    """Return the spikes in Kilosort2's `folder`.

    Parameters
    ----------
    folder : Path
        Folder of the sorter.
    n_samples : int
        Samples of the recording; spikes of the padding outside of it are left out.
    good_only : bool
        Whether only units that Kilosort2 calls good are returned.

    Raises
    ------
    SorterCrashedError
        A file is missing, cut, or disagrees with another one.
    """
    import numpy as np

    samples = load_array(folder / "spike_times.npy", _SORTER).astype(np.int64).ravel()
    clusters = load_array(folder / "spike_clusters.npy", _SORTER).astype(np.int64).ravel()
    if samples.shape == clusters.shape:
        inside = (samples >= 0) & (samples < n_samples)
        order = np.argsort(samples[inside], kind="stable")
        samples, clusters = samples[inside][order], clusters[inside][order]
    unit_ids, units = np.unique(clusters, return_inverse=True)
    labels = unit_column(folder / "cluster_KSLabel.tsv", str, unit_ids, _SORTER)
    properties = {
        "ks_label": labels,
        "ks_contam_pct": unit_column(folder / "cluster_ContamPct.tsv", float, unit_ids, _SORTER),
        "ks_amplitude": unit_column(folder / "cluster_Amplitude.tsv", float, unit_ids, _SORTER),
        "ks_channel": _channels(folder, unit_ids),
    }
    sorting = check_sorting(Sorting(samples, units, unit_ids, properties), n_samples, _SORTER)
    return _only(sorting, [label == "good" for label in labels]) if good_only else sorting


def _channels(folder: Path, unit_ids: NDArray[Any]) -> list[int]:
    """Return the channel of the recording on which each unit's template is largest.

    Kilosort2 leaves out channels that it finds silent: its own numbers count what is left.
    """
    import numpy as np

    channel_map = load_array(folder / "channel_map.npy", _SORTER).astype(np.int64).ravel()
    templates = load_array(folder / "templates.npy", _SORTER)
    if templates.ndim != 3 or templates.shape[2] != channel_map.size:
        msg = f"Kilosort2 left templates of shape {templates.shape} and a map of {channel_map.size} channels"
        raise SorterCrashedError(msg, sorter=_SORTER)
    if np.unique(channel_map).size != channel_map.size or (channel_map.size and channel_map.min() < 0):
        msg = "Kilosort2 left a map of channels in which one stands twice, or none is meant"
        raise SorterCrashedError(msg, sorter=_SORTER)
    n_channels = _channel_count(folder / N_CHANNELS)
    if n_channels is not None and channel_map.size and channel_map.max() >= n_channels:
        msg = f"Kilosort2 left a map with channel {channel_map.max()} (from 0), and the recording has {n_channels}"
        raise SorterCrashedError(msg, sorter=_SORTER)
    if unit_ids.size and unit_ids[-1] >= templates.shape[0]:
        msg = f"Kilosort2 left spikes of cluster {unit_ids[-1]} and {templates.shape[0]} templates"
        raise SorterCrashedError(msg, sorter=_SORTER)
    largest = np.ptp(templates, axis=1).argmax(axis=1)
    return [int(channel_map[largest[unit]]) for unit in unit_ids]


def _channel_count(path: Path) -> int | None:
    """Return the number of channels of the recording; None in a folder of an earlier version, which does not say it."""
    if not path.is_file():
        return None
    try:
        return int(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path.name} must hold the number of channels of the recording, and does not: {error}"
        raise SorterCrashedError(msg, sorter=_SORTER) from error


def _only(sorting: Sorting, keep: list[bool]) -> Sorting:
    import numpy as np

    kept = np.asarray(keep, dtype=bool)
    spikes = kept[sorting.units]
    renumbered = np.cumsum(kept) - 1
    properties = {
        name: [value for value, stays in zip(values, keep, strict=True) if stays]
        for name, values in sorting.unit_properties.items()
    }
    return Sorting(sorting.samples[spikes], renumbered[sorting.units[spikes]], sorting.unit_ids[kept], properties)
