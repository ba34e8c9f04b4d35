"""Load: open the recording, choose channels and times, and describe the result; nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import NoGoodChannelsError, RecordingUnreadableError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.config import RecordingConfig, SortingPipelineConfig
from spikelab.spike_sorting.descriptions import describe, load_description
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.joining import joined
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.selection import Epoch, epochs_of, selected_periods
from spikelab.spike_sorting.sources import open_files
from spikelab.spike_sorting.stages.stage import StageRun, Summary

VERSION = 2

_READ_BY_OTHERS = (
    *("freq_min", "freq_max", "stim_times_ms", "hdf5_plugin_path"),
    *("stream_id", "probe_path", "binary_fs", "binary_n_chan", "binary_dtype", "binary_offset"),
)
"""Settings that other stages read, or that the recording's identity has already."""


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that decide what is sorted."""
    ours = asdict(config.recording)
    for name in _READ_BY_OTHERS:
        del ours[name]
    return thaw(ours)


def run(stage: StageRun) -> Summary:
    """Write ``recording.json``: the recording to sort, and where each file lies in it."""
    import numpy as np

    recording, epochs, warnings = build_recording(stage.job)
    description = {
        "schema": 1,
        "recording": json.loads(describe(recording)),
        "epochs": [asdict(epoch) for epoch in epochs],
    }
    (stage.folder / "recording.json").write_text(json.dumps(description), encoding="utf-8")
    return {
        "n_channels": recording.get_num_channels(),
        "n_samples": recording.get_num_samples(),
        "fs_Hz": recording.sampling_frequency,
        "duration_s": recording.get_num_samples() / recording.sampling_frequency,
        "dtype": str(recording.dtype),
        "extent_um": np.ptp(recording.get_channel_locations(), axis=0)[:2].tolist(),
        "warnings": [warning.to_dict() for warning in warnings],
    }


def build_recording(job: Job) -> tuple[Any, list[Epoch], list[Remark]]:
    """Return the recording to sort, its epochs, and what deserves a look."""
    options = job.config.recording
    opened = open_files(job.source)
    parts = [_single_segment(part.recording) for part in opened]
    names = job.source.names or (job.name,)
    lengths = [part.get_num_samples() for part in parts]
    recording = joined(parts, names)
    periods = selected_periods(sum(lengths), recording.sampling_frequency, options)
    epochs = epochs_of(lengths, names, periods)
    recording = _cut(recording, periods)
    recording, gain_notes = _with_gain(recording, options)
    recording, channel_notes = _with_good_channels(recording, options)
    probe_notes = list(dict.fromkeys(told for part in opened for told in part.remarks))
    return recording, epochs, probe_notes + gain_notes + channel_notes


def read_recording(path: Path) -> tuple[Any, list[Epoch]]:
    """Return the recording and its epochs from ``recording.json``."""
    description = json.loads(path.read_text(encoding="utf-8"))
    epochs = [Epoch(**epoch) for epoch in description["epochs"]]
    return load_description(json.dumps(description["recording"])), epochs


# -------------------------------------------------------------------------------------------------- in time


def _single_segment(recording: Any) -> Any:
    if recording.get_num_segments() > 1:
        msg = (
            f"the recording has {recording.get_num_segments()} segments; expected one. Concatenate them first "
            "with spikeinterface.concatenate_recordings, or select one with select_segments"
        )
        raise RecordingUnreadableError(msg)
    return recording


def _cut(recording: Any, periods: Sequence[tuple[int, int]]) -> Any:
    if list(periods) == [(0, recording.get_num_samples())]:
        return recording
    cuts = [recording.frame_slice(start_frame=start, end_frame=end) for start, end in periods]
    if len(cuts) == 1:
        return cuts[0]
    import spikeinterface

    return spikeinterface.concatenate_recordings(cuts)


# ----------------------------------------------------------------------------------------- gain and channels


def _with_gain(recording: Any, options: RecordingConfig) -> tuple[Any, list[Remark]]:
    """Set gain and offset where the user gave them, or where the file has none."""
    notes: list[Remark] = []
    gain, offset = options.gain_to_uv, options.offset_to_uv
    if not recording.has_scaleable_traces() and gain is None:
        gain = 1.0
        notes.append(remark("no-gain", "the file has no gain: amplitudes are in its own units"))
    if gain is None and offset is None:
        return recording, notes
    recording = recording.clone()
    if gain is not None:
        recording.set_channel_gains(gain)
    if offset is not None or recording.get_channel_offsets() is None:
        recording.set_channel_offsets(offset or 0.0)
    return recording, notes


def _with_good_channels(recording: Any, options: RecordingConfig) -> tuple[Any, list[Remark]]:
    if not recording.has_probe():
        msg = (
            "the recording has no probe geometry; name a probe file in probe_path, put one beside the recording, or "
            "attach a probe with recording.set_probe(probe)"
        )
        raise RecordingUnreadableError(msg)
    notes: list[Remark] = []
    if options.mea_y_max is not None:
        above = recording.get_channel_locations()[:, 1] > options.mea_y_max
        recording, note = _without(recording, recording.channel_ids[above], f"above y = {options.mea_y_max:g} um")
        notes += note
    bad = _flat_channels(recording) if options.bad_channels == "auto" else _named_channels(recording, options)
    why = "flat, or no numbers, in every sampled window" if options.bad_channels == "auto" else "named in bad_channels"
    recording, note = _without(recording, bad, why)
    return recording, notes + note


def _without(recording: Any, channel_ids: Sequence[Any], why: str) -> tuple[Any, list[Remark]]:
    bad = [channel for channel in recording.channel_ids if channel in set(channel_ids)]
    if not bad:
        return recording, []
    if len(bad) == recording.get_num_channels():
        msg = f"all {len(bad)} channels are left out: {why}"
        raise NoGoodChannelsError(msg, total_channels=len(bad), bad_channels=[str(channel) for channel in bad])
    listed = ", ".join(str(channel) for channel in bad[:20]) + (", ..." if len(bad) > 20 else "")
    left_out = "1 channel is" if len(bad) == 1 else f"{len(bad)} channels are"
    return recording.remove_channels(bad), [remark("channels-left-out", f"{left_out} left out ({why}): {listed}")]


def _named_channels(recording: Any, options: RecordingConfig) -> list[Any]:
    wanted = [str(channel) for channel in options.bad_channels or ()]
    by_name = {str(channel): channel for channel in recording.channel_ids}
    if unknown := [name for name in wanted if name not in by_name]:
        msg = f"bad_channels names {unknown[0]!r}, which the recording does not have; it has {list(by_name)[:10]} ..."
        raise ValueError(msg)
    return [by_name[name] for name in wanted]


def _flat_channels(recording: Any) -> list[Any]:
    """Return the channels that show one single value, or no number, in ten windows of 50 ms over the recording."""
    import numpy as np

    n_samples = recording.get_num_samples()
    window = min(n_samples, int(recording.sampling_frequency * 0.05))
    flat = np.ones(recording.get_num_channels(), dtype=bool)
    for start in np.linspace(0, n_samples - window, 10, dtype=int):
        traces = recording.get_traces(start_frame=int(start), end_frame=int(start) + window)
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            spread = np.ptp(traces, axis=0)
        flat &= ~(np.isfinite(spread) & (spread > 0))
    return list(recording.channel_ids[flat])
