"""Attributes and metadata: values that copies may share because nobody can change them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Attributes = dict[str, Any]

MISSING: Any = object()


def freeze(value: Any) -> Any:
    """Return a copy that shares no mutable state; arrays come back read-only.

    An array that is read-only and owns its memory cannot change any more, so it is returned as it is: copies
    of a SpikeData share their templates.
    """
    if isinstance(value, np.ndarray):
        return _freeze_array(value)
    if isinstance(value, Mapping):
        return {key: freeze(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(freeze(item) for item in value)
    if value is None or isinstance(value, str | int | float | np.generic):
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


def check_attributes(attributes: Any, n_units: int) -> list[Attributes]:
    """Return one dict per unit, sharing nothing mutable with what was given.

    Raises
    ------
    ValueError
        When there is not one mapping per unit, or a name is no text.
    """
    if attributes is None:
        return [{} for _ in range(n_units)]
    if len(attributes) != n_units:
        msg = f"neuron_attributes must have one dict for each of the {n_units} units, found {len(attributes)}"
        raise ValueError(msg)
    for unit, entries in enumerate(attributes):
        if not isinstance(entries, Mapping) or not all(isinstance(name, str) for name in entries):
            msg = f"neuron_attributes[{unit}] must be a dict with names as keys, got {entries!r:.80}"
            raise ValueError(msg)
    return [freeze(entries) for entries in attributes]


def check_metadata(metadata: Any) -> dict[str, Any]:
    """Return the metadata as a dict that shares nothing mutable with what was given.

    Raises
    ------
    ValueError
        When it is no mapping from names.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        msg = f"metadata must be a dict with names as keys, got {metadata!r:.80}"
        raise ValueError(msg)
    return {key: freeze(value) for key, value in metadata.items()}


def attribute_names(attributes: Sequence[Attributes]) -> list[str]:
    """Return the names that any unit has, in order of first appearance."""
    return list(dict.fromkeys(name for entries in attributes for name in entries))


def attribute_column(attributes: Sequence[Attributes], name: str, default: Any = MISSING) -> npt.NDArray[Any]:
    """Return one attribute of all units as an array whose first axis is the unit.

    Raises
    ------
    ValueError
        When units lack it and there is no default.
    """
    values = [entries.get(name, default) for entries in attributes]
    without = [unit for unit, value in enumerate(values) if value is MISSING]
    if without:
        msg = (
            f"{len(without)} of {len(values)} units have no attribute {name!r} (first: unit {without[0]}); "
            f"give default=..., or one of {attribute_names(attributes)}"
        )
        raise ValueError(msg)
    return _stack(values)


def _stack(values: list[Any]) -> npt.NDArray[Any]:
    kinds = {_scalar_kind(value) for value in values}
    if kinds <= {"number"} or kinds == {"text"}:
        return np.array(values)
    if kinds == {"array"} and len({np.shape(value) for value in values}) == 1:
        return np.stack(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values if kinds != {"array"} else [*values]
    return column


def _scalar_kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, bool | int | float | complex | np.number | np.bool_) else "other"


def is_per_spike(name: str, value: Any, n_spikes: int) -> bool:
    """Return whether an attribute has one entry per spike: an array named ``spike_*`` of that length."""
    return name.startswith("spike_") and isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == n_spikes


def pick_spikes(entries: Attributes, n_spikes: int, picked: npt.NDArray[Any] | slice) -> Attributes:
    """Return the attributes of a unit with those per spike reduced to, or reordered as, the picked spikes."""
    return {
        name: freeze(value[picked]) if is_per_spike(name, value, n_spikes) else value for name, value in entries.items()
    }


def locations_um(attributes: Sequence[Attributes]) -> npt.NDArray[np.float64]:
    """Return x and y of each unit, shape (N, 2); from ``position`` or ``x`` and ``y``; NaN without."""
    return np.array([_location(entries) for entries in attributes], dtype=np.float64).reshape(-1, 2)


def _location(entries: Attributes) -> tuple[float, float]:
    position = entries.get("position")
    if position is None:
        position = (entries.get("x"), entries.get("y"))
    x, y = (math.nan if value is None else float(value) for value in position[:2])
    return x, y


def with_values(attributes: Sequence[Attributes], name: str, values: Any) -> list[Attributes]:
    """Return the attributes with one of them set on every unit.

    Raises
    ------
    ValueError
        When there is not one value per unit.
    """
    if isinstance(values, str) or len(values) != len(attributes):
        found = "a text" if isinstance(values, str) else str(len(values))
        msg = f"values of {name!r} must be one for each of the {len(attributes)} units, found {found}"
        raise ValueError(msg)
    return [{**entries, name: value} for entries, value in zip(attributes, values, strict=True)]


def find_units(selection: Any, n_units: int) -> list[int]:
    """Return unit indices for indices, a boolean mask or a slice.

    Raises
    ------
    IndexError
        When an index is out of range.
    ValueError
        When a mask has the wrong length, an index is no integer, or a unit is named twice.
    """
    if isinstance(selection, slice):
        return list(range(n_units))[selection]
    chosen = np.atleast_1d(np.asarray(selection))
    if chosen.dtype == bool:
        return _find_masked(chosen, n_units)
    if chosen.size and chosen.dtype.kind not in "iu":
        msg = f"units must be indices, a boolean mask or (with by=...) values, got {selection!r:.80}"
        raise ValueError(msg)
    outside = [int(unit) for unit in chosen if not -n_units <= unit < n_units]
    if outside:
        msg = f"units {outside} are out of range for {n_units} units"
        raise IndexError(msg)
    return _require_unique([int(unit) % n_units for unit in chosen])


def _find_masked(mask: npt.NDArray[np.bool_], n_units: int) -> list[int]:
    if mask.shape != (n_units,):
        msg = f"a mask of units must have shape ({n_units},), got {mask.shape}"
        raise ValueError(msg)
    return [int(unit) for unit in np.flatnonzero(mask)]


def find_units_by(attributes: Sequence[Attributes], wanted: Any, name: str) -> list[int]:
    """Return the indices of all units whose attribute has one of the wanted values, in the order wanted.

    Raises
    ------
    ValueError
        When no unit has a value.
    """
    values = [wanted] if isinstance(wanted, str) or np.ndim(wanted) == 0 else list(wanted)
    homes: dict[Any, list[int]] = {}
    for unit, entries in enumerate(attributes):
        homes.setdefault(_hashable(entries.get(name, MISSING), name), []).append(unit)
    absent = [value for value in values if value not in homes]
    if absent:
        known = [value for value in homes if value is not MISSING]
        msg = f"no unit has {name!r} equal to {absent}; there are {known[:20]}"
        raise ValueError(msg)
    return _require_unique([unit for value in values for unit in homes[value]])


def _hashable(value: Any, name: str) -> Any:
    try:
        hash(value)
    except TypeError as error:
        msg = f"units can be chosen by numbers and text only, but {name!r} holds a {type(value).__name__}"
        raise ValueError(msg) from error
    return value


def _require_unique(units: list[int]) -> list[int]:
    if len(set(units)) < len(units):
        repeated = sorted({unit for unit in units if units.count(unit) > 1})
        msg = f"each unit can be chosen once, named twice: {repeated}"
        raise ValueError(msg)
    return units
