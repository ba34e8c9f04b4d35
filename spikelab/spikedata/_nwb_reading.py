"""What an NWB file says about its units, once pynwb has opened it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._attributes import Attributes
from spikelab.spikedata._chunks import CHUNKS, NAMES
from spikelab.spikedata._templates import template_attributes

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

Array = npt.NDArray[Any]

NAME = "unit_name"
"""Column for ids that are no whole numbers, as other writers of NWB call it."""

OWN = {"spike_times", "obs_intervals", "electrodes", "electrode_group", "waveform_mean", "waveform_sd", "waveforms"}
"""Columns that NWB defines; every other one is an attribute as it is."""


def read_units(cls: type[SpikeData], file: Any, path: Path, length: float | None) -> SpikeData:
    units = file.units
    if units is None or "spike_times" not in units.colnames:
        msg = f"{path} has no table of units with spike_times"
        raise ValueError(msg)
    spans = _rows(units, "obs_intervals")
    edges = np.concatenate([np.zeros(0), *(np.ravel(span) for span in spans)]) * 1000.0
    trains = [np.asarray(times, dtype=np.float64) * 1000.0 for times in _rows(units, "spike_times")]
    start = float(edges.min()) if edges.size else 0.0
    if length is None and edges.size:
        length = float(edges.max()) - start
    return cls(
        trains,
        length=length,
        start_time=start,
        neuron_attributes=_read_attributes(units, file.electrodes),
        metadata=_read_metadata(file, path),
    )


def _rows(units: Any, name: str) -> list[Any]:
    return [units[name][row] for row in range(len(units))] if name in units.colnames else []


def _read_attributes(units: Any, electrodes: Any) -> list[Attributes]:
    entries: list[Attributes] = [{"unit_id": int(number)} for number in units.id[:]]
    for name in units.colnames:
        if name in OWN:
            continue
        for own, value in zip(entries, _rows(units, name), strict=True):
            plain = value.item() if isinstance(value, np.generic) else value
            if isinstance(plain, str | int | float | np.ndarray):
                own["unit_id" if name == NAME else name] = plain
    n_electrodes = 0 if electrodes is None else len(electrodes)
    for own, mean, region in zip(entries, _rows(units, "waveform_mean"), _regions(units), strict=False):
        own |= _read_waveform(np.asarray(mean) * 1e6, region, n_electrodes)
    return entries


def _regions(units: Any) -> list[Array]:
    """Return the indices of the electrodes of each unit."""
    if "electrodes" not in units.colnames:
        return [np.zeros(0, dtype=np.int64)] * len(units)
    ends = np.asarray(units["electrodes"].data[:], dtype=np.int64)
    return np.split(np.asarray(units["electrodes"].target.data[:], dtype=np.int64), ends[:-1])


def _read_waveform(mean_uV: Array, region: Array, n_electrodes: int) -> Attributes:
    """Return the template attributes of a waveform (samples, electrodes); where it lies, when NWB says it."""
    if mean_uV.ndim != 2 or mean_uV.shape[1] != region.size or not np.isfinite(mean_uV).all() or not mean_uV.any():
        return {"template": mean_uV} if mean_uV.any() else {}
    full = np.zeros((len(mean_uV), n_electrodes), dtype=np.float32)
    full[:, region] = mean_uV
    return template_attributes(full)


def _read_metadata(file: Any, path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "source_file": str(path),
        "source_format": "nwb",
        "session_start_time": file.session_start_time.isoformat(),
        "session_description": file.session_description,
        "identifier": file.identifier,
    }
    resolution = file.units.resolution
    if resolution:
        metadata["fs_Hz"] = 1.0 / float(resolution)
    electrodes = file.electrodes
    if electrodes is not None and {"rel_x", "rel_y"} <= set(electrodes.colnames):
        metadata["channel_locations"] = np.stack([electrodes[axis][:] for axis in ("rel_x", "rel_y")], axis=1)
    if electrodes is not None and "channel_name" in electrodes.colnames:
        metadata["channel_ids"] = [str(name) for name in electrodes["channel_name"][:]]
    if file.epochs is not None:
        starts, stops = (np.asarray(file.epochs[name][:]) * 1000.0 for name in ("start_time", "stop_time"))
        metadata[CHUNKS] = np.stack([starts, stops], axis=1).tolist()
        if "epoch_name" in file.epochs.colnames:
            metadata[NAMES] = [str(name) for name in file.epochs["epoch_name"][:]]
    return metadata
