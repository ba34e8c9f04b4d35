"""From and to the folders of Phy and Kilosort.

The files are those of https://phy.readthedocs.io/en/latest/sorting_user_guide/#datasets; nothing in them is ever
executed, ``params.py`` included.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from spikelab.spikedata import _phy_files
from spikelab.spikedata._attributes import Attributes, attribute_names, unit_ids
from spikelab.spikedata._raw import RecordingTraces
from spikelab.spikedata._templates import average_of
from spikelab.spikedata._trains import Ints, group_by_unit
from spikelab.spikedata.analyzer import unit_from_template
from spikelab.spikedata.sorting import require_rate, spike_samples

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

Array = npt.NDArray[Any]


def from_phy(cls: type[SpikeData], folder: str | os.PathLike[str], *, length: float | None = None) -> SpikeData:
    """Return the clusters of a folder that Kilosort wrote, or Phy saved, or :meth:`to_phy`.

    Parameters
    ----------
    folder : path-like
        With ``params.py``, ``spike_times.npy`` and ``spike_clusters.npy`` (or ``spike_templates.npy``).
    length : float, optional
        Duration (ms); default: that of the data that ``params.py`` names where they are there, else what
        :meth:`to_phy` noted, else up to the last spike.

    Returns
    -------
    SpikeData
        ``unit_id`` is the cluster's number, or the name that :meth:`to_phy` kept. Every column of the tables
        ``cluster_*.tsv`` (``group``, ``KSLabel``, ...) is an attribute. Templates are unwhitened as in Phy, and
        in the unit of their writer; ``spike_amplitudes`` are those of ``amplitudes.npy``. The data that
        ``params.py`` names are attached as raw data (in counts) and read when used.

    Raises
    ------
    FileNotFoundError
        When a file that every such folder has is missing.
    ValueError
        When files are damaged or contradict each other.
    """
    folder = Path(folder)
    params = _phy_files.read_params(folder / "params.py")
    rate_kHz = params["sample_rate"] / 1000.0
    samples = _phy_files.read_vector(folder / "spike_times.npy")
    clusters = _phy_files.read_vector(folder / "spike_clusters.npy", folder / "spike_templates.npy")
    if samples.shape != clusters.shape:
        found = f"found {samples.size} and {clusters.size}"
        msg = f"{folder}: spike_times.npy and the clusters must be of one length, {found}"
        raise ValueError(msg)
    tables = _phy_files.read_tables(folder)
    ids = _clusters(clusters, tables)
    units = np.searchsorted(ids, clusters)
    attributes = _attributes(folder, ids, units, tables)
    traces = _phy_files.open_traces(folder, params)
    if length is None:
        length = params.get("length_ms") if traces is None else traces.get_num_samples() / rate_kHz
    return cls(
        group_by_unit(units, samples / rate_kHz, ids.size),
        length=length,
        neuron_attributes=attributes,
        metadata=_metadata(folder, params),
        raw_data=None if traces is None else RecordingTraces(traces),
        raw_time=None if traces is None else rate_kHz,
    )


def _clusters(clusters: Ints, tables: dict[str, dict[int, Any]]) -> Ints:
    """Return the clusters that are units: those with spikes, and as long as nobody changed any, the silent ones.

    After a merge or a split by hand, whose result has no name, the names no longer tell units from their remains.
    """
    with_spikes = np.unique(clusters)
    named = tables.get(_phy_files.UNIT_ID, {})
    if not set(with_spikes.tolist()) <= named.keys():
        tables.pop(_phy_files.UNIT_ID, None)
        return with_spikes
    return np.array(sorted(named), dtype=np.int64)


def _attributes(folder: Path, ids: Ints, units: Ints, tables: Mapping[str, Mapping[int, Any]]) -> list[Attributes]:
    entries: list[Attributes] = [{"unit_id": int(cluster)} for cluster in ids]
    for name, column in tables.items():
        for cluster, own in zip(ids.tolist(), entries, strict=True):
            if cluster in column:
                own[name] = column[cluster]
    averages = _phy_files.read_templates(folder, units, ids.size)
    positions = _phy_files.read_positions(folder)
    if averages is not None and positions is not None and averages.shape[2] == len(positions):
        channels = list(range(len(positions)))
        for own, average in zip(entries, averages, strict=True):
            own |= unit_from_template(average, channels, positions)
    amplitudes = _phy_files.read_amplitudes(folder, units.size)
    if amplitudes is not None:
        for own, per_spike in zip(entries, group_by_unit(units, amplitudes, ids.size), strict=True):
            own["spike_amplitudes"] = per_spike
    return entries


def _metadata(folder: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"source_file": str(folder), "source_format": "phy", "fs_Hz": params["sample_rate"]}
    positions = _phy_files.read_positions(folder)
    if positions is not None:
        metadata["channel_locations"] = positions
    return metadata


def to_phy(
    sd: SpikeData,
    folder: str | os.PathLike[str],
    *,
    fs_Hz: float | None = None,
    dat_path: str | os.PathLike[str] | None = None,
    n_channels_dat: int | None = None,
    dtype: str = "int16",
) -> Path:
    """Write a folder that Phy opens with ``phy template-gui FOLDER/params.py``; times count from `start_time`.

    Cluster k is the unit with index k; its id and every number and text among the attributes are columns of the
    cluster view. Templates (``template_full`` or ``avg_waveform``) and ``spike_amplitudes`` are written where units
    have them.

    Parameters
    ----------
    folder : path-like
        A folder that is not there yet, or empty.
    fs_Hz : float, optional
        Sampling rate (Hz); default: ``metadata["fs_Hz"]``.
    dat_path : path-like, optional
        Flat binary file of the recording, channels together for each sample; without it Phy shows no traces.
    n_channels_dat : int, optional
        Channels of that file; default: those of ``metadata["channel_locations"]``, which are its first ones.
    dtype : str, default "int16"
        Its type.

    Returns
    -------
    Path
        Path of ``params.py``.

    Raises
    ------
    ValueError
        When there is no rate, no spike, or ``metadata["channel_locations"]`` (um, shape (channels, 2)) is missing.
    FileExistsError
        When the folder holds anything: it may be somebody's work by hand.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} must not exist or be empty, and holds files; choose another folder"
        raise FileExistsError(msg)
    rate = require_rate(sd, fs_Hz)
    arrays = _arrays(sd, rate)
    n_channels = len(arrays["channel_positions"])
    params = {
        "dat_path": "" if dat_path is None else Path(os.path.relpath(dat_path, folder)).as_posix(),
        "n_channels_dat": n_channels if n_channels_dat is None else n_channels_dat,
        "dtype": dtype,
        "offset": 0,
        "sample_rate": rate,
        "hp_filtered": False,
        "length_ms": sd.length,  # Phy has no use for it; without the data nobody else would know it
    }
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        _phy_files.write_tables(partial, _columns(sd))
        _phy_files.write_params(partial / "params.py", params)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "params.py"


