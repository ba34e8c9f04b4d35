"""Channels that cannot be sorted are found when a recording is loaded, whatever is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from probeinterface import generate_linear_probe
from spikeinterface.core import NumpyRecording

from spikelab.spike_sorting._exceptions import NoGoodChannelsError
from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.stages.load import _with_good_channels

N_SAMPLES, N_CHANNELS, BAD = 40_000, 6, 2


def recording_of(traces: np.ndarray) -> Any:
    recording = NumpyRecording([traces], 20_000.0)
    probe = generate_linear_probe(traces.shape[1])
    probe.set_device_channel_indices(np.arange(traces.shape[1]))
    recording.set_probe(probe)
    return recording


def noise(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).normal(0, 20, (N_SAMPLES, N_CHANNELS)).astype(dtype)


@pytest.mark.parametrize("value", [0.0, -512.0, np.nan, np.inf, -np.inf])
def test_a_dead_channel_is_left_out_and_told(value: float) -> None:
    """P21: a channel that is flat, NaN or infinite throughout is left out, and a note of the report names it."""
    traces = noise()
    traces[:, BAD] = value
    recording, notes = _with_good_channels(recording_of(traces), RecordingConfig())
    assert recording.channel_ids.tolist() == [k for k in range(N_CHANNELS) if k != BAD]
    assert [
        note for note in notes if note.message.startswith("1 channel is left out") and note.message.endswith(f": {BAD}")
    ]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_recording_without_a_living_channel_is_an_error(value: float, dtype: str) -> None:
    """P21: a recording of which every channel is dead ends as NoGoodChannelsError, with their number."""
    with pytest.raises(NoGoodChannelsError, match="all 6 channels") as raised:
        _with_good_channels(recording_of(np.full((N_SAMPLES, N_CHANNELS), value, dtype)), RecordingConfig())
    assert raised.value.total_channels == N_CHANNELS


@pytest.mark.parametrize("n_samples", [1, 2, 999, 1000, 1001])
def test_a_short_recording_is_looked_at_whole(n_samples: int) -> None:
    """P21: a recording of a single sample has no living channel, and a short one has what it has."""
    traces = noise("int16")[:n_samples]
    if n_samples == 1:
        with pytest.raises(NoGoodChannelsError):
            _with_good_channels(recording_of(traces), RecordingConfig())
    else:
        assert _with_good_channels(recording_of(traces), RecordingConfig())[0].get_num_samples() == n_samples


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_a_living_channel_stays(dtype: str) -> None:
    """A channel that is clipped, or silent or without numbers for a while only, is sorted."""
    traces = np.clip(noise() + 1000, 990, 1010).astype(dtype)
    traces[: N_SAMPLES // 2, BAD] = np.nan if dtype == "float32" else 0
    recording, notes = _with_good_channels(recording_of(traces), RecordingConfig())
    assert recording.get_num_channels() == N_CHANNELS
    assert notes == []
