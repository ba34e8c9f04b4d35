"""A recording without NaN and infinities. Imports SpikeInterface: import it where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from spikeinterface.preprocessing.basepreprocessor import BasePreprocessor, BasePreprocessorSegment


class FiniteRecording(BasePreprocessor):  # type: ignore[misc]  # SpikeInterface is untyped
    """The samples of another recording, each that is NaN or infinite in the middle of its channel instead.

    A sample is replaced whatever is read with it, so that chunks of any length agree.

    Parameters
    ----------
    recording : BaseRecording
        Float samples.
    fill : list of float, length n_channels
        What stands for a sample without a number, in the units of the file.
    """

    def __init__(self, recording: Any, fill: list[float]) -> None:
        super().__init__(recording)
        for segment in recording.segments:
            self.add_recording_segment(_FiniteSegment(segment, np.asarray(fill, dtype=recording.dtype)))
        self._kwargs = {"recording": recording, "fill": [float(value) for value in fill]}


class _FiniteSegment(BasePreprocessorSegment):  # type: ignore[misc]  # SpikeInterface is untyped
    def __init__(self, parent: Any, fill: NDArray[np.floating]) -> None:
        super().__init__(parent)
        self._fill = fill

    def get_traces(self, start_frame: int | None, end_frame: int | None, channel_indices: Any) -> NDArray[np.floating]:
        traces: NDArray[np.floating] = self.parent_recording_segment.get_traces(start_frame, end_frame, channel_indices)
        finite = np.isfinite(traces)
        fill = self._fill if channel_indices is None else self._fill[channel_indices]
        return traces if finite.all() else np.where(finite, traces, fill)