def _arrays(sd: SpikeData, fs_Hz: float) -> dict[str, Array]:
    samples, units, order = spike_samples(sd, fs_Hz)
    if not samples.size:
        msg = "Phy opens no folder without spikes, and there are none"
        raise ValueError(msg)
    positions = _channel_positions(sd)
    arrays: dict[str, Array] = {
        "spike_times": samples,
        "spike_clusters": units.astype(np.int32),
        "spike_templates": units.astype(np.int32),
        "amplitudes": _amplitudes(sd)[order],
        "channel_map": np.arange(len(positions), dtype=np.int32),
        "channel_positions": positions,
    }
    templates = _templates(sd, len(positions))
    if templates is not None:
        arrays |= {"templates": templates, "similar_templates": _similarity(templates)}
        arrays |= {name: np.eye(len(positions)) for name in ("whitening_mat", "whitening_mat_inv")}
    return arrays


def _channel_positions(sd: SpikeData) -> npt.NDArray[np.float64]:
    positions = np.asarray(sd.metadata.get("channel_locations", ()), dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 2:
        msg = (
            'Phy needs the positions of the channels: metadata["channel_locations"] must have shape (channels, 2), in '
            f"um, found shape {positions.shape}; set it with sd.replace(metadata={{**sd.metadata, ...}})"
        )
        raise ValueError(msg)
    return positions


def _amplitudes(sd: SpikeData) -> npt.NDArray[np.float64]:
    parts = [
        np.asarray(entries.get("spike_amplitudes", np.ones(times.size)), dtype=np.float64)
        for entries, times in zip(sd.neuron_attributes, sd.train, strict=True)
    ]
    return np.concatenate(parts)


def _templates(sd: SpikeData, n_channels: int) -> npt.NDArray[np.float32] | None:
    """Return the templates (units, samples, channels), zero where a unit has none; None where no unit has one."""
    averages = [average_of(entries, n_channels) for entries in sd.neuron_attributes]
    shapes = {average.shape for average in averages if average is not None}
    if len(shapes) != 1:
        return None
    (shape,) = shapes
    flat = np.zeros(shape, dtype=np.float32)
    return np.stack([flat if average is None else average for average in averages]).astype(np.float32)


def _similarity(templates: Array) -> Array:
    """Return the cosine of each pair of templates."""
    vectors = templates.reshape(len(templates), -1)
    norms = np.linalg.norm(vectors, axis=1)
    vectors = vectors / np.where(norms > 0, norms, 1.0).astype(np.float32)[:, np.newaxis]
    return vectors @ vectors.T


def _columns(sd: SpikeData) -> dict[str, dict[int, Any]]:
    """Return the columns of Phy's cluster view: by name, then by cluster."""
    columns: dict[str, dict[int, Any]] = {_phy_files.UNIT_ID: dict(enumerate(unit_ids(sd.neuron_attributes)))}
    for name in attribute_names(sd.neuron_attributes):
        values = {
            unit: entries[name]
            for unit, entries in enumerate(sd.neuron_attributes)
            if isinstance(entries.get(name), str | int | float | np.number | np.bool_)
        }
        if values and name != _phy_files.UNIT_ID:
            columns[name] = values
    return columns
