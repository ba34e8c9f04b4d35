"""Any plain value as strict JSON, exactly: what JSON cannot say gets a tag, arrays are kept beside it.

Tags are dicts with one key that begins with "$": ``{"$float": "nan"}``, ``{"$scalar": ["<f4", 0.5]}``,
``{"$array": 0}`` (number of the array), ``{"$items": {dtype, shape, values}}`` for arrays of text or objects,
and ``{"$dict": [[key, value], ...]}`` for dicts whose keys are no text or look like a tag.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def is_storable(array: Array) -> bool:
    """Return whether HDF5 holds arrays of this type as they are."""
    return array.dtype.kind in "biufc" and array.dtype.itemsize <= (16 if array.dtype.kind == "c" else 8)


def pack(value: Any, arrays: list[Array]) -> Any:
    """Return the value for ``json.dumps(..., allow_nan=False)``; its arrays are appended to `arrays`.

    Raises
    ------
    ValueError
        When the value is of a type that the file cannot hold.
    """
    if value is None or type(value) in {bool, int, str}:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.ndarray):
        return _pack_array(value, arrays)
    if isinstance(value, np.generic) and is_storable(np.asarray(value)) and value.dtype.kind != "c":
        return {"$scalar": [value.dtype.str, pack(value.item(), arrays)]}
    if isinstance(value, Mapping):
        return _pack_mapping(value, arrays)
    if isinstance(value, list | tuple):
        return [pack(item, arrays) for item in value]
    if isinstance(value, str | os.PathLike):
        return str(value) if isinstance(value, str) else os.fspath(value)
    msg = f"a {type(value).__name__} cannot be saved; convert it to numbers, text, arrays, lists or dicts"
    raise ValueError(msg)


def _pack_array(array: Array, arrays: list[Array]) -> Any:
    if is_storable(array):
        arrays.append(array)
        return {"$array": len(arrays) - 1}
    if array.dtype.kind in "UO":
        values = [pack(item, arrays) for item in array.ravel().tolist()]
        return {"$items": {"dtype": array.dtype.str, "shape": list(array.shape), "values": values}}
    msg = f"an array of {array.dtype} cannot be saved; convert it to numbers or text"
    raise ValueError(msg)


def _pack_mapping(mapping: Mapping[Any, Any], arrays: list[Array]) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in mapping):
        return {str(key): pack(item, arrays) for key, item in mapping.items()}
    return {"$dict": [[pack(key, arrays), pack(item, arrays)] for key, item in mapping.items()]}


def unpack(value: Any, arrays: Sequence[Array]) -> Any:
    """Return what :func:`pack` was given; tuples come back as lists.

    Raises
    ------
    ValueError
        When a tag is unknown or malformed.
    """
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: unpack(item, arrays) for key, item in value.items()}
    if tag not in _UNPACKERS or len(value) != 1:
        msg = f"unknown tag {tag!r} in the metadata"
        raise ValueError(msg)
    return _UNPACKERS[tag](value[tag], arrays)


def _unpack_scalar(content: Any, arrays: Sequence[Array]) -> Any:
    dtype = np.dtype(content[0])
    if dtype.kind not in "biuf":
        msg = f"a scalar cannot be of type {dtype}"
        raise ValueError(msg)
    return dtype.type(unpack(content[1], arrays))


def _unpack_items(content: Any, arrays: Sequence[Array]) -> Any:
    dtype = np.dtype(content["dtype"])
    if dtype.kind not in "UO":
        msg = f"a list of items cannot be an array of {dtype}"
        raise ValueError(msg)
    items = np.empty(len(content["values"]), dtype=dtype)
    for i, item in enumerate(content["values"]):
        items[i] = unpack(item, arrays)
    return items.reshape(content["shape"])


def _unpack_dict(content: Any, arrays: Sequence[Array]) -> Any:
    return {unpack(key, arrays): unpack(item, arrays) for key, item in content}


_UNPACKERS: dict[str, Callable[[Any, Sequence[Array]], Any]] = {
    "$float": lambda content, _: float(content),
    "$scalar": _unpack_scalar,
    "$array": lambda content, arrays: arrays[content],
    "$items": _unpack_items,
    "$dict": _unpack_dict,
}
