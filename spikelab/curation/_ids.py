"""How units are named in a record: by their attribute ``unit_id`` where all have it, else by their index."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

UnitId = int | float | str


def unit_ids(sd: SpikeData) -> list[UnitId]:
    """Return the name of each unit.

    Raises
    ------
    ValueError
        When a ``unit_id`` names two units.
    """
    ids = stored_ids(sd)
    if ids is None:
        return list(range(sd.N))
    repeated = [unit for unit, times in Counter(map(str, ids)).items() if times > 1]
    if repeated:
        msg = f"attribute 'unit_id' must name each unit once, repeated: {repeated}; number the units anew"
        raise ValueError(msg)
    return ids


def stored_ids(sd: SpikeData) -> list[UnitId] | None:
    """Return the attribute ``unit_id`` of each unit; None where one lacks it or there are no units."""
    stored = [attributes.get("unit_id") for attributes in sd.neuron_attributes]
    if not stored or any(unit is None for unit in stored):
        return None
    return [plain_id(unit) for unit in stored]


def plain_id(unit: Any) -> UnitId:
    """Return an id as JSON can hold it."""
    if isinstance(unit, np.generic):
        unit = unit.item()
    return unit if isinstance(unit, int | float) else str(unit)
