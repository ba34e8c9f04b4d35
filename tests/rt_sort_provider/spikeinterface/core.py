"""A recording in memory."""

from __future__ import annotations

from typing import Any


class NumpyRecording:
    """Traces of one segment, shape (n_samples, n_channels)."""

    def __init__(self, traces_list: list[Any], sampling_frequency: float) -> None:
        (self._traces,) = traces_list
        self.sampling_frequency = sampling_frequency

    def set_channel_locations(self, locations: list[list[float]]) -> None:
        assert len(locations) == self._traces.shape[1]

    def set_channel_gains(self, gain: float) -> None:
        assert gain == 1

    def set_channel_offsets(self, offset: float) -> None:
        assert offset == 0

    def get_num_samples(self) -> int:
        return len(self._traces)

    def get_traces(self) -> Any:
        return self._traces
