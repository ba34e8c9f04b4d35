"""Files that are read in a wrong way, and samples that were lost, are found before a sort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from recording_files import write_nwb
from signals import FS_HZ, recording_of, signal
from support import simulate_maxwell

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import KILOSORT4, RecordingConfig
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.samples.gaps import Gap, gaps_in, gaps_of
from spikelab.spike_sorting.samples.glance import Glance, glance_at
from spikelab.spike_sorting.samples.reading import likely_n_channels
from spikelab.spike_sorting.stages.channels import prepared
from spikelab.spike_sorting.stages.load import build_recording


def read_as(traces: np.ndarray, n_channels: int) -> np.ndarray:
    """Return samples as a file of them looks that is read with another number of channels."""
    flat = traces.ravel()
    return flat[: flat.size // n_channels * n_channels].reshape(-1, n_channels)


# -------------------------------------------------------------------------------------- the number of channels


@pytest.fixture(scope="module")
def simulated() -> np.ndarray:
    return simulate_recording("mea", n_channels=36, duration_s=4, seed=3).recording.get_traces()


@pytest.mark.parametrize("n_channels", [35, 37, 30, 64])
def test_a_wrong_number_of_channels_is_found(simulated: np.ndarray, n_channels: int) -> None:
    """White noise with spikes, read with too many or too few channels, is not sorted, and the right number is told."""
    with pytest.raises(RecordingUnreadableError, match="The samples repeat every 36 values"):
        prepared(recording_of(read_as(simulated, n_channels)), RecordingConfig())
    kept, remarks = prepared(recording_of(read_as(simulated, n_channels)), RecordingConfig(bad_channels=None))
    assert kept.get_num_channels() == n_channels
    assert "channel-count" in [one.code for one in remarks]


@settings(max_examples=10, deadline=None)
@given(right=st.integers(5, 70), wrong=st.integers(5, 70), seed=st.integers(0, 99))
def test_real_noise_shows_any_wrong_number(right: int, wrong: int, seed: int) -> None:
    """Noise of an amplifier's band names the number of channels, but for a divisor of it; read rightly, nothing."""
    assume(wrong == right or right % wrong)
    traces = signal(right, 0.5, "float32", seed)
    glance = glance_at(recording_of(read_as(traces, wrong)))
    assert likely_n_channels(glance) == (None if wrong == right else right)


@pytest.mark.parametrize("n_samples", [20, 200])
def test_few_samples_show_no_number(n_samples: int) -> None:
    """What may be chance is no other number of channels: a recording of some samples is told to be short instead."""
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(scale=100, size=(n_samples, 9)).astype(np.float32)
        assert likely_n_channels(glance_at(recording_of(noise))) is None, seed
    _, remarks = prepared(recording_of(noise), RecordingConfig())
    assert "recording-short" in [one.code for one in remarks]


def hum(traces: np.ndarray) -> np.ndarray:
    """Put line noise on some channels at both ends of the file's rows."""
    wave = 500 * np.sin(2 * np.pi * 50 * np.arange(len(traces)) / FS_HZ)[:, None]
    return traces + wave * np.isin(np.arange(traces.shape[1]), [0, 1, 2, traces.shape[1] - 2, traces.shape[1] - 1])


def in_groups(traces: np.ndarray) -> np.ndarray:
    """Put white noise on even and on odd channels, each from one source, as two amplifiers would."""
    sources = np.random.default_rng(8).normal(0, 40, (len(traces), 2))
    return traces + sources[:, np.arange(traces.shape[1]) % 2]


def with_offsets(traces: np.ndarray) -> np.ndarray:
    return traces + 300 * np.sin(np.arange(traces.shape[1]))


@pytest.mark.parametrize("like", [hum, in_groups, with_offsets])
@pytest.mark.parametrize("is_white", [False, True])
def test_what_channels_share_is_no_wrong_number(like: Callable[[Any], Any], *, is_white: bool) -> None:
    """Line noise, noise of groups of channels and offsets of channels do not look like another number of them."""
    traces = like(signal(32, 2.0, "float64", is_white=is_white))
    windows = tuple(traces[start : start + 1000] for start in range(0, len(traces), 1000))
    assert likely_n_channels(Glance(windows, FS_HZ)) is None


# ------------------------------------------------------------------------------------------- type and gain


