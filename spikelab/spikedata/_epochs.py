"""Recordings of the same units joined in time, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.spikedata import _raw
from spikelab.spikedata._attributes import Attributes, names_per_spike, updated
from spikelab.spikedata._chunks import BLANKED, CHUNKS, NAMES, STIM_TIMES, Span, read_chunks
from spikelab.spikedata._values import same

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

_EPOCH = "epoch_"
"""Attributes whose name begins so, with one entry per epoch, are those of the epochs."""


def concatenate(sd: SpikeData, other: SpikeData) -> SpikeData:
    """Return this recording followed by another one of the same units.

    Parameters
    ----------
    other : SpikeData
        Its start becomes the end of this one.

    Returns
    -------
    SpikeData
        Attributes and metadata of both (this one's where they differ), attributes per spike joined;
        ``rec_chunks_ms`` and ``rec_chunk_names`` let :meth:`split_epochs` take it apart. No raw data.

    Raises
    ------
    ValueError
        When number or ids of the units differ.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> joined = SpikeData([[1.0]], length=10.0).concatenate(SpikeData([[2.0]], length=5.0))
    >>> joined.train[0].tolist(), joined.length
    ([1.0, 12.0], 15.0)
    """
    _check_same_units(sd, other)
    shift = sd.end_time - other.start_time
    trains = [np.concatenate([a, b + shift]) for a, b in zip(sd.train, other.train, strict=True)]
    attributes = [_joined_attributes(sd, other, unit) for unit in range(sd.N)]
    return type(sd)(
        trains,
        length=sd.length + other.length,
        start_time=sd.start_time,
        neuron_attributes=attributes,
        metadata=_joined_metadata(sd, other, shift),
    )


def _check_same_units(first: SpikeData, second: SpikeData) -> None:
    if first.N != second.N:
        msg = f"recordings can be concatenated when they have the same units, found {first.N} and {second.N}"
        raise ValueError(msg)
    for unit, (a, b) in enumerate(zip(first.neuron_attributes, second.neuron_attributes, strict=True)):
        if "unit_id" in a and "unit_id" in b and not same(a["unit_id"], b["unit_id"]):
            ids = f"{a['unit_id']!r} in one recording and {b['unit_id']!r} in the other"
            msg = f"unit {unit} is {ids}; bring the units into one order first"
            raise ValueError(msg)


def _joined_attributes(first: SpikeData, second: SpikeData, unit: int) -> Attributes:
    """Return the attributes of both, the first's where they differ; per-spike ones are joined or dropped."""
    own, other = first.neuron_attributes[unit], second.neuron_attributes[unit]
    per_spike, other_per_spike = names_per_spike(own), names_per_spike(other)
    joined = {name: np.concatenate([own[name], other[name]]) for name in per_spike if name in other_per_spike}
    attributes = updated(own, {name: other[name] for name in other if name not in own})
    for name in {*per_spike, *other_per_spike}:
        del attributes[name]
    return updated(attributes, joined)


def _joined_metadata(first: SpikeData, second: SpikeData, shift: float) -> dict[str, Any]:
    """Return the metadata of both, those of the first where they differ, with the epochs of the result."""
    spans, names = _chunks_or_whole(first)
    later_spans, later_names = _chunks_or_whole(second)
    moved = [(start + shift, end + shift) for start, end in later_spans]
    all_names = [name or f"epoch_{i}" for i, name in enumerate([*names, *later_names])]
    joined = {**second.metadata, **first.metadata, CHUNKS: [*spans, *moved], NAMES: all_names}
    if BLANKED in joined:
        later = [(begin + shift, end + shift) for begin, end in second.metadata.get(BLANKED, ())]
        joined[BLANKED] = [*first.metadata.get(BLANKED, ()), *later]
    if STIM_TIMES in joined:
        later_times = [time + shift for time in second.metadata.get(STIM_TIMES, ())]
        joined[STIM_TIMES] = [*first.metadata.get(STIM_TIMES, ()), *later_times]
    for key in (_raw.SOURCE, _raw.SOURCE_START):  # two recordings have no one source
        joined.pop(key, None)
    for name in ("epoch_name", "epoch_index", "epoch_start_ms", "n_samples"):
        joined.pop(name, None)
    if all("n_samples" in sd.metadata for sd in (first, second)):
        joined["n_samples"] = first.metadata["n_samples"] + second.metadata["n_samples"]
    return joined


def _chunks_or_whole(sd: SpikeData) -> tuple[list[Span], list[str]]:
    if sd.metadata.get(CHUNKS) is not None:
        return read_chunks(sd.metadata)
    return [(sd.start_time, sd.end_time)], [str(sd.metadata.get("epoch_name", ""))]


def split_epochs(sd: SpikeData) -> list[SpikeData]:
    """Return the recordings that were concatenated, each starting at 0 with its own length.

    Every spike goes to the epoch with ``start <= time < end``. An epoch has the attributes of the whole,
    with those per spike cut; ``firing_rate`` and ``num_spikes``, where units have them, counted anew; and
    its own entry of every attribute ``epoch_<name>`` (one entry per epoch) as ``<name>``, such as
    ``epoch_template``. Its metadata name it (``epoch_name``, ``epoch_index``, ``epoch_start_ms``).

    Raises
    ------
    ValueError
        When ``metadata["rec_chunks_ms"]``, a list of (start, end) in ms, is missing or malformed.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 12.0]], length=15.0, metadata={"rec_chunks_ms": [(0.0, 10.0), (10.0, 15.0)]})
    >>> [(epoch.length, epoch.train[0].tolist()) for epoch in sd.split_epochs()]
    [(10.0, [1.0]), (5.0, [2.0])]
    """
    spans, names = read_chunks(sd.metadata)
    return [_epoch(sd, i, span, names[i], len(spans)) for i, span in enumerate(spans)]


def _epoch(sd: SpikeData, index: int, span: Span, name: str, n_epochs: int) -> SpikeData:
    cut = sd.subtime(*span, shift_to=0.0)
    metadata = {key: value for key, value in cut.metadata.items() if not key.startswith("rec_chunk")}
    metadata |= {"epoch_name": name, "epoch_index": index, "epoch_start_ms": span[0]}
    rates = cut.rates("Hz")
    attributes = [
        _epoch_attributes(entries, index, n_epochs, {"firing_rate": float(rates[u]), "num_spikes": cut.train[u].size})
        for u, entries in enumerate(cut.neuron_attributes)
    ]
    return cut.replace(neuron_attributes=attributes, metadata=metadata)


def _epoch_attributes(entries: Attributes, index: int, n_epochs: int, counted: Mapping[str, float | int]) -> Attributes:
    """Return the attributes of one epoch: its entry of every ``epoch_*``, its own rate and count."""
    per_epoch = [name for name in entries if name.startswith(_EPOCH) and _has_one_each(entries[name], n_epochs)]
    kept = entries.copy()
    for name in per_epoch:
        del kept[name]
    recounted = {name: value for name, value in counted.items() if name in kept}
    return updated(kept, {**recounted, **{name.removeprefix(_EPOCH): entries[name][index] for name in per_epoch}})


def _has_one_each(value: Any, n_epochs: int) -> bool:
    return isinstance(value, np.ndarray | list | tuple) and len(value) == n_epochs
