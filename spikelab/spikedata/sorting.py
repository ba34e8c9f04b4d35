"""To and from SpikeInterface's sortings: samples in place of times, properties in place of attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.spikedata._attributes import Attributes, attribute_column, attribute_names, unit_ids
from spikelab.spikedata._raw import RecordingTraces
from spikelab.spikedata._trains import Ints, group_by_unit

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


def to_sorting(sd: SpikeData, fs_Hz: float | None = None) -> Any:
    """Return a SpikeInterface ``NumpySorting``: times relative to `start_time`, rounded to samples.

    Unit ids are the attribute ``unit_id`` where it names every unit once, else indices. Attributes that
    all units have as numbers, text or arrays of one shape become properties.

    Parameters
    ----------
    fs_Hz : float, optional
        Sampling rate (Hz); default: ``metadata["fs_Hz"]``.

    Raises
    ------
    ValueError
        When there is no rate, or it is not positive.
    """
    from spikeinterface.core import NumpySorting
    from spikeinterface.core.base import minimum_spike_dtype

    fs_Hz = require_rate(sd, fs_Hz)
    samples, units, _ = spike_samples(sd, fs_Hz)
    spikes = np.zeros(units.size, dtype=minimum_spike_dtype)
    spikes["sample_index"], spikes["unit_index"] = samples, units
    sorting = NumpySorting(spikes, fs_Hz, unit_ids(sd.neuron_attributes))
    _set_properties(sorting, sd)
    return sorting


def require_rate(sd: SpikeData, fs_Hz: float | None) -> float:
    """Return the rate that is given, or that of the metadata.

    Raises
    ------
    ValueError
        When there is none, or it is not positive.
    """
    found = sd.metadata.get("fs_Hz") if fs_Hz is None else fs_Hz
    if found is None:
        msg = "the sampling rate is not in the metadata; give fs_Hz=..."
        raise ValueError(msg)
    if not float(found) > 0:
        msg = f"fs_Hz must be positive, got {found}"
        raise ValueError(msg)
    return float(found)


def spike_samples(sd: SpikeData, fs_Hz: float) -> tuple[Ints, Ints, Ints]:
    """Return sample and unit index of every spike by sample, then unit, and their order among all trains joined.

    Samples count from `start_time`.
    """
    times = np.concatenate([np.zeros(0), *sd.train])
    units = np.repeat(np.arange(sd.N), [train.size for train in sd.train])
    samples = np.rint((times - sd.start_time) * fs_Hz / 1000.0).astype(np.int64)
    # Times that round to one sample come in any order; readers want units ascending within a sample.
    order = np.lexsort((units, samples))
    return samples[order], units[order], order


def _set_properties(sorting: Any, sd: SpikeData) -> None:
    """Set the attributes that all units share and that SpikeInterface can hold; the others are left out."""
    for name in attribute_names(sd.neuron_attributes):
        if name == "unit_id" or not all(name in entries for entries in sd.neuron_attributes):
            continue
        values = attribute_column(sd.neuron_attributes, name)
        if values.dtype.kind in "biufU":
            sorting.set_property(name, values)
