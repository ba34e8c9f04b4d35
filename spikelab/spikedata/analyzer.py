"""From a SpikeInterface analyzer: the spikes, and what its extensions know about each unit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._attributes import Attributes
from spikelab.spikedata._templates import centre_um, largest_peak, template_attributes
from spikelab.spikedata.sorting import from_sorting

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData


def from_analyzer(cls: type[SpikeData], analyzer: Any) -> SpikeData:
    """Return the units of a SpikeInterface ``SortingAnalyzer`` with what its extensions have computed.

    Templates give ``template``, ``avg_waveform``, ``channel``, ``position`` and what else a template says;
    spike amplitudes, unit locations, noise levels, quality and template metrics add theirs. Whatever has not been
    computed is left out.

    Parameters
    ----------
    analyzer : spikeinterface.SortingAnalyzer
        Of one segment; with its recording or without.

    Returns
    -------
    SpikeData
        Amplitudes in uV where the analyzer's are; raw data attached where the recording is there.

    Raises
    ------
    ValueError
        When there are several segments.
    """
    recording = analyzer.recording if analyzer.has_recording() else None
    sd = from_sorting(cls, analyzer.sorting, recording)
    fs_Hz, n_samples = float(analyzer.sampling_frequency), int(analyzer.get_num_samples(segment_index=0))
    channel_ids = [_plain(channel) for channel in analyzer.channel_ids]
    metadata = {**sd.metadata, "n_samples": n_samples, "channel_ids": channel_ids}
    metadata["channel_locations"] = np.asarray(analyzer.get_channel_locations(), dtype=np.float64)
    known = _unit_attributes(analyzer, channel_ids, metadata["channel_locations"])
    return sd.replace(
        length=n_samples * 1000.0 / fs_Hz,
        neuron_attributes=[{**own, **more} for own, more in zip(sd.neuron_attributes, known, strict=True)],
        metadata=metadata,
    )


def _unit_attributes(analyzer: Any, channel_ids: list[Any], locations_um: npt.NDArray[np.float64]) -> list[Attributes]:
    units: list[Attributes] = [{} for _ in analyzer.unit_ids]
    if analyzer.has_extension("templates"):
        averages = analyzer.get_extension("templates").get_templates(operator="average")
        for unit, average in enumerate(averages):
            units[unit] |= unit_from_template(average, channel_ids, locations_um)
        _add_spread_and_noise(analyzer, units)
    if analyzer.has_extension("spike_amplitudes"):
        amplitudes = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0]
        for entries, unit_id in zip(units, analyzer.unit_ids, strict=True):
            entries["spike_amplitudes"] = np.asarray(amplitudes[unit_id], dtype=np.float32)
    if analyzer.has_extension("unit_locations"):
        for entries, location in zip(units, analyzer.get_extension("unit_locations").get_data(), strict=True):
            entries["position"] = np.asarray(location[:2], dtype=np.float64)
    for extension in ("template_metrics", "quality_metrics"):
        if analyzer.has_extension(extension):
            for name, column in analyzer.get_extension(extension).get_data().items():
                for entries, value in zip(units, column.tolist(), strict=True):
                    entries[str(name)] = _plain(value)
    return units


def unit_from_template(
    average: npt.NDArray[Any], channel_ids: list[Any], locations_um: npt.NDArray[np.float64]
) -> Attributes:
    """Return what a template (samples, channels) says of its unit; nothing where it is flat."""
    if not np.any(average):
        return {}
    peak = largest_peak(average)
    x, y = locations_um[peak.channel].tolist()
    return {
        "channel": peak.channel,
        "channel_id": channel_ids[peak.channel],
        "x": x,
        "y": y,
        "position": centre_um(average, locations_um),
        "amplitude": peak.height_uV,
        "has_pos_peak": peak.is_positive,
        **template_attributes(average),
    }


def _add_spread_and_noise(analyzer: Any, units: list[Attributes]) -> None:
    """Add ``std_norm`` and ``snr`` where their numerators have been computed."""
    spread = analyzer.get_extension("templates").data.get("std")
    noise = analyzer.get_extension("noise_levels").get_data() if analyzer.has_extension("noise_levels") else None
    for unit, entries in enumerate(units):
        if not entries:
            continue
        peak = largest_peak(entries["template_full"])
        if spread is not None:
            entries["std_norm"] = float(spread[unit, peak.sample, peak.channel]) / peak.height_uV
        if noise is not None and noise[peak.channel] > 0:
            entries["snr"] = peak.height_uV / float(noise[peak.channel])


def _plain(value: Any) -> Any:
    """Return a numpy scalar as Python's own, and what pandas calls missing as NaN."""
    if isinstance(value, np.generic):
        return value.item()
    return math.nan if value is None or type(value).__name__ == "NAType" else value
