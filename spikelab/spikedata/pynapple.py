"""To pynapple: a TsGroup in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab.spikedata._attributes import attribute_column, attribute_names, unit_ids

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData


def to_pynapple(sd: SpikeData) -> Any:
    """Return a pynapple ``TsGroup``: times in s, and the whole recording as time support.

    Its keys are the unit ids where all of them are integers, else indices of the units; pynapple sorts them.
    Attributes that all units have as numbers or text become metadata, ``unit_id`` among them.

    Raises
    ------
    ImportError
        When pynapple is not installed.
    ValueError
        When there are no units, or the recording has no length: pynapple knows neither.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> SpikeData([[500.0, 1500.0]], length=2000.0).to_pynapple()[0].t.tolist()
    [0.5, 1.5]
    """
    nap = _import_pynapple()
    if not sd.N or not sd.length:
        msg = f"a TsGroup needs units and a recording with a length, found {sd.N} units and {sd.length} ms"
        raise ValueError(msg)
    support = nap.IntervalSet(sd.start_time / 1000.0, sd.end_time / 1000.0)
    trains = [nap.Ts(times / 1000.0, time_support=support) for times in sd.train]
    keys = unit_ids(sd.neuron_attributes)
    if not all(isinstance(key, int) for key in keys):
        keys = list(range(sd.N))
    return nap.TsGroup(dict(zip(keys, trains, strict=True)), time_support=support, metadata=_metadata(sd, keys))


def _import_pynapple() -> Any:
    try:
        import pynapple
    except ImportError as error:
        msg = "to_pynapple needs pynapple; install it with: pip install 'spikelab[pynapple]'"
        raise ImportError(msg) from error
    return pynapple


def _metadata(sd: SpikeData, keys: list[int]) -> Any:
    """Return the attributes of all units as a table."""
    import pandas as pd

    columns = {}
    for name in attribute_names(sd.neuron_attributes):
        if all(name in entries for entries in sd.neuron_attributes) and name != "rate":  # the group's own
            values = attribute_column(sd.neuron_attributes, name)
            if values.ndim == 1 and values.dtype.kind in "biufU":
                columns[name] = values.tolist()
    return pd.DataFrame(columns, index=keys)
