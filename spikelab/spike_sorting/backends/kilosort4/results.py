"""Kilosort4's files: read back and checked, and Phy's parameters made movable."""

from __future__ import annotations

import os
from pathlib import Path

from spikelab.spike_sorting._exceptions import InsufficientActivityError
from spikelab.spike_sorting.backends.base import Sorting, check_sorting
from spikelab.spike_sorting.backends.binary import FlatBinary
from spikelab.spike_sorting.backends.phy_files import load_array, unit_column

_SORTER = "kilosort4"


def read_results(folder: Path, n_samples: int) -> Sorting:
    """Return the spikes in Kilosort4's `folder`, without those outside the recording's `n_samples`."""
    import numpy as np

    samples = load_array(folder / "spike_times.npy", _SORTER).astype(np.int64).ravel()
    clusters = load_array(folder / "spike_clusters.npy", _SORTER).astype(np.int64).ravel()
    if samples.shape == clusters.shape:
        # The padding of the first and last batch can yield a spike just outside.
        inside = (samples >= 0) & (samples < n_samples)
        samples, clusters = samples[inside], clusters[inside]
        order = np.argsort(samples, kind="stable")
        samples, clusters = samples[order], clusters[order]
    unit_ids, units = np.unique(clusters, return_inverse=True)
    properties = {
        "ks_label": unit_column(folder / "cluster_KSLabel.tsv", str, unit_ids, _SORTER),
        "ks_contam_pct": unit_column(folder / "cluster_ContamPct.tsv", float, unit_ids, _SORTER),
        "ks_amplitude": unit_column(folder / "cluster_Amplitude.tsv", float, unit_ids, _SORTER),
    }
    return check_sorting(Sorting(samples, units, unit_ids, properties), n_samples, _SORTER)


def require_spikes(folder: Path, n_samples: int) -> None:
    """Raise InsufficientActivityError when none of the spikes in `folder` is within the recording's `n_samples`."""
    samples = load_array(folder / "spike_times.npy", _SORTER)
    if not ((samples >= 0) & (samples < n_samples)).any():
        msg = f"Kilosort4 ends without a unit, with {samples.size} spikes beside the recording and none in it"
        raise InsufficientActivityError(msg, sorter=_SORTER, units_at_failure=0, nspks_at_failure=0)


def write_phy_params(folder: Path, final_folder: Path, binary: FlatBinary, fs_Hz: float) -> None:
    """Write ``params.py`` with the path of the data relative to where the results will lie.

    Parameters
    ----------
    folder, final_folder : Path
        Where the results are now, and where they will be.
    binary : FlatBinary
        The data.
    fs_Hz : float
        Sampling rate.
    """
    try:
        data = os.path.relpath(binary.path, final_folder)
    except ValueError:  # another drive on Windows
        data = str(binary.path)
    lines = {
        "dat_path": Path(data).as_posix(),
        "n_channels_dat": binary.n_channels,
        "dtype": binary.dtype,
        "offset": 0,
        "sample_rate": fs_Hz,
        "hp_filtered": False,
    }
    text = "".join(f"{name} = {value!r}\n" for name, value in lines.items())
    (folder / "params.py").write_text(text, encoding="utf-8")
