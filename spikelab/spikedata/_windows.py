"""Windows in time: what lies in them of the spikes, the attributes, the traces and the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spikelab.spikedata import _raw
from spikelab.spikedata._attributes import pick_spikes
from spikelab.spikedata._chunks import BLANKED, CHUNKS, NAMES, STIM_TIMES, Span, read_chunks

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData


def subtime(sd: SpikeData, start: float, end: float, shift_to: float | None = None) -> SpikeData:
    """Return the spikes in [start, end), and at `end` when the recording ends there.

    Parameters
    ----------
    start, end : float
        Window (ms) inside the recording.
    shift_to : float, optional
        Time (ms) that `start` becomes; default: times stay as they are.

    Returns
    -------
    SpikeData
        All units, silent ones too, with the window's length; attributes per spike, raw data and epochs
        are cut alike.

    Raises
    ------
    ValueError
        When the window is not inside the recording.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 5.0, 9.0]], length=10.0).subtime(4.0, 8.0, shift_to=0.0)
    >>> sd.train[0].tolist(), sd.length
    ([1.0], 4.0)
    """
    start, end = _check_span(sd, start, end)
    # The recording's last instant belongs to the window that reaches it: no spike is lost by cutting.
    side: Literal["left", "right"] = "right" if end == sd.end_time else "left"
    new_start = start if shift_to is None else float(shift_to)
    shift = new_start - start
    trains, attributes = [], []
    for times, entries in zip(sd.train, sd.neuron_attributes, strict=True):
        picked = slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, end, side)))
        trains.append(times[picked] - start + new_start if shift else times[picked])
        attributes.append(pick_spikes(entries, picked))
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
    if CHUNKS in metadata:
        spans, names = read_chunks(metadata)
        met = [i for i, (first, last) in enumerate(spans) if first < span[1] and last > span[0]]
        changed[CHUNKS] = [(max(spans[i][0], span[0]) + shift, min(spans[i][1], span[1]) + shift) for i in met]
        if NAMES in metadata or len(met) < len(spans):  # numbered names must not move on
            changed[NAMES] = [names[i] for i in met]
    if BLANKED in metadata:
        inside = [(max(a, span[0]) + shift, min(b, span[1]) + shift) for a, b in metadata[BLANKED]]
        changed[BLANKED] = [(a, b) for a, b in inside if a < b]
    if STIM_TIMES in metadata:
        # As spikes: an event where another window begins is that one's alone.
        last = span[1] == sd.end_time
        changed[STIM_TIMES] = [
            time + shift for time in metadata[STIM_TIMES] if span[0] <= time < span[1] or (last and time == span[1])
        ]
    if "n_samples" in metadata and "fs_Hz" in metadata:
        changed["n_samples"] = round((span[1] - span[0]) * metadata["fs_Hz"] / 1000.0)
    return changed
