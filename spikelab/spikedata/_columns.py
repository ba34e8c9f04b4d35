"""Values in HDF5: one dataset for values of one kind, a group where it takes more; read strictly.

Kinds, kept in the attribute ``kind``: bool, int, float, scalar (numpy's), str, array (all of one shape),
ragged (group: ``data``, cumulative ``index`` and, beyond vectors, ``shape``), json (group: ``json``,
``arrays``) and partial (group: ``units`` that have a value, ``none`` for those where it is None, ``values``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._later import Later, OpenFile
from spikelab.spikedata._pack import is_storable, pack, unpack

Array = npt.NDArray[Any]

LATER_BYTES = 2**24
"""Columns of arrays from this size on stay in the file: they are templates of many units on many channels."""


# ---------------------------------------------------------------- names


def escape(name: str) -> str:
    """Return an HDF5 link name: "/", "%", NUL and lone surrogates are percent-encoded, "." and "" too."""
    if not name.strip("."):
        return "%" + name.replace(".", "%2E")
    return "".join(_escape_character(character) for character in name)


def _escape_character(character: str) -> str:
    if character not in "/%\0" and not "\ud800" <= character <= "\udfff":
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def unescape(link: str) -> str:
    """Return the name of an HDF5 link that :func:`escape` made."""
    from urllib.parse import unquote

    if link == "%" or link.startswith("%%2E"):
        link = link[1:]
    return unquote(link, errors="surrogatepass")


# ---------------------------------------------------------------- writing


def write_column(parent: Any, link: str, values: Sequence[Any], missing: Any) -> None:
    """Write one attribute of all units; `missing` marks the units that do not have it.

    Raises
    ------
    ValueError
        When a value is of a type that the file cannot hold.
    """
    if not any(value is missing or value is None for value in values):
        _write_values(parent, link, values)
        return
    group = parent.create_group(link)
    group.attrs["kind"] = "partial"
    have = [unit for unit, value in enumerate(values) if value is not missing and value is not None]
    write_array(group, "units", np.array(have, dtype=np.int64))
    write_array(group, "none", np.array([u for u, value in enumerate(values) if value is None], dtype=np.int64))
    _write_values(group, "values", [values[unit] for unit in have])


def _write_values(parent: Any, link: str, values: Sequence[Any]) -> None:
    kind = _kind(values)
    if kind == "json":
        write_json(parent, link, values)
    elif kind == "ragged":
        _write_ragged(parent, link, values)
    elif kind == "str":
        _write_texts(parent, link, values).attrs["kind"] = kind
    else:
        write_array(parent, link, np.array(values)).attrs["kind"] = kind


def _kind(values: Sequence[Any]) -> str:
    """Return the narrowest kind that gives every value back as it was."""
    types = {type(value) for value in values}
    if len(types) != 1:
        return "json"
    kind = types.pop()
    if kind is int:
        return "int" if all(-(2**63) <= value < 2**63 for value in values) else "json"
    if kind is str:
        return "str" if all(_is_plain_text(value) for value in values) else "json"
    if kind is np.ndarray:
        return _array_kind(values)
    if kind in {bool, float}:
        return str(kind.__name__)
    is_scalar = issubclass(kind, np.generic) and is_storable(np.asarray(values[0]))
    return "scalar" if is_scalar and len({value.dtype for value in values}) == 1 else "json"


def _array_kind(arrays: Sequence[Array]) -> str:
    dtypes, ranks = {array.dtype for array in arrays}, {array.ndim for array in arrays}
    if len(dtypes) > 1 or len(ranks) > 1 or not is_storable(arrays[0]) or not dtypes.pop().isnative:
        return "json"
    return "array" if len({array.shape for array in arrays}) == 1 else "ragged"


def _is_plain_text(text: str) -> bool:
    # HDF5 ends a text at NUL, and UTF-8 has no lone surrogates; JSON escapes both.
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def write_array(parent: Any, link: str, array: Array) -> Any:
    """Write an array as one contiguous dataset without timestamps, so that equal data give equal bytes."""
    return parent.create_dataset(link, data=array, track_times=False)


def _write_texts(parent: Any, link: str, texts: Sequence[str]) -> Any:
    import h5py

    values = np.array(texts, dtype=object)
    return parent.create_dataset(link, data=values, dtype=h5py.string_dtype(), track_times=False)


def write_json(parent: Any, link: str, values: Sequence[Any]) -> None:
    """Write values of any kind as a group: one strict JSON text each, and their arrays as datasets."""
    arrays: list[Array] = []
    texts = [json.dumps(pack(value, arrays), allow_nan=False) for value in values]
    group = parent.create_group(link)
    group.attrs["kind"] = "json"
    _write_texts(group, "json", texts)
    beside = group.create_group("arrays")
    for number, array in enumerate(arrays):
        write_array(beside, str(number), array)


def _write_ragged(parent: Any, link: str, arrays: Sequence[Array]) -> None:
    group = parent.create_group(link)
    group.attrs["kind"] = "ragged"
    write_array(group, "data", np.concatenate([array.ravel() for array in arrays]))
    write_array(group, "index", np.cumsum([array.size for array in arrays]))
    if arrays[0].ndim > 1:
        write_array(group, "shape", np.array([array.shape for array in arrays]))


# ---------------------------------------------------------------- reading


def read_column(parent: Any, link: str, n_units: int, missing: Any, file: OpenFile | None = None) -> list[Any]:
    """Return what :func:`write_column` was given; with `file`, large arrays of one shape as :class:`Later`.

    Raises
    ------
    ValueError
        When the column is malformed.
    """
    node = read_node(parent, link)
    if node.attrs["kind"] != "partial":
        return _require_length(link, _read_values(parent, link, file), n_units)
    column = [missing] * n_units
    units = _read_units(node, "units", n_units)
    values = _require_length(link, _read_values(node, "values", file), len(units))
    for unit in _read_units(node, "none", n_units):
        column[unit] = None
    for unit, value in zip(units, values, strict=True):
        column[unit] = value
    return column


def _read_units(node: Any, link: str, n_units: int) -> list[int]:
    units: list[int] = read_array(node, link, kinds="iu").tolist()
    if any(not 0 <= unit < n_units for unit in units):
        msg = f"{node.name}/{link} names units beyond the {n_units} of the file"
        raise ValueError(msg)
    return units


def _require_length(link: str, values: list[Any], expected: int) -> list[Any]:
    if len(values) != expected:
        msg = f"column {link!r} must have {expected} values, found {len(values)}"
        raise ValueError(msg)
    return values


def _read_values(parent: Any, link: str, file: OpenFile | None) -> list[Any]:
    kind = read_node(parent, link).attrs["kind"]
    if kind == "json":
        return read_json(parent, link)
    if kind == "ragged":
        return _read_ragged(read_node(parent, link))
    if kind == "str":
        return _read_texts(parent, link)
    if kind == "array" and file is not None and (rows := _rows_in_file(parent, link, file)):
        return rows
    values = read_array(parent, link, kinds="biufc")
    if kind in {"bool", "int", "float"}:
        plain: list[Any] = values.tolist()
        return plain
    if kind not in {"scalar", "array"}:
        msg = f"column {link!r} is of the unknown kind {kind!r}"
        raise ValueError(msg)
    # Rows of a vector are scalars: an array without axes must be made one again.
    return list(values) if kind == "scalar" else [np.asarray(row) for row in values]


def _rows_in_file(parent: Any, link: str, file: OpenFile) -> list[Later]:
    """Return the rows of a large array without reading them, none where it is small or not stored as in memory."""
    node = _require_all(_require_plain(read_node(parent, link)), "biufc")
    if node.nbytes < LATER_BYTES or node.ndim < 2 or node.dtype.kind not in "iuf":
        return []
    shape, offset = node.shape[1:], node.id.get_offset()
    row_bytes = node.nbytes // len(node)
    return [Later(file, offset + row * row_bytes, node.dtype, shape) for row in range(len(node))]


def _read_ragged(group: Any) -> list[Any]:
    data = read_array(group, "data", kinds="biufc")
    arrays = split_ragged(data, read_array(group, "index", kinds="iu"), group.name)
    if "shape" not in group:
        return list(arrays)
    shapes = read_array(group, "shape", kinds="iu").tolist()
    return [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]


def split_ragged(data: Array, index: Array, where: str) -> list[Array]:
    """Return the parts of a ragged column, given the cumulative end of each.

    Raises
    ------
    ValueError
        When the ends fall or do not match the data.
    """
    ends = index.astype(np.int64).tolist()
    starts = [0, *ends[:-1]]
    if (
        data.ndim != 1
        or (ends[-1] if ends else 0) != data.size
        or any(a > b for a, b in zip(starts, ends, strict=False))
    ):
        msg = f"the index of {where} must rise to the {data.size} values that it divides"
        raise ValueError(msg)
    return [data[start:end] for start, end in zip(starts, ends, strict=False)]


def read_json(parent: Any, link: str) -> list[Any]:
    """Return what :func:`write_json` was given; tuples come back as lists."""
    group = read_node(parent, link)
    beside = read_node(group, "arrays")
    arrays = [read_array(beside, str(number), kinds="biufc") for number in range(len(beside))]
    return [unpack(json.loads(text), arrays) for text in _read_texts(group, "json")]


def _read_texts(parent: Any, link: str) -> list[str]:
    node = _require_plain(read_node(parent, link))
    if node.ndim != 1:
        msg = f"{node.name} must be a list of texts, found shape {node.shape}"
        raise ValueError(msg)
    texts: list[str] = node.asstr()[()].tolist()
    return texts


def read_array(parent: Any, link: str, kinds: str) -> Array:
    """Return a dataset of numbers.

    Raises
    ------
    ValueError
        When it is of another kind, or not stored in the file in one piece.
    """
    return np.asarray(_require_all(_require_plain(read_node(parent, link)), kinds)[()])


def _require_all(node: Any, kinds: str) -> Any:
    """Return a dataset of numbers, all of which are in the file."""
    if node.dtype.kind not in kinds or node.id.get_storage_size() < node.nbytes:
        msg = f"{node.name} must hold numbers ({kinds}), found {node.dtype} of which not all is there"
        raise ValueError(msg)
    return node


def read_node(parent: Any, link: str) -> Any:
    """Return a group or dataset that lies in this very file.

    Raises
    ------
    ValueError
        When it is missing, or a link to somewhere else.
    """
    import h5py

    if not isinstance(parent.get(link, getlink=True), h5py.HardLink):
        msg = f"{parent.name} must contain {link!r} itself, found nothing or a link"
        raise ValueError(msg)  # noqa: TRY004  # the file is wrong, not a type
    return parent[link]


def _require_plain(node: Any) -> Any:
    """Return a dataset whose bytes lie in this file, with nothing to unpack or to follow."""
    import h5py

    is_plain = isinstance(node, h5py.Dataset) and not (node.external or node.is_virtual or node.chunks)
    stored = node.id.get_storage_size() if is_plain else 0
    if not is_plain or stored > node.file.id.get_filesize() or (node.size and not stored):
        msg = f"{node.name} must be a contiguous dataset inside the file"
        raise ValueError(msg)
    return node
