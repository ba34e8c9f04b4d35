"""Which units: by index, mask, slice, or the value of an attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._attributes import Attributes
from spikelab.spikedata._values import MISSING

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData


def subset(sd: SpikeData, units: Any, by: str | None = None) -> SpikeData:
    """Return some of the units, in the order asked for.

    Parameters
    ----------
    units : int, slice, sequence of int, mask of bool, or values
        Indices (negative ones count from the end), a mask with one bool per unit, or values of `by`.
    by : str, optional
        Attribute whose values choose; a value that several units have chooses all of them.

    Returns
    -------
    SpikeData
        Length, start, metadata and raw data as here.

    Raises
    ------
    ValueError
        When a value is not there, a mask has the wrong length, or a unit is chosen twice.
    IndexError
        When an index is out of range.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0], [2.0], [3.0]], length=5.0)
    >>> sd.subset([2, 0]).train[0].tolist()
    [3.0]
    """
    chosen = _find(units, sd.N) if by is None else _find_by(sd.neuron_attributes, units, by)
    trains, attributes = sd.train, sd.neuron_attributes
    return sd.replace(train=[trains[unit] for unit in chosen], neuron_attributes=[attributes[unit] for unit in chosen])


def _find(selection: Any, n_units: int) -> list[int]:
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


def _find_by(attributes: Sequence[Attributes], wanted: Any, name: str) -> list[int]:
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
