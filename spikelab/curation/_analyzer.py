"""Units and their traces as SpikeInterface's analyzer, to have its metrics. Imports SpikeInterface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from spikeinterface.core import BaseRecording, BaseRecordingSegment, create_sorting_analyzer
from spikeinterface.preprocessing import bandpass_filter, highpass_filter

from spikelab.curation._filtered import require_finite

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_JOBS = {"n_jobs": 1, "progress_bar": False}


class _Traces(BaseRecording):  # type: ignore[misc]  # SpikeInterface is untyped
    """Traces of shape (channels, samples), read when they are asked for; without traces, silence."""

    def __init__(self, traces: Any, n_samples: int, fs_Hz: float, locations_um: Any) -> None:
        super().__init__(fs_Hz, list(range(len(locations_um))), np.dtype("float32"))
        self.add_recording_segment(_TracesSegment(traces, n_samples, fs_Hz, len(locations_um)))
        self.set_dummy_probe_from_locations(np.asarray(locations_um, dtype=np.float64)[:, :2])
        self.set_channel_gains(1.0)
        self.set_channel_offsets(0.0)


class _TracesSegment(BaseRecordingSegment):  # type: ignore[misc]  # SpikeInterface is untyped
    def __init__(self, traces: Any, n_samples: int, fs_Hz: float, n_channels: int) -> None:
        super().__init__(sampling_frequency=fs_Hz)
        self._traces, self._n_samples, self._n_channels = traces, n_samples, n_channels

    def get_num_samples(self) -> int:
        return self._n_samples

    def get_traces(
        self, start_frame: int | None = None, end_frame: int | None = None, channel_indices: Any = None
    ) -> Any:
        first, last = start_frame or 0, self._n_samples if end_frame is None else end_frame
        chosen = slice(None) if channel_indices is None else channel_indices
        if self._traces is None:
            return np.zeros((last - first, self._n_channels), dtype=np.float32)[:, chosen]
        traces = np.asarray(self._traces[:, first:last], dtype=np.float32)
        require_finite(traces, first)
        return traces.T[:, chosen]


def analyzer_of(sd: SpikeData, fs_Hz: float, *, has_traces: bool) -> Any:
    """Return an analyzer in memory of the units and, where wanted, their traces in the band 300-6000 Hz."""
    traces = sd.raw_data if has_traces else None
    n_channels = 1 if traces is None else traces.shape[0]
    n_samples = round(sd.length * fs_Hz / 1000.0) if traces is None else traces.shape[1]
    locations_um = sd.metadata.get("channel_locations")
    if locations_um is None or len(locations_um) != n_channels:
        locations_um = np.column_stack([np.zeros(n_channels), 20.0 * np.arange(n_channels)])
    recording: Any = _Traces(traces, n_samples, fs_Hz, locations_um)
    if traces is not None and fs_Hz > 12_500.0:
        recording = bandpass_filter(recording, 300.0, 6000.0, dtype="float32")
    elif traces is not None:
        recording = highpass_filter(recording, 300.0, dtype="float32")
    # Raw data may begin after the recording, and have gaps: their own axis says which sample a spike is at.
    samples = [
        np.rint((train - sd.start_time) * fs_Hz / 1000.0).astype(np.int64) if traces is None else sd.raw_samples(train)
        for train in sd.train
    ]
    return create_sorting_analyzer(
        _sorting(samples, fs_Hz, n_samples), recording, format="memory", sparse=False, job_kwargs=_JOBS
    )


def _sorting(samples: Sequence[npt.NDArray[np.int64]], fs_Hz: float, n_samples: int) -> Any:
    """Return the units by their index: ids may repeat, indices do not."""
    from spikeinterface.core import NumpySorting

    inside = {unit: values[(values >= 0) & (values < n_samples)] for unit, values in enumerate(samples)}
    return NumpySorting.from_unit_dict([inside], fs_Hz)


def measure(analyzer: Any, metrics: list[str], template_metrics: list[str], *, has_traces: bool) -> Any:
    """Return the metrics as a DataFrame, one row per unit."""
    wanted: dict[str, dict[str, Any]] = {}
    if has_traces:
        wanted |= {"random_spikes": {}, "templates": {}, "noise_levels": {}, "spike_amplitudes": {}}
    if "drift" in metrics:
        wanted |= {"spike_locations": {"method": "center_of_mass"}}
    if metrics:
        wanted["quality_metrics"] = {"metric_names": metrics, "skip_pc_metrics": True}
    if template_metrics:
        wanted["template_metrics"] = {"metric_names": template_metrics}
    analyzer.compute(wanted, **_JOBS)
    return analyzer.get_metrics_extension_data()