@pytest.mark.parametrize(
    "change,looks_like",
    [
        (lambda samples: samples.byteswap(), "other byte order"),
        (lambda samples: (samples.astype("int32") + 32_768).astype("uint16").view("int16"), "offset binary"),
        (lambda samples: samples.view("uint16"), "signed ones"),
        (lambda samples: np.random.default_rng(1).integers(-32_768, 32_767, samples.shape).astype("int16"), "noise"),
    ],
)
def test_another_type_is_found(change: Callable[[Any], Any], looks_like: str) -> None:
    """Samples of another type or byte order are not sorted; who insists is told."""
    traces = change(signal(8))
    with pytest.raises(RecordingUnreadableError, match=looks_like):
        prepared(recording_of(traces), RecordingConfig())
    _, remarks = prepared(recording_of(traces), RecordingConfig(bad_channels=None))
    assert "samples-misread" in [one.code for one in remarks]


def test_eight_bits_shifted_up_are_no_other_byte_order() -> None:
    """Samples of an 8-bit converter in the high byte are what they are."""
    traces = (np.clip(signal(8, 5.0), -127, 127).astype("int16") << 8).astype("int16")
    assert prepared(recording_of(traces, gain_uV=0.01), RecordingConfig())[1] == []


@pytest.mark.parametrize(
    "gain_uV,told", [(None, ["no-gain"]), (1e-3, ["gain-unlikely"]), (1e3, ["gain-unlikely"]), (1.0, [])]
)
def test_an_unlikely_gain_is_told(gain_uV: float | None, told: list[str]) -> None:
    """Noise far from microvolts is told, and a missing gain as such."""
    _, remarks = prepared(recording_of(signal(8, 6.0), gain_uV=gain_uV), RecordingConfig())
    assert [one.code for one in remarks] == told


# ------------------------------------------------------------------------------------------------------ gaps


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from([1, 1, 1, 2, 9, -3]), max_size=40), cuts=st.sets(st.integers(1, 39)))
def test_gaps_are_found_in_blocks_of_any_length(steps: list[int], cuts: set[int]) -> None:
    """Each leap in the frame numbers is found once, with what is missing, however the numbers are read."""
    numbers = 100 + np.cumsum([0, *steps])
    expected = [Gap(at + 1, step - 1) for at, step in enumerate(steps) if step != 1]
    assert gaps_in(np.split(numbers, sorted(cut for cut in cuts if cut < len(numbers)))) == expected


def test_lost_frames_of_a_maxwell_file_are_told(tmp_path: Path) -> None:
    """Frame numbers that leap are a warning with place and length; gaps outside of what is sorted are none."""
    path = tmp_path / "gappy.raw.h5"
    simulate_maxwell(path, duration_s=6, n_channels=4, n_units=1)
    frames = np.arange(120_000) + 500
    frames[40_000:] += 60
    frames[100_000:] += 40
    with h5py.File(path, "a") as file:
        file["wells/well000/rec0000/groups/routed/frame_nos"] = frames
    (job,) = plan([path], KILOSORT4)
    (told,) = (one for one in build_recording(job)[2] if one.code == "gaps")
    assert told.message == "2 gaps: 100 samples (5 ms) are missing, the first at 2 s"
    (job,) = plan([path], KILOSORT4.override(start_time_s=2.5, end_time_s=4.5))
    assert "gaps" not in [one.code for one in build_recording(job)[2]]


def test_times_of_a_file_tell_of_gaps() -> None:
    """Times that leap by more than a sample are gaps; a clock that is a little fast is not."""
    recording = recording_of(signal(4, 2.0))
    times = np.arange(40_000) / FS_HZ * 1.0001 + 5
    times[30_000:] += 0.1
    recording.set_times(times)
    assert gaps_of(recording) == [Gap(30_000, 2000)]


def test_times_in_an_nwb_file_tell_of_gaps(tmp_path: Path) -> None:
    """Times that leap beside the samples of an NWB file are gaps, though it is read by its rate."""
    path = write_nwb(
        tmp_path / "gappy.nwb", np.random.default_rng(0).integers(-90, 90, (20_000, 4), dtype=np.int16), FS_HZ
    )
    (job,) = plan([path], KILOSORT4)
    assert "gaps" not in [one.code for one in build_recording(job)[2]]
    times = np.arange(20_000) / FS_HZ
    times[15_000:] += 0.1
    with h5py.File(path, "a") as file:
        series = file["acquisition/ElectricalSeries"]
        del series["starting_time"]
        series["timestamps"] = times
    (told,) = (one for one in build_recording(job)[2] if one.code == "gaps")
    assert told.message == "1 gap: 2000 samples (100 ms) are missing, the first at 0.75 s"
