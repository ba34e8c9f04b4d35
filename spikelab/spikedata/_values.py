"""Values that copies of a SpikeData may share because nobody can change them, and when two are equal."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._later import Later, LaterAttributes


class _Missing:
    """What stands for a value that is not there, where None is a value like any other."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


def freeze(value: Any) -> Any:
    """Return a copy that shares no mutable state; arrays come back read-only.

    An array that is read-only and owns its memory cannot change any more, so it is returned as it is: copies
    of a SpikeData share their templates.
    """
    if isinstance(value, np.ndarray):
        return _freeze_array(value)
    if isinstance(value, LaterAttributes):
        return LaterAttributes(zip(value.keys(), map(freeze, value.stored()), strict=True))
    if isinstance(value, Mapping):
        return {key: freeze(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(freeze(item) for item in value)
    if value is None or isinstance(value, str | int | float | np.generic | Later):
        return value
    return copy.deepcopy(value)


def _freeze_array(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.hasobject:
        return copy.deepcopy(array)
    if type(array) is np.ndarray and not array.flags.writeable and array.base is None:
        return array
    # order="K" keeps the layout; np.array drops memmap and other subclasses.
    frozen = np.array(array, order="K", subok=False)
    frozen.flags.writeable = False
    return frozen


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; NaN equals NaN, and arrays need the same type and shape."""
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_arrays(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | np.floating) and isinstance(other, float | np.floating) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _same_arrays(one: Any, other: Any) -> bool:
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if one.dtype.hasobject:
        return all(map(same, one.ravel().tolist(), other.ravel().tolist()))
    return one.dtype.itemsize == other.dtype.itemsize and bool(
        np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    )
