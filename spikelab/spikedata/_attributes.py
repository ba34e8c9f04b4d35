"""What is known about each unit, and about the recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._values import MISSING, freeze

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

Attributes = dict[str, Any]

PER_SPIKE = "spike_"
"""Arrays whose name begins so have one entry per spike."""


def check_attributes(attributes: Any, n_spikes: Sequence[int]) -> list[Attributes]:
    """Return one dict per unit, sharing nothing mutable with what was given.

    Raises
    ------
    ValueError
        When there is not one mapping per unit, a name is no text, two units have one id, or an attribute per
        spike is longer or shorter than the train.
    """
    if attributes is None:
        return [{} for _ in n_spikes]
    if len(attributes) != len(n_spikes):
        msg = f"neuron_attributes must have one dict for each of the {len(n_spikes)} units, found {len(attributes)}"
        raise ValueError(msg)
    for unit, entries in enumerate(attributes):
        if not isinstance(entries, Mapping) or not all(isinstance(name, str) for name in entries):
            msg = f"neuron_attributes[{unit}] must be a dict with names as keys, got {entries!r:.80}"
            raise ValueError(msg)
    _check_ids(attributes)
    return [
        _check_entries(unit, entries, n) for unit, (entries, n) in enumerate(zip(attributes, n_spikes, strict=True))
    ]


def _check_ids(attributes: Sequence[Mapping[str, Any]]) -> None:
    first_with: dict[Any, int] = {}
    for unit, entries in enumerate(attributes):
        unit_id = entries.get("unit_id")
        if unit_id is None:
            continue
        if not isinstance(unit_id, str | int | float | np.generic):
            msg = f"unit_id of unit {unit} must be a number or text, got {unit_id!r:.80}"
            raise ValueError(msg)  # noqa: TRY004  # the input is wrong, whatever it is made of
        if first_with.setdefault(unit_id, unit) != unit:
            msg = (
                f"unit_id must be different for each unit, found {unit_id} for units {first_with[unit_id]} and "
                f"{unit}; rename one of them, or keep what they have in common in another attribute"
            )
            raise ValueError(msg)


def _check_entries(unit: int, entries: Mapping[str, Any], n_spikes: int) -> Attributes:
    checked: Attributes = freeze(entries)
    for name in [name for name in checked if name.startswith(PER_SPIKE)]:
        if isinstance(checked[name], list | tuple):
            checked[name] = freeze(np.asarray(checked[name]))
        if is_per_spike(name, checked[name]) and len(checked[name]) != n_spikes:
            msg = (
                f"{name!r} of unit {unit} must have one entry for each of its {n_spikes} spikes, found "
                f"{len(checked[name])}; cut it to the spikes, or give it a name without {PER_SPIKE!r}"
            )
            raise ValueError(msg)
    return checked


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


def unit_ids(attributes: Sequence[Attributes]) -> list[Any]:
    """Return what other programs shall call the units: ``unit_id`` where it names each once, else the index."""
    ids = [entries.get("unit_id") for entries in attributes]
    if any(unit is None for unit in ids) or len(set(map(str, ids))) < len(ids):
        return list(range(len(ids)))
    return ids if len({isinstance(unit, str) for unit in ids}) < 2 else list(map(str, ids))


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


def is_per_spike(name: str, value: Any) -> bool:
    """Return whether an attribute has one entry per spike."""
    return name.startswith(PER_SPIKE) and isinstance(value, np.ndarray) and value.ndim > 0


def names_per_spike(entries: Attributes) -> list[str]:
    """Return the names of the attributes that have one entry per spike."""
    return [name for name in entries if name.startswith(PER_SPIKE) and is_per_spike(name, entries[name])]


def pick_spikes(entries: Attributes, picked: npt.NDArray[Any] | slice) -> Attributes:
    """Return the attributes of a unit with those per spike reduced to, or reordered as, the picked spikes."""
    return updated(entries, {name: freeze(entries[name][picked]) for name in names_per_spike(entries)})


def updated(entries: Attributes, changed: Mapping[str, Any]) -> Attributes:
    """Return a copy with other values for some names; arrays that are still in a file stay there."""
    copied = entries.copy()
    copied.update(changed)
    return copied


def locations_um(attributes: Sequence[Attributes]) -> npt.NDArray[np.float64]:
    """Return x and y of each unit, shape (N, 2); from ``position`` or ``x`` and ``y``; NaN without."""
    return np.array([_location(entries) for entries in attributes], dtype=np.float64).reshape(-1, 2)


def _location(entries: Attributes) -> tuple[float, float]:
    position = entries.get("position")
    if position is None:
        position = (entries.get("x"), entries.get("y"))
    x, y = (math.nan if value is None else float(value) for value in position[:2])
    return x, y


def _with_values(attributes: Sequence[Attributes], name: str, values: Any) -> list[Attributes]:
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
    return [updated(entries, {name: value}) for entries, value in zip(attributes, values, strict=True)]


# ---------------------------------------------------------------- methods of SpikeData


def get_neuron_attribute(sd: SpikeData, name: str, default: Any = MISSING) -> npt.NDArray[Any]:
    """Return one attribute of all units.

    Parameters
    ----------
    name : str
        Name of the attribute.
    default : object, optional
        Value for the units that do not have it.

    Returns
    -------
    ndarray, shape (N, ...)
        Numbers and text by their type, arrays of one shape stacked, anything else as objects.

    Raises
    ------
    ValueError
        When units lack it and there is no default.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0], [2.0]], neuron_attributes=[{"snr": 5.0}, {}])
    >>> sd.get_neuron_attribute("snr", default=float("nan")).tolist()
    [5.0, nan]
    """
    return attribute_column(sd.neuron_attributes, name, default)


def set_neuron_attribute(sd: SpikeData, name: str, values: Sequence[Any] | npt.NDArray[Any]) -> SpikeData:
    """Return a copy in which every unit has the attribute; this object stays as it is.

    Parameters
    ----------
    name : str
        Name of the attribute.
    values : sequence of length N
        One value per unit; rows of an array are arrays.

    Raises
    ------
    ValueError
        When there is not one value per unit.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> SpikeData([[1.0], [2.0]]).set_neuron_attribute("label", ["good", "mua"]).neuron_attributes
    [{'label': 'good'}, {'label': 'mua'}]
    """
    return sd.replace(neuron_attributes=_with_values(sd.neuron_attributes, name, values))
