"""Channels that cannot be sorted are found when a recording is loaded, whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import FS_HZ, recording_of, signal

from spikelab.spike_sorting._exceptions import NoGoodChannelsError, SaturatedSignalError
from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.descriptions import describe, load_description
from spikelab.spike_sorting.samples.channels import is_long, unlike_others
from spikelab.spike_sorting.samples.glance import Glance, glance_at
from spikelab.spike_sorting.stages.channels import prepared

N_CHANNELS, BAD = 16, 5
RAIL = 32_767


def clip_hard(channel: np.ndarray) -> np.ndarray:
    return np.clip(channel, -10, 10)


FAULTS: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "zero": ("channels-flat", lambda channel: 0),
    "a constant": ("channels-flat", lambda channel: -512),
    "at the largest value": ("channels-saturated", lambda channel: RAIL),
    "from rail to rail": ("channels-saturated", lambda channel: np.where(channel > 0, RAIL, -RAIL - 1)),
    "cut off": ("channels-saturated", clip_hard),
    "not connected": ("channels-dead", lambda channel: channel / 12),
    "loud": ("channels-noisy", lambda channel: np.random.default_rng(2).normal(0, 300, len(channel))),
}
OF_FLOATS = {
    "no number": ("channels-not-finite", lambda channel: np.nan),
    "infinite": ("channels-not-finite", lambda channel: np.inf),
    "below all": ("channels-not-finite", lambda channel: -np.inf),
}


def with_fault(fault: str, dtype: str) -> np.ndarray:
    traces = signal(N_CHANNELS, dtype=dtype)
    traces[:, BAD] = {**FAULTS, **OF_FLOATS}[fault][1](traces[:, BAD])
    return traces


@pytest.mark.parametrize(
    "fault,dtype",
    [*((fault, "int16") for fault in FAULTS), *((fault, "float32") for fault in [*FAULTS, *OF_FLOATS])],
)
def test_a_bad_channel_is_left_out_and_told(fault: str, dtype: str) -> None:
    """P21: a channel that is flat, no number, at a rail, dead or loud is left out, by its code, and no other."""
    code, _ = {**FAULTS, **OF_FLOATS}[fault]
    if dtype == "float32" and fault == "at the largest value":
        code = "channels-flat"  # floats have no rail of their own
    recording, remarks = prepared(recording_of(with_fault(fault, dtype)), RecordingConfig())
    assert recording.channel_ids.tolist() == [k for k in range(N_CHANNELS) if k != BAD]
    (told,) = (one for one in remarks if one.code.startswith("channels-"))
    assert told.code == code
    assert told.message.endswith(f"left out: {BAD}")


@pytest.mark.parametrize(
    "n_channels,n_columns,dtype",
    [(4, 1, "int16"), (16, 1, "int32"), (40, 1, "int16"), (64, 8, "uint16"), (16, 4, "float32")],
)
def test_a_healthy_recording_is_sorted_as_it_is(n_channels: int, n_columns: int, dtype: str) -> None:
    """Coloured and white noise, on long probes and on arrays, of any type, leave nothing to tell."""
    for is_white in (False, True):
        traces = signal(n_channels, 5.0, "float64", is_white=is_white) + (1000 if dtype == "uint16" else 0)
        recording, remarks = prepared(recording_of(traces.astype(dtype), n_columns=n_columns), RecordingConfig())
        assert (recording.get_num_channels(), remarks) == (n_channels, [])


@settings(max_examples=8, deadline=None)
@given(
    bad=st.sets(st.integers(0, N_CHANNELS - 1), min_size=1, max_size=5),
    fault=st.sampled_from(sorted(FAULTS)),
    seed=st.integers(0, 1000),
)
def test_bad_channels_do_not_hide_each_other(bad: set[int], fault: str, seed: int) -> None:
    """However many channels of a third have a fault, exactly those are left out."""
    traces = signal(N_CHANNELS, 1.0, seed=seed)
    for channel in bad:
        traces[:, channel] = FAULTS[fault][1](traces[:, channel])
    recording, _ = prepared(recording_of(traces), RecordingConfig())
    assert set(range(N_CHANNELS)) - set(recording.channel_ids.tolist()) == bad


def test_a_list_overrides_what_is_found() -> None:
    """A list leaves out what it names and nothing else; what the samples show is told, and kept."""
    traces = with_fault("zero", "int16")
    recording, remarks = prepared(recording_of(traces), RecordingConfig(bad_channels=("3",)))
    assert recording.channel_ids.tolist() == [k for k in range(N_CHANNELS) if k != 3]
    told = {one.code: one.message for one in remarks}
    assert told["channels-left-out"] == "1 channel is left out (named in bad_channels): 3"
    assert told["channels-flat"].endswith(f"is kept, because bad_channels says so: {BAD}")
    everything, _ = prepared(recording_of(traces), RecordingConfig(bad_channels=None))
    assert everything.get_num_channels() == N_CHANNELS


@pytest.mark.parametrize(
    "traces,error",
    [
        (np.zeros((40_000, 6), "int16"), NoGoodChannelsError),
        (np.full((40_000, 6), np.nan, "float32"), NoGoodChannelsError),
        (np.full((40_000, 6), np.inf, "float64"), NoGoodChannelsError),
        (np.full((40_000, 6), RAIL, "int16"), SaturatedSignalError),
        (np.full((40_000, 6), 1023, "uint16"), SaturatedSignalError),
        (np.where(signal(6) > 0, RAIL, -RAIL - 1).astype("int16"), SaturatedSignalError),
        (np.clip(signal(6, dtype="float32"), -5, 5), SaturatedSignalError),
    ],
)
def test_a_recording_without_a_good_channel_is_an_error(traces: np.ndarray, error: type[Exception]) -> None:
    """P21: where every channel is bad, the error says of what kind and how many."""
    with pytest.raises(error, match="all 6 channels are left out") as raised:
        prepared(recording_of(traces), RecordingConfig())
    assert raised.value.total_channels == 6


@pytest.mark.parametrize("n_samples", [1, 2, 40, 999, 1000, 1001])
def test_a_short_recording_is_looked_at_whole(n_samples: int) -> None:
    """A recording of a single sample has no living channel; a short one is sorted, and told to be short."""
    recording = recording_of(signal(6)[100 : 100 + n_samples])
    if n_samples == 1:
        with pytest.raises(NoGoodChannelsError):
            prepared(recording, RecordingConfig())
    else:
        kept, remarks = prepared(recording, RecordingConfig())
        assert kept.get_num_samples() == n_samples
        assert "recording-short" in [one.code for one in remarks]


def test_a_channel_that_is_bad_for_a_while_stays() -> None:
    """A channel that is silent, without numbers or cut off for a while is sorted; what is no silence is told."""
    traces = signal(N_CHANNELS, 6.0, "float32")
    traces[: len(traces) // 2, 1] = 0
    traces[: len(traces) // 2, 2] = np.nan
    traces[10_000:10_200, 3] = traces[30_000:30_050, 3] = 3000
    traces[:1000, 3] = np.clip(traces[:1000, 3], None, 3000)
    traces[:50, 3] = 3000
    recording, remarks = prepared(recording_of(traces), RecordingConfig())
    assert recording.get_num_channels() == N_CHANNELS
    assert [one.code for one in remarks] == ["samples-not-finite"]


def test_coarse_steps_are_no_rail() -> None:
    """A converter of coarse steps, with hardly more than one of them of noise, does not look cut off."""
    coarse = np.rint(signal(N_CHANNELS, 6.0, "float64", is_white=True) / 40)
    for dtype in ("int16", "float32"):
        recording, remarks = prepared(recording_of(coarse.astype(dtype), gain_uV=10.0), RecordingConfig())
        assert (recording.get_num_channels(), remarks) == (N_CHANNELS, [])


# ------------------------------------------------------------------------------------------ beside neighbours


def shared(n_channels: int) -> np.ndarray:
    """Return a signal as along a shank: most of it common to all channels."""
    common = signal(1, 1.5, "float32", seed=3, is_white=True)
    return common + signal(n_channels, 1.5, "float32", seed=4, is_white=True) / 4


def test_a_channel_unlike_all_others_of_a_long_probe_is_found() -> None:
    """SpikeInterface's verdict on dead channels counts on a long probe, and only there."""
    traces = shared(48)
    traces[:, 20] = signal(1, 1.5, "float32", seed=5, is_white=True)[:, 0]
    recording, remarks = prepared(recording_of(traces), RecordingConfig())
    assert [one.code for one in remarks if one.code.startswith("channels")] == ["channels-unlike"]
    assert 20 not in recording.channel_ids
    assert prepared(recording_of(traces, n_columns=6), RecordingConfig())[0].get_num_channels() == 48


