"""Windows in time, joining in time, and the epochs of a concatenated recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from spikelab.spikedata import _raw
from spikelab.spikedata._values import Attributes, is_per_spike, pick_spikes, same

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

Span = tuple[float, float]

_CHUNKS = "rec_chunks_ms"
_NAMES = "rec_chunk_names"


def window(sd: SpikeData, start: float, end: float, shift_to: float | None) -> SpikeData:
    """Return the spikes in [start, end), as :meth:`SpikeData.subtime` promises."""
    start, end = _check_span(sd, start, end)
    # The recording's last instant belongs to the window that reaches it: no spike is lost by cutting.
    side: Literal["left", "right"] = "right" if end == sd.end_time else "left"
    new_start = start if shift_to is None else float(shift_to)
    shift = new_start - start
    trains, attributes = [], []
    for times, entries in zip(sd.train, sd.neuron_attributes, strict=True):
        picked = slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, end, side)))
        trains.append(times[picked] - start + new_start if shift else times[picked])
        attributes.append(pick_spikes(entries, times.size, picked))
    raw_data, raw_time = _cut_raw(sd, (start, end), shift)
    return type(sd)(
        trains,
        length=end - start,
        start_time=new_start,
        neuron_attributes=attributes,
        metadata=_window_metadata(sd, (start, end), shift),
        raw_data=raw_data,
        raw_time=raw_time,
    )


def _check_span(sd: SpikeData, start: float, end: float) -> Span:
    slack = 4 * np.spacing(max(abs(sd.start_time), abs(sd.end_time)))
    if not (sd.start_time - slack <= start <= end <= sd.end_time + slack):
        msg = f"start <= end must lie in [{sd.start_time}, {sd.end_time}] ms, got {start} and {end}"
        raise ValueError(msg)
    return max(float(start), sd.start_time), min(float(end), sd.end_time)


def _cut_raw(sd: SpikeData, span: Span, shift: float) -> tuple[Any, Any]:
    if sd.raw_data is None or sd.raw_time is None:
        return None, None
    return _raw.cut_raw(sd.raw_data, sd.raw_time, start_time=sd.start_time, window=span, shift=shift)


def _window_metadata(sd: SpikeData, span: Span, shift: float) -> dict[str, Any]:
    """Return the metadata with the epochs that the window touches, its samples, and where it lies in the source."""
    metadata = sd.metadata
    changed = dict(metadata)
    if _raw.SOURCE in metadata:
        changed[_raw.SOURCE_START] = metadata.get(_raw.SOURCE_START, 0.0) + span[0] - sd.start_time
    if _CHUNKS in metadata:
        spans, names = read_chunks(metadata)
        met = [i for i, (first, last) in enumerate(spans) if first < span[1] and last > span[0]]
        changed[_CHUNKS] = [(max(spans[i][0], span[0]) + shift, min(spans[i][1], span[1]) + shift) for i in met]
        if _NAMES in metadata or len(met) < len(spans):  # numbered names must not move on
            changed[_NAMES] = [names[i] for i in met]
    if "n_samples" in metadata and "fs_Hz" in metadata:
        changed["n_samples"] = round((span[1] - span[0]) * metadata["fs_Hz"] / 1000.0)
    return changed


def read_chunks(metadata: Mapping[str, Any]) -> tuple[list[Span], list[str]]:
    """Return spans (ms) and names of the epochs of a concatenated recording.

    Raises
    ------
    ValueError
        When there are none, they are no pairs (start, end), or names and spans differ in number.
    """
    if metadata.get(_CHUNKS) is None:
        msg = (
            f"splitting needs metadata[{_CHUNKS!r}], a list of (start_ms, end_ms), one per recording; it is "
            "set when recordings are concatenated for sorting, or by hand"
        )
        raise ValueError(msg)
    spans = _as_spans(metadata[_CHUNKS])
    stored = metadata.get(_NAMES)
    names = [f"epoch_{i}" for i in range(len(spans))] if stored is None else [str(name) for name in stored]
    if len(names) != len(spans):
        msg = f"metadata[{_NAMES!r}] must name each of the {len(spans)} epochs, found {len(names)}"
        raise ValueError(msg)
    return spans, names


def _as_spans(chunks: Any) -> list[Span]:
    try:
        table = np.asarray(chunks, dtype=np.float64).reshape(len(chunks), 2)
    except (TypeError, ValueError) as error:
        msg = f"metadata[{_CHUNKS!r}] must be a list of (start_ms, end_ms), got {chunks!r:.80}"
        raise ValueError(msg) from error
    return [(float(start), float(end)) for start, end in table]


def split(sd: SpikeData) -> list[SpikeData]:
    """Return one SpikeData per epoch, as :meth:`SpikeData.split_epochs` promises."""
    spans, names = read_chunks(sd.metadata)
    return [_epoch(sd, i, span, names[i], len(spans)) for i, span in enumerate(spans)]


def _epoch(sd: SpikeData, index: int, span: Span, name: str, n_epochs: int) -> SpikeData:
    cut = window(sd, *span, shift_to=0.0)
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
    own = {
        name.removeprefix("epoch_"): value[index]
        for name, value in entries.items()
        if _is_per_epoch(name, value, n_epochs)
    }
    kept = {name: value for name, value in entries.items() if not _is_per_epoch(name, value, n_epochs)}
    return {**kept, **{name: value for name, value in counted.items() if name in kept}, **own}


def _is_per_epoch(name: str, value: Any, n_epochs: int) -> bool:
    return name.startswith("epoch_") and isinstance(value, np.ndarray | list | tuple) and len(value) == n_epochs


def concatenate(first: SpikeData, second: SpikeData) -> SpikeData:
    """Return the second recording after the first, as :meth:`SpikeData.concatenate` promises."""
    _check_same_units(first, second)
    shift = first.end_time - second.start_time
    trains = [np.concatenate([a, b + shift]) for a, b in zip(first.train, second.train, strict=True)]
    attributes = [_joined_attributes(first, second, unit) for unit in range(first.N)]
    return type(first)(
        trains,
        length=first.length + second.length,
        start_time=first.start_time,
        neuron_attributes=attributes,
        metadata=_joined_metadata(first, second, shift),
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
    per_spike = _per_spike(own, first.train[unit]), _per_spike(other, second.train[unit])
    joined = {
        name: np.concatenate([per_spike[0][name], per_spike[1][name]]) for name in per_spike[0] if name in per_spike[1]
    }
    constant = {
        name: value for name, value in {**other, **own}.items() if name not in per_spike[0] and name not in per_spike[1]
    }
    return {**constant, **joined}


def _per_spike(entries: Attributes, times: npt.NDArray[np.float64]) -> Attributes:
    return {name: value for name, value in entries.items() if is_per_spike(name, value, times.size)}


def _joined_metadata(first: SpikeData, second: SpikeData, shift: float) -> dict[str, Any]:
    """Return the metadata of both, those of the first where they differ, with the epochs of the result."""
    spans, names = _chunks_or_whole(first)
    later_spans, later_names = _chunks_or_whole(second)
    moved = [(start + shift, end + shift) for start, end in later_spans]
    all_names = [name or f"epoch_{i}" for i, name in enumerate([*names, *later_names])]
    joined = {**second.metadata, **first.metadata, _CHUNKS: [*spans, *moved], _NAMES: all_names}
    for key in (_raw.SOURCE, _raw.SOURCE_START):  # two recordings have no one source
        joined.pop(key, None)
    for name in ("epoch_name", "epoch_index", "epoch_start_ms", "n_samples"):
        joined.pop(name, None)
    if all("n_samples" in sd.metadata for sd in (first, second)):
        joined["n_samples"] = first.metadata["n_samples"] + second.metadata["n_samples"]
    return joined


def _chunks_or_whole(sd: SpikeData) -> tuple[list[Span], list[str]]:
    if sd.metadata.get(_CHUNKS) is not None:
        return read_chunks(sd.metadata)
    return [(sd.start_time, sd.end_time)], [str(sd.metadata.get("epoch_name", ""))]
