"""Kilosort4's files: read back and checked, and Phy's parameters made movable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting.backends.base import Sorting, check_sorting
from spikelab.spike_sorting.backends.binary import FlatBinary


def read_results(folder: Path, n_samples: int) -> Sorting:
    """Return the spikes in Kilosort4's `folder`, without those outside the recording's `n_samples`."""
    import numpy as np

    samples = _load(folder / "spike_times.npy").astype(np.int64).ravel()
    clusters = _load(folder / "spike_clusters.npy").astype(np.int64).ravel()
    if samples.shape == clusters.shape:
        # The padding of the first and last batch can yield a spike just outside.
        inside = (samples >= 0) & (samples < n_samples)
        samples, clusters = samples[inside], clusters[inside]
        order = np.argsort(samples, kind="stable")
        samples, clusters = samples[order], clusters[order]
    unit_ids, units = np.unique(clusters, return_inverse=True)
    properties = {
        "ks_label": _column(folder / "cluster_KSLabel.tsv", str, unit_ids),
        "ks_contam_pct": _column(folder / "cluster_ContamPct.tsv", float, unit_ids),
        "ks_amplitude": _column(folder / "cluster_Amplitude.tsv", float, unit_ids),
    }
    return check_sorting(Sorting(samples, units, unit_ids, properties), n_samples, "kilosort4")


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


def _load(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"Kilosort4 left no readable {path.name} ({error})"
        raise SorterCrashedError(msg, sorter="kilosort4") from error


def _column(path: Path, kind: type, unit_ids: Any) -> list[Any]:
    """Return the value of each unit from one of Kilosort's two-column tables."""
    try:
        lines = _whole_lines(path.read_text(encoding="utf-8"))[1:]
        values = {int(key): kind(value) for key, value in (line.split("\t") for line in lines)}
        return [values[int(unit)] for unit in unit_ids]
    except (OSError, ValueError, KeyError) as error:
        msg = f"Kilosort4 left no complete {path.name} ({error!r})"
        raise SorterCrashedError(msg, sorter="kilosort4") from error


def _whole_lines(text: str) -> list[str]:
    """Return the lines of `text`; raise ValueError when the last one is cut: "goo" would be a label, too."""
    *lines, rest = text.split("\n")
    if rest:
        msg = f"its last line, {rest!r}, has no end"
        raise ValueError(msg)
    return lines