def test_a_comparison_that_fails_takes_no_channel() -> None:
    """Where a third of the channels is unlike the rest, it is the comparison that means nothing."""
    traces = shared(48)
    traces[:, ::2] = signal(24, 1.5, "float32", seed=6, is_white=True)
    places = np.column_stack([np.zeros(48), 20.0 * np.arange(48)])
    assert is_long(places)
    assert not unlike_others(Glance((traces[:1000],), FS_HZ), places).any()


# ------------------------------------------------------------------------------------ samples without a number


def test_samples_without_a_number_count_as_the_middle() -> None:
    """A few NaN and infinities are told of and replaced, wherever they are, in this process and in another."""
    traces = signal(N_CHANNELS, 6.0, "float32") + 300
    traces[10, 1], traces[500, :] = np.nan, np.inf
    traces[12_345, 7] = -np.inf  # outside of every window that is looked at
    recording, remarks = prepared(recording_of(traces), RecordingConfig())
    assert [one.code for one in remarks] == ["samples-not-finite"]
    for same in (recording, recording.remove_channels([0])):
        got = same.get_traces(start_frame=12_300, end_frame=12_400)
        assert np.isfinite(got).all()
        assert got[45, same.channel_ids.tolist().index(7)] == pytest.approx(np.median(traces[:, 7]), abs=60)
    whole = recording.get_traces()
    finite = np.isfinite(traces)
    np.testing.assert_array_equal(whole[finite], traces[finite])
    np.testing.assert_array_equal(recording.get_traces(start_frame=400, end_frame=600), whole[400:600])


def test_a_repaired_recording_opens_from_its_description(tmp_path: Any) -> None:
    """What a worker opens from recording.json has no NaN either."""
    traces = signal(4, 1.0, "float32")
    traces[77] = np.nan
    saved = recording_of(traces).save(folder=tmp_path / "saved", n_jobs=1, verbose=False, progress_bar=False)
    recording, _ = prepared(saved, RecordingConfig())
    opened = load_description(json.dumps(json.loads(describe(recording))))
    np.testing.assert_array_equal(opened.get_traces(), recording.get_traces())
    assert np.isfinite(opened.get_traces()).all()


def test_little_is_read_of_a_long_recording() -> None:
    """However long a recording is, at most 60 windows of 50 ms are read, its start and its end among them."""
    glance = glance_at(recording_of(signal(4, 20.0)))
    assert len(glance.windows) == 60
    traces = recording_of(signal(4, 20.0)).get_traces()
    np.testing.assert_array_equal(glance.windows[0], traces[:1000])
    np.testing.assert_array_equal(glance.windows[-1], traces[-1000:])
