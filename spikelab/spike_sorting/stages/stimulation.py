"""Artifacts of stimulation, taken out of a recording while it is loaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.remarks import Remark, remark

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

VERSION = 4
"""Of what becomes of artifacts: recordings without any are loaded as before when it is raised."""


def without_artifacts(
    recording: Any, config: SortingPipelineConfig, periods: Sequence[tuple[int, int]]
) -> tuple[Any, dict[str, Any], list[Remark]]:
    """Return the recording without artifacts, what became of them, and what deserves a look.

    Parameters
    ----------
    recording : BaseRecording
        As it was read.
    config : SortingPipelineConfig
        With ``recording.stim_times_ms``, in ms of that recording.
    periods : sequence of (int, int)
        Samples of it that are sorted: the record's times are those of what is sorted.
    """
    from spikelab.stim_sorting import StimulationWarning, preprocess_stim_artifacts
    from spikelab.stim_sorting.pictures import picture_data

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", StimulationWarning)
        times_ms: Any = config.recording.stim_times_ms
        cleaned, summary = preprocess_stim_artifacts(recording, times_ms, **asdict(config.stimulation))
    notes = []
    for warning in told:
        if issubclass(warning.category, StimulationWarning):
            notes.append(remark("stimulation", str(warning.message)))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    fs_Hz = recording.sampling_frequency
    # Each event once, however often it was logged.
    events_ms = cleaned.times_ms.tolist() if summary.times_ms.size else []
    record = {
        **summary.to_dict(),
        "sorted_times_ms": [time for time, _ in _within([(t, t) for t in events_ms], periods, fs_Hz)],
        "pictures": picture_data(recording, cleaned, summary) if summary.times_ms.size else {},
        "sorted_blanked_ms": _within(summary.blanked_ms.tolist(), periods, fs_Hz),
    }
    return cleaned, thaw(record), list(dict.fromkeys(notes))


def _within(spans_ms: Sequence[Sequence[float]], periods: Sequence[tuple[int, int]], fs_Hz: float) -> list[list[float]]:
    """Return the spans (ms) as they lie in the concatenation of `periods`, cut to them, in order."""
    moved, position_ms = [], 0.0
    for first, end in periods:
        start_ms, end_ms = first / fs_Hz * 1000, end / fs_Hz * 1000
        for begin, stop in spans_ms:
            low, high = max(begin, start_ms), min(stop, end_ms)
            if (low < high or begin == stop == low) and low < end_ms:
                moved.append([low - start_ms + position_ms, high - start_ms + position_ms])
        position_ms += end_ms - start_ms
    return sorted(moved)


def stimulation_metadata(path: Path) -> dict[str, Any]:
    """Return what a SpikeData says of the stimulation, in ms of the recording that was sorted; empty without any."""
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["pictures"]
    return {
        "stim_times_ms": record.pop("sorted_times_ms"),
        "blanked_ms": record.pop("sorted_blanked_ms"),
        "stimulation": record,
    }


def with_stimulation(sd: SpikeData) -> SpikeData:
    """Return `sd` with the latency of each unit, and its rate over the time in which spikes can be seen."""
    from spikelab.stim_sorting.aligned import peri_stimulus_histogram

    latencies = peri_stimulus_histogram(sd, sd.metadata["stim_times_ms"]).latency_ms
    attributes = [
        {**unit, "firing_rate": float(rate), "stim_latency_ms": float(latency)}
        for unit, rate, latency in zip(sd.neuron_attributes, sd.rates(), latencies, strict=True)
    ]
    return sd.replace(neuron_attributes=attributes)
