"""From and to NWB files: the table of units, their electrodes and the epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from spikelab._publish import published
from spikelab.spikedata._attributes import attribute_column, attribute_names, is_per_spike, unit_ids
from spikelab.spikedata._chunks import CHUNKS, read_chunks
from spikelab.spikedata._nwb_reading import NAME, OWN, read_units
from spikelab.spikedata._templates import average_of
from spikelab.spikedata.sorting import require_rate

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

_DESCRIPTIONS = {
    NAME: "name of the unit",
    "amplitude": "size of the average waveform at its peak (uV)",
    "channel": "index of the channel on which the unit is largest",
    "firing_rate": "mean rate (Hz)",
    "position": "estimated position on the probe (um)",
    "snr": "size of the average waveform over the noise of its channel",
    "spike_amplitudes": "amplitude of each spike (uV)",
    "std_norm": "spread of the waveforms at their peak over its size",
    "x": "position on the probe (um)",
    "y": "position on the probe (um)",
}


def from_nwb(cls: type[SpikeData], path: str | os.PathLike[str], *, length: float | None = None) -> SpikeData:
    """Return the units of an NWB file.

    Parameters
    ----------
    path : path-like
        The file.
    length : float, optional
        Duration (ms); default: up to the end of the observation intervals, else to the last spike.

    Returns
    -------
    SpikeData
        Times (ms) count from the start of the session. ``unit_id`` is the column ``unit_name`` where there is one,
        else the number of the unit; every other column is an attribute. ``waveform_mean`` gives ``template`` (uV).

    Raises
    ------
    ImportError
        When pynwb is not installed.
    FileNotFoundError
        When there is no such file.
    ValueError
        When it has no units with spike times, or is no NWB file.
    """
    pynwb = _import_pynwb()
    path = Path(path)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise FileNotFoundError(msg)
    try:
        with pynwb.NWBHDF5IO(path, mode="r") as io:
            return read_units(cls, io.read(), path, length)
    except (OSError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read as NWB: {error}"
        raise ValueError(msg) from error


def to_nwb(
    sd: SpikeData,
    path: str | os.PathLike[str],
    *,
    session_start_time: datetime | None = None,
    session_description: str = "sorted extracellular recording",
    identifier: str | None = None,
    fs_Hz: float | None = None,
    subject: Mapping[str, Any] | None = None,
    location: str = "unknown",
    **fields: Any,
) -> None:
    """Write an NWB file with the units, whole or not at all.

    Times become seconds from the start of the session. The recording's span is the observation interval of every
    unit, templates (``template_full`` or ``avg_waveform``, uV) become ``waveform_mean`` (V) on the electrodes of
    ``metadata["channel_locations"]``, epochs a table of epochs, and attributes that all units have as numbers, text,
    positions or one number per spike become columns. Without units, there is no table of units.

    Parameters
    ----------
    path : path-like
        The file, ending in ``.nwb``.
    session_start_time : datetime, optional
        When the recording began, with a time zone; default: ``metadata["session_start_time"]``. NWB demands it.
    session_description : str
        What the session was.
    identifier : str, optional
        Name of the file that no other file has; default: a random one.
    fs_Hz : float, optional
        Sampling rate (Hz), the resolution of the times; default: ``metadata["fs_Hz"]``.
    subject : mapping, optional
        Fields of ``pynwb.file.Subject`` (``subject_id``, ``species``, ``sex``, ``age``). Archives demand it.
    location : str, default "unknown"
        Where the electrodes were: a brain area, by its name in the species' atlas, or the kind of culture.
    **fields : object
        Further fields of ``pynwb.NWBFile`` (``experimenter``, ``lab``, ``institution``, ``keywords``, ...).

    Raises
    ------
    ImportError
        When pynwb is not installed.
    ValueError
        When the date or the rate is missing, or the recording starts before 0: NWB has no times before the session.
    """
    pynwb = _import_pynwb()
    if sd.start_time < 0:
        msg = (
            f"times in NWB count from the start of the session, and this starts at {sd.start_time} ms; shift it with "
            "sd.subtime(sd.start_time, sd.end_time, shift_to=0.0)"
        )
        raise ValueError(msg)
    file = pynwb.NWBFile(
        session_description=session_description,
        identifier=identifier or str(uuid4()),
        session_start_time=_session_start(sd, session_start_time),
        subject=None if subject is None else pynwb.file.Subject(**subject),
        **fields,
    )
    n_electrodes = _add_electrodes(file, sd, location)
    _add_units(file, sd, require_rate(sd, fs_Hz), n_electrodes)
    _add_epochs(file, sd)
    _write(pynwb, file, Path(path))


def _import_pynwb() -> Any:
    try:
        import pynwb
    except ImportError as error:
        msg = "NWB files need pynwb; install it with: pip install 'spikelab[nwb]'"
        raise ImportError(msg) from error
    return pynwb


def _session_start(sd: SpikeData, given: datetime | None) -> datetime:
    start = sd.metadata.get("session_start_time") if given is None else given
    if isinstance(start, str):
        start = datetime.fromisoformat(start)
    if not isinstance(start, datetime) or start.tzinfo is None:
        msg = (
            "NWB needs to know when the session began, with its time zone: "
            f"session_start_time=datetime(2024, 5, 17, 14, 30, tzinfo=timezone.utc); found {start!r}"
        )
        raise ValueError(msg)
    return start


def _write(pynwb: Any, file: Any, path: Path) -> None:
    import h5py

    if path.suffix != ".nwb":
        msg = f"the name of an NWB file must end in .nwb, got {path.name!r}"
        raise ValueError(msg)
    with published(path) as partial, h5py.File(partial, "w") as hdf5, pynwb.NWBHDF5IO(file=hdf5, mode="w") as io:
        io.write(file)


def _add_electrodes(file: Any, sd: SpikeData, location: str) -> int:
    """Add an electrode for each channel whose place is known, and return how many."""
    positions = np.asarray(sd.metadata.get("channel_locations", ()), dtype=np.float64)
    if positions.ndim != 2 or not len(positions):
        return 0
    device = file.create_device(name="probe", description="the probe that recorded the channels")
    group = file.create_electrode_group(
        name="channels", description="the channels that were sorted", location=location, device=device
    )
    names = sd.metadata.get("channel_ids", range(len(positions)))
    file.add_electrode_column(name="channel_name", description="id of the channel in the recording")
    for (x, y), name in zip(positions[:, :2].tolist(), names, strict=True):
        file.add_electrode(rel_x=x, rel_y=y, location=location, group=group, channel_name=str(name))
    return len(positions)


def _add_units(file: Any, sd: SpikeData, fs_Hz: float, n_electrodes: int) -> None:
    if not sd.N:
        return
    span = [sd.start_time / 1000.0, sd.end_time / 1000.0]
    columns = [
        *_ragged("spike_times", "times of the spikes (s)", [times / 1000.0 for times in sd.train]),
        *_ragged("obs_intervals", "when the unit could be observed (s)", [np.array([span])] * sd.N),
        *_waveform_columns(file, sd, n_electrodes),
        *_attribute_columns(sd),
    ]
    # Whole columns: row by row, pynwb looks at the type of every single spike.
    file.units = _import_pynwb().misc.Units(
        name="units", description="sorted units", resolution=1.0 / fs_Hz, waveform_rate=fs_Hz,
        electrode_table=file.electrodes, id=_numbers(sd), columns=columns,
    )  # fmt: skip


def _numbers(sd: SpikeData) -> list[int]:
    ids = unit_ids(sd.neuron_attributes)
    return ids if all(isinstance(unit, int) for unit in ids) else list(range(sd.N))


def _ragged(name: str, description: str, parts: Sequence[Any], table: Any = None) -> list[Any]:
    """Return the index and the data of a column with an array per unit; with a table, of rows of that table."""
    core = _import_pynwb().core
    data = np.concatenate(parts)
    vector = (
        core.VectorData(name=name, description=description, data=data)
        if table is None
        else core.DynamicTableRegion(name=name, description=description, data=data, table=table)
    )
    return [
        core.VectorIndex(name=f"{name}_index", data=np.cumsum([len(part) for part in parts]), target=vector),
        vector,
    ]


def _waveform_columns(file: Any, sd: SpikeData, n_electrodes: int) -> list[Any]:
    """Return ``waveform_mean`` (V) and its electrodes; nothing unless all units have a template on all of them."""
    averages = [average_of(entries, n_electrodes) for entries in sd.neuron_attributes]
    templates = [average for average in averages if average is not None]
    if not n_electrodes or len(templates) != sd.N or len({template.shape for template in templates}) != 1:
        return []
    means = np.stack(templates).astype(np.float32) * np.float32(1e-6)
    description = "electrodes of the columns of waveform_mean"
    return [
        _import_pynwb().core.VectorData(name="waveform_mean", description="average waveforms (V)", data=means),
        *_ragged("electrodes", description, [np.arange(n_electrodes)] * sd.N, file.electrodes),
    ]


def _attribute_columns(sd: SpikeData) -> list[Any]:
    """Return the attributes that all units have and that NWB can hold."""
    core = _import_pynwb().core
    ids = unit_ids(sd.neuron_attributes)
    columns = []
    if _numbers(sd) != ids:
        columns.append(core.VectorData(name=NAME, description=_describe(NAME), data=list(map(str, ids))))
    for name in attribute_names(sd.neuron_attributes):
        values: list[Any] = [entries.get(name) for entries in sd.neuron_attributes]
        # A slash would be a path, and NWB has its own idea of its own columns.
        if name in {"unit_id", "id", *OWN, NAME} or "/" in name or any(value is None for value in values):
            continue
        if all(is_per_spike(name, value) and value.ndim == 1 for value in values):
            columns += _ragged(name, _describe(name), values)
            continue
        column = _positions(values) if name == "position" else attribute_column(sd.neuron_attributes, name)
        if column.dtype.kind in "biufU" and column.ndim == (2 if name == "position" else 1):
            data = list(map(_as_utf8, column.tolist())) if column.dtype.kind == "U" else column
            columns.append(core.VectorData(name=name, description=_describe(name), data=data))
    return columns


def _positions(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return one row per unit, whether they are arrays, lists or tuples; no rows when they are of several lengths."""
    places = [np.asarray(value, dtype=np.float64) for value in values]
    return np.stack(places) if len({place.shape for place in places}) == 1 else np.zeros(0)


def _describe(name: str) -> str:
    return _DESCRIPTIONS.get(name, f"{name.replace('_', ' ')} of the unit")


def _as_utf8(text: str) -> str:
    """Return `text` with the bytes of a name that are no characters as their codes: HDF5 has no place for them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _add_epochs(file: Any, sd: SpikeData) -> None:
    if sd.metadata.get(CHUNKS) is None:
        return
    file.add_epoch_column(name="epoch_name", description="which recording it was")
    for (start, end), name in zip(*read_chunks(sd.metadata), strict=True):
        file.add_epoch(start_time=start / 1000.0, stop_time=end / 1000.0, epoch_name=_as_utf8(name))
