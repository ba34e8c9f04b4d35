"""The file of a SpikeData: HDF5, version 1.

| path | content |
|---|---|
| ``/`` | attributes format="spikelab-spikedata", version=1, start_time_ms, length_ms |
| ``/spikes/times_ms`` | float64, the times of unit 0, then of unit 1, ... |
| ``/spikes/index`` | int64 (N,), where each unit ends in times_ms, as in NWB's ragged columns |
| ``/units/<name>`` | one attribute of the units, see ``_columns`` |
| ``/metadata`` | group: strict JSON, arrays beside it, see ``_pack`` |

The bytes end with a checksum, see ``_seal``. Raw data stay where they are. Opening a file never runs code that is
in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab._publish import published
from spikelab.spikedata import _columns
from spikelab.spikedata._attributes import Attributes, attribute_names, check_metadata
from spikelab.spikedata._later import Later, LaterAttributes, OpenFile
from spikelab.spikedata._seal import check_seal, seal
from spikelab.spikedata._values import MISSING

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

FORMAT = "spikelab-spikedata"
VERSION = 1


def save(sd: SpikeData, path: str | os.PathLike[str]) -> None:
    """Write everything but the raw data to one HDF5 file, whole or not at all.

    An older file at `path` is replaced when the new one is on the disk. Equal data give equal bytes.
    Tuples in attributes and metadata become lists.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist.

    Raises
    ------
    ValueError
        When an attribute or the metadata hold a value that the file cannot; the message names it.
    OSError
        When the disk does not take it.
    """
    sd = sd.copy()  # validated anew: attributes may have been changed in place
    with published(Path(path)) as partial:
        # Built in memory: libhdf5 does not tell when its last write fails, as on a full disk; Python does.
        partial.write_bytes(_image(sd))
        seal(partial)


def _image(sd: SpikeData) -> bytes:
    """Return the content of the file."""
    import h5py

    with h5py.File("spikedata.h5", "w", driver="core", backing_store=False) as file:
        _write(sd, file)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write(sd: SpikeData, file: Any) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["start_time_ms"] = sd.start_time
    file.attrs["length_ms"] = sd.length
    _write_spikes(file.create_group("spikes"), sd)
    _write_units(file.create_group("units", track_order=True), sd.neuron_attributes)
    _write_metadata(file, sd.metadata)


def _write_spikes(group: Any, sd: SpikeData) -> None:
    _columns.write_array(group, "times_ms", np.concatenate([np.zeros(0), *sd.train]))
    _columns.write_array(group, "index", np.cumsum([times.size for times in sd.train], dtype=np.int64))


def _write_units(group: Any, attributes: list[Attributes]) -> None:
    for name in attribute_names(attributes):
        values = [entries.get(name, MISSING) for entries in attributes]
        try:
            _columns.write_column(group, _columns.escape(name), values, MISSING)
        except ValueError as error:
            msg = f"attribute {name!r}: {error}"
            raise ValueError(msg) from error


def _write_metadata(file: Any, metadata: dict[str, Any]) -> None:
    try:
        _columns.write_json(file, "metadata", [metadata])
    except ValueError as error:
        msg = f"metadata: {error}"
        raise ValueError(msg) from error


def append_metadata(path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
    """Add entries to the metadata of a saved file, in place of those of the same names; all else stays as it is.

    The file is replaced by the new one when that is on the disk, and objects that were loaded from it are not
    concerned.

    Parameters
    ----------
    path : path-like
        A file that :meth:`save` wrote.
    metadata : mapping
        The entries.

    Raises
    ------
    ValueError
        When it is no such file, is damaged, or a value cannot be saved.
    FileNotFoundError
        When there is none.
    OSError
        When the disk does not take it.
    """
    path, added = Path(path), check_metadata(metadata)
    with _as_spikedata_file(path), published(path) as partial:
        check_seal(path)
        partial.write_bytes(_image_with(path, added))
        seal(partial)


def _image_with(path: Path, added: dict[str, Any]) -> bytes:
    """Return the content of the file with other metadata; built in memory as in :func:`save`."""
    import h5py

    with h5py.File(path, "r+", driver="core", backing_store=False) as file:
        _check_header(file)
        (metadata,) = _columns.read_json(file, "metadata")
        del file["metadata"]
        _write_metadata(file, {**metadata, **added})
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def load(cls: type[SpikeData], path: str | os.PathLike[str], *, verify: bool = True) -> SpikeData:
    """Read a file that :meth:`save` wrote; nothing in it is ever executed.

    Attributes that are large arrays of one shape (templates of many units: more than 16 MiB in all) stay in the
    file, which is kept open, and are read each time they are asked for.

    Parameters
    ----------
    path : path-like
        The file.
    verify : bool, default True
        Compare the checksum first. False is for a file that was changed with another program on purpose; a
        damaged one may then crash HDF5.

    Raises
    ------
    ValueError
        When it is no such file, is damaged or changed, or was written by a newer release.
    FileNotFoundError
        When there is none.
    """
    path = Path(path)
    opened = OpenFile(path)  # a missing or forbidden file is that, and no damaged one
    with _as_spikedata_file(path):
        if verify:
            check_seal(path)
        # Windows replaces no file that is open, as the next sort of the same recording would.
        sd = _read(cls, path, None if os.name == "nt" else opened)
        opened.require(path)
        return sd


@contextmanager
def _as_spikedata_file(path: Path) -> Iterator[None]:
    """Say of whatever a damaged file makes HDF5 and JSON raise that the file is damaged."""
    try:
        yield
    except FileNotFoundError:
        raise
    # RuntimeError includes endless recursion.
    except (
        OSError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OverflowError,
        RuntimeError,
        MemoryError,
    ) as error:
        msg = (
            f"{path} cannot be read as a SpikeData file: {error}; it is foreign, truncated, damaged or changed by "
            "another program (then load it with verify=False and save it again)"
        )
        raise ValueError(msg) from error


def _read(cls: type[SpikeData], path: Path, opened: OpenFile | None) -> SpikeData:
    import h5py

    with h5py.File(path, "r") as file:
        _check_header(file)
        spikes = _columns.read_node(file, "spikes")
        times = _columns.read_array(spikes, "times_ms", kinds="f")
        trains = _columns.split_ragged(times, _columns.read_array(spikes, "index", kinds="iu"), "/spikes")
        attributes = _read_units(_columns.read_node(file, "units"), len(trains), opened)
        (metadata,) = _columns.read_json(file, "metadata")
        start_time, length = float(file.attrs["start_time_ms"]), float(file.attrs["length_ms"])
    return cls(trains, length=length, start_time=start_time, neuron_attributes=attributes, metadata=metadata)


def _check_header(file: Any) -> None:
    found, version = file.attrs.get("format"), file.attrs.get("version")
    if not isinstance(found, str) or found != FORMAT:
        msg = f"the attribute format must be {FORMAT!r}, found {found!r}"
        raise ValueError(msg)
    if version != VERSION:
        msg = f"this release reads version {VERSION}, found version {version}; install a newer spikelab"
        raise ValueError(msg)


def _read_units(group: Any, n_units: int, opened: OpenFile | None) -> list[Attributes]:
    attributes: list[Attributes] = [{} for _ in range(n_units)]
    for link in group:
        column = _columns.read_column(group, link, n_units, MISSING, opened)
        for entries, value in zip(attributes, column, strict=True):
            if value is not MISSING:
                entries[_columns.unescape(link)] = value
    return [LaterAttributes(own) if any(isinstance(v, Later) for v in own.values()) else own for own in attributes]
