"""To and from SpikeInterface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.spikedata._attributes import Attributes, attribute_column, attribute_names
from spikelab.spikedata._raw import RecordingTraces
from spikelab.spikedata._trains import group_by_unit

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData


def from_sorting(cls: type[SpikeData], sorting: Any, recording: Any = None) -> SpikeData:
    """Return a SpikeInterface sorting of one segment.

    Parameters
    ----------
    sorting : spikeinterface.BaseSorting
        Its properties become attributes, its ids ``unit_id``. Sample n is at ``n * 1000 / fs`` ms.
    recording : spikeinterface.BaseRecording, optional
        What was sorted: gives the length, the channel locations, and the raw data, which are read when
        used.

    Returns
    -------
    SpikeData
        With length of the recording, also of one that is registered with the sorting; without either, up
        to the last spike.

    Raises
    ------
    ValueError
        When there are several segments, or the rates of the two differ.
    """
    fs_Hz = float(sorting.get_sampling_frequency())
    _check_one_segment(sorting, recording, fs_Hz)
    spikes = sorting.to_spike_vector()
    times_ms = spikes["sample_index"] * 1000.0 / fs_Hz
    n_samples = _count_samples(sorting, recording)
    return cls(
        group_by_unit(spikes["unit_index"], times_ms, len(sorting.unit_ids)),
        length=None if n_samples is None else n_samples * 1000.0 / fs_Hz,
        neuron_attributes=_read_properties(sorting),
        metadata=_read_metadata(recording, fs_Hz, n_samples),
        raw_data=None if recording is None else RecordingTraces(recording),
        raw_time=None if recording is None else fs_Hz / 1000.0,
    )


def _check_one_segment(sorting: Any, recording: Any | None, fs_Hz: float) -> None:
    for name, source in (("sorting", sorting), ("recording", recording)):
        if source is not None and source.get_num_segments() != 1:
            msg = f"{name} must have one segment, found {source.get_num_segments()}; select or join segments"
            raise ValueError(msg)
    if recording is not None and float(recording.get_sampling_frequency()) != fs_Hz:
        found = recording.get_sampling_frequency()
        msg = f"recording must have the rate of the sorting, {fs_Hz} Hz, found {found} Hz"
        raise ValueError(msg)


def _count_samples(sorting: Any, recording: Any | None) -> int | None:
    if recording is None and not sorting.has_recording():
        return None
    source = sorting if recording is None else recording
    return int(source.get_num_samples(segment_index=0))


def _read_properties(sorting: Any) -> list[Attributes]:
    columns = {name: sorting.get_property(name) for name in sorting.get_property_keys()}
    return [
        {"unit_id": _plain(unit_id), **{name: _plain(values[unit]) for name, values in columns.items()}}
        for unit, unit_id in enumerate(sorting.unit_ids)
    ]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read_metadata(recording: Any | None, fs_Hz: float, n_samples: int | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"fs_Hz": fs_Hz}
    if n_samples is not None:
        metadata["n_samples"] = n_samples
    if recording is not None:
        metadata["channel_ids"] = [_plain(channel) for channel in recording.channel_ids]
        if recording.has_probe():
            metadata["channel_locations"] = np.array(recording.get_channel_locations(), dtype=np.float64)
    return metadata


def to_sorting(sd: SpikeData, fs_Hz: float) -> Any:
    """Return a SpikeInterface ``NumpySorting``: times relative to `start_time`, rounded to samples.

    Unit ids are the attribute ``unit_id`` where it names every unit once, else indices. Attributes that
    all units have as numbers, text or arrays of one shape become properties.

    Parameters
    ----------
    fs_Hz : float
        Sampling rate (Hz).

    Raises
    ------
    ValueError
        When the rate is not positive.
    """
    from spikeinterface.core import NumpySorting
    from spikeinterface.core.base import minimum_spike_dtype

    if not fs_Hz > 0:
        msg = f"fs_Hz must be positive, got {fs_Hz}"
        raise ValueError(msg)
    units, times = sd.idces_times()
    spikes = np.zeros(units.size, dtype=minimum_spike_dtype)
    spikes["sample_index"] = np.rint((times - sd.start_time) * fs_Hz / 1000.0)
    spikes["unit_index"] = units
    # Times that round to one sample come in any order; SpikeInterface wants units ascending within a sample.
    spikes = spikes[np.lexsort((spikes["unit_index"], spikes["sample_index"]))]
    sorting = NumpySorting(spikes, fs_Hz, _unit_ids(sd))
    _set_properties(sorting, sd)
    return sorting


def _unit_ids(sd: SpikeData) -> list[Any]:
    ids = [entries.get("unit_id") for entries in sd.neuron_attributes]
    if any(unit is None for unit in ids) or len(set(map(str, ids))) < len(ids):
        return list(range(sd.N))
    return ids if len({isinstance(unit, str) for unit in ids}) < 2 else list(map(str, ids))


def _set_properties(sorting: Any, sd: SpikeData) -> None:
    """Set the attributes that all units share and that SpikeInterface can hold; the others are left out."""
    for name in attribute_names(sd.neuron_attributes):
        if name == "unit_id" or not all(name in entries for entries in sd.neuron_attributes):
            continue
        values = attribute_column(sd.neuron_attributes, name)
        if values.dtype.kind in "biufU":
            sorting.set_property(name, values)
