"""Assemble: one SpikeData of all units, with everything that curation and reports ask of a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.base import Sorting
from spikelab.spike_sorting.config import SortingPipelineConfig, WaveformConfig
from spikelab.spike_sorting.descriptions import describe
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.selection import Epoch
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.sort import read_spikes
from spikelab.spike_sorting.stages.stage import StageRun, Summary
from spikelab.spike_sorting.stages.stimulation import stimulation_metadata, with_stimulation
from spikelab.spike_sorting.stages.waveforms import UNFILTERED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata._templates import Peak

VERSION = 1


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that change what is said of a unit."""
    names = ("pos_peak_thresh", "std_at_peak", "std_over_window_ms_before", "std_over_window_ms_after")
    return thaw({name: getattr(config.waveform, name) for name in names})


def run(stage: StageRun) -> Summary:
    """Write the SpikeData of all units."""
    import numpy as np
    from spikeinterface import load_sorting_analyzer

    from spikelab.spikedata import SpikeData

    job, folder = stage.job, stage.job.run
    recording, epochs = read_recording(folder.recording)
    spikes = read_spikes(folder.stage("sort"))
    analyzer = load_sorting_analyzer(folder.analyzer, load_extensions=True)
    unfiltered = np.load(folder.stage("waveforms") / UNFILTERED, allow_pickle=False)
    fs_Hz = recording.sampling_frequency
    attributes = unit_attributes(recording, analyzer, unfiltered, spikes, job.config.waveform)
    sd = SpikeData(
        spike_trains_ms(spikes, fs_Hz),
        length=recording.get_num_samples() / fs_Hz * 1000.0,
        neuron_attributes=attributes,
        metadata=metadata(job, recording, epochs),
    )
    if "stim_times_ms" in sd.metadata:
        sd = with_stimulation(sd)
    sd.save(stage.folder / folder.assembled.name)
    return {"n_units": sd.N, "n_spikes": int(spikes.samples.size)}


def spike_trains_ms(spikes: Sorting, fs_Hz: float) -> list[NDArray[np.float64]]:
    """Return the times of each unit's spikes (ms), in the order of ``spikes.unit_ids``."""
    import numpy as np

    order = np.argsort(spikes.units, kind="stable")
    borders = np.searchsorted(spikes.units[order], np.arange(1, spikes.unit_ids.size))
    return list(np.split(spikes.samples[order] / fs_Hz * 1000.0, borders))


def metadata(job: Job, recording: Any, epochs: list[Epoch]) -> dict[str, Any]:
    """Return what is true of the recording as a whole."""
    fs_Hz = float(recording.sampling_frequency)
    sort_marker = job.run.read_marker("sort") or {"key": "", "summary": {}}
    return {
        "source_file": list(job.source.files) or job.name,
        "source_stream": job.source.stream_id,
        "recording": describe(recording),
        "sorter": job.config.sorter.sorter_name,
        "sorter_version": sort_marker["summary"].get("version"),
        "fs_Hz": fs_Hz,
        "n_samples": int(recording.get_num_samples()),
        "channel_ids": [str(channel) for channel in recording.channel_ids],
        "channel_locations": recording.get_channel_locations().astype(float),
        "rec_chunks_ms": [[epoch.start / fs_Hz * 1000.0, epoch.end / fs_Hz * 1000.0] for epoch in epochs],
        "rec_chunk_names": [epoch.name for epoch in epochs],
        "config_digest": sort_marker["key"],
        **stimulation_metadata(job.run.stimulation),
    }


# -------------------------------------------------------------------------------------------- what a unit is


def unit_attributes(
    recording: Any,
    analyzer: Any,
    unfiltered: NDArray[np.float32],
    spikes: Sorting,
    options: WaveformConfig,
) -> list[dict[str, Any]]:
    """Return the attributes of each unit, in the order of ``spikes.unit_ids``."""
    import numpy as np

    from spikelab.spikedata._templates import largest_peak, template_attributes

    templates = analyzer.get_extension("templates")
    average, spread = templates.get_data("average"), templates.get_data("std")
    noise_uV = analyzer.get_extension("noise_levels").get_data()
    amplitudes = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0]
    positions = analyzer.get_extension("unit_locations").get_data()
    metrics = analyzer.get_extension("quality_metrics").get_data()
    channels = _channel_attributes(recording)
    units = []
    for index, unit_id in enumerate(spikes.unit_ids.tolist()):
        peak = largest_peak(average[index], options.pos_peak_thresh)
        share = _share_left_by_filter(unfiltered[index], peak)
        window = _spread_window(peak.sample, average.shape[1], options, analyzer.sampling_frequency)
        units.append(
            {
                "unit_id": unit_id,
                "channel": peak.channel,
                **{name: values[peak.channel] for name, values in channels.items()},
                "position": positions[index, :2].astype(float),
                "amplitude": peak.height_uV / share,
                "snr": _ratio(peak.height_uV, noise_uV[peak.channel]),
                "std_norm": _ratio(spread[index, window, peak.channel].mean(), peak.height_uV),
                "has_pos_peak": peak.is_positive,
                "spike_amplitudes": (amplitudes[spikes.unit_ids[index]] / share).astype(np.float32),
                **template_attributes(average[index]),
                **{name: _plain(metrics.loc[unit_id, name]) for name in metrics.columns},
                **{name: values[index] for name, values in spikes.unit_properties.items()},
            }
        )
    return units


def _channel_attributes(recording: Any) -> dict[str, list[Any]]:
    """Return what each channel passes on to the units that are largest on it."""
    locations = recording.get_channel_locations()
    attributes = {
        "channel_id": [str(channel) for channel in recording.channel_ids],
        "x": locations[:, 0].astype(float).tolist(),
        "y": locations[:, 1].astype(float).tolist(),
    }
    electrodes = recording.get_property("electrode")
    if electrodes is not None:
        attributes["electrode"] = [_plain(electrode) for electrode in electrodes]
    return attributes


def _share_left_by_filter(unfiltered: NDArray[np.float32], peak: Peak) -> float:
    """Return the share of a spike's amplitude that the band-pass left, by which amplitudes are corrected.

    The unfiltered amplitude is that of the average waveform above its own median, within a few samples of
    the filtered peak; where it is the smaller one, noise has won and nothing is corrected.
    """
    import numpy as np

    waveform = unfiltered[:, peak.channel] - np.median(unfiltered[:, peak.channel])
    near = waveform[max(0, peak.sample - 3) : peak.sample + 4]
    true_uV = float(near.max() if peak.is_positive else -near.min())
    return min(1.0, peak.height_uV / true_uV) if true_uV > 0 else 1.0


def _ratio(value: float, of: float) -> float:
    return float(value) / float(of) if of > 0 else float("nan")


def _spread_window(sample: int, n_samples: int, options: WaveformConfig, fs_Hz: float) -> slice:
    if options.std_at_peak:
        return slice(sample, sample + 1)
    before = round(options.std_over_window_ms_before * fs_Hz / 1000)
    after = round(options.std_over_window_ms_after * fs_Hz / 1000)
    return slice(max(0, sample - before), min(n_samples, sample + after + 1))


def _plain(value: Any) -> Any:
    """Return a numpy scalar as Python's own; a missing value of pandas as NaN."""
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return float("nan")
    return value.item() if hasattr(value, "item") else value
