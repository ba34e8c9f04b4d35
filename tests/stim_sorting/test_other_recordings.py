"""Recordings unlike the usual ones: one channel, several segments, other rates, units, names and sizes of artifacts."""

import json

import numpy as np
import pytest
import spikeinterface.core as si
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.simulation import add_stim_artifacts, simulate_recording
from spikelab.stim_sorting import (
    RemoveStimArtifactsRecording,
    preprocess_stim_artifacts,
    recenter_stim_times,
    remove_stim_artifacts,
)

FS_HZ, NOISE_UV, GAIN_UV = 20_000.0, 8.0, 0.195
TIMES_MS = np.array([60.0, 140.02, 231.5])


@pytest.fixture(scope="module")
def truth():
    """Artifacts with saturation on nine channels, and no spikes."""
    clean = simulate_recording("mea", n_channels=9, duration_s=0.3, n_units=0, noise_uV=NOISE_UV, seed=6).recording
    return clean, add_stim_artifacts(clean, TIMES_MS, electrode=4, recovery_ms=1.0, offset_ms=-1.0)


def left_uV(truth, cleaned, blanked, channels=slice(None)):
    """Return what is left of artifacts where nothing is blanked (uV), of traces in uV of some channels."""
    clean_uV = truth[0].get_traces().T[channels] * GAIN_UV
    return np.where(blanked, 0.0, cleaned - clean_uV)


@pytest.mark.parametrize("channels", [[4], [8, 2]])
def test_few_channels_are_enough(truth, channels):
    """One channel, or a few in any order, are recentred and cleaned as well as all of them."""
    traces_uV = truth[1].recording.get_traces().T[channels] * GAIN_UV
    found_ms = recenter_stim_times(traces_uV, truth[1].logged_times_ms, FS_HZ, peak_mode="down_edge")
    np.testing.assert_allclose(found_ms, TIMES_MS, atol=0.05)
    cleaned, blanked = remove_stim_artifacts(traces_uV, found_ms, FS_HZ, artifact_window_ms=20)
    assert blanked[truth[1].saturated(0, traces_uV.shape[1]).T[channels]].all()
    assert np.abs(left_uV(truth, cleaned, blanked, channels)).max() < 4 * NOISE_UV


@pytest.mark.parametrize("dtype,unit_uV", [("float32", 1e6), ("float64", 1e6), ("float64", 1e-3)])
def test_the_unit_does_not_matter(truth, unit_uV, dtype):
    """Traces in V, mV or nV are cleaned as those in uV are."""
    traces_uV = (truth[1].recording.get_traces().T * GAIN_UV).astype(dtype)
    expected, expected_blanked = remove_stim_artifacts(traces_uV, TIMES_MS, FS_HZ)
    cleaned, blanked = remove_stim_artifacts(traces_uV / traces_uV.dtype.type(unit_uV), TIMES_MS, FS_HZ)
    assert cleaned.dtype == dtype
    assert np.mean(blanked != expected_blanked) < 1e-4
    both = ~blanked & ~expected_blanked
    np.testing.assert_allclose(cleaned[both] * unit_uV, expected[both], atol=0.1 * NOISE_UV)


@pytest.mark.parametrize("fs_Hz", [12_500.0, 30_000.0])
def test_the_rate_does_not_matter(fs_Hz):
    """At other sampling rates no saturated sample is left, and next to nothing of the tails."""
    options = {"n_channels": 9, "duration_s": 0.3, "n_units": 0, "noise_uV": NOISE_UV, "fs_Hz": fs_Hz}
    clean = simulate_recording("mea", seed=6, **options).recording
    added = add_stim_artifacts(clean, TIMES_MS, electrode=4, recovery_ms=1.0, offset_ms=-1.0)
    cleaned, summary = preprocess_stim_artifacts(
        added.recording, added.logged_times_ms, peak_mode="down_edge", artifact_window_ms=20
    )
    np.testing.assert_allclose(summary.times_ms, TIMES_MS, atol=0.1)
    n_samples = clean.get_num_samples()
    blanked = cleaned.blanked(0, n_samples)
    assert blanked[added.saturated(0, n_samples)].all()
    left = np.where(blanked, 0.0, (cleaned.get_traces() - clean.get_traces().astype(np.float64)) * GAIN_UV)
    assert np.abs(left).max() < 4 * NOISE_UV
    assert np.sqrt(np.mean(left[left != 0] ** 2)) < 0.75 * NOISE_UV


@pytest.mark.parametrize("names", [[70, 3, 512, 9, 1, 40, 33, 8, 2], list("ihgfedcba")])
def test_channels_go_by_their_names(truth, names):
    """Names of any kind, and parts of a recording in any order, give the samples of the channels that they name."""
    traces = truth[1].recording.get_traces().copy()
    traces[:, 5] = np.iinfo(traces.dtype).max
    recording = si.NumpyRecording([traces], FS_HZ, channel_ids=names)
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(0.0)
    with pytest.warns(UserWarning, match=f"stay as they are: {names[5]}$"):
        cleaned, summary = preprocess_stim_artifacts(recording, TIMES_MS, recenter=False)
    assert summary.saturated_channels == [names[5]]
    whole = cleaned.get_traces()
    np.testing.assert_array_equal(cleaned.get_traces(channel_ids=[names[7], names[0]]), whole[:, [7, 0]])
    part = cleaned.select_channels([names[8], names[2], names[4]])
    np.testing.assert_array_equal(part.get_traces(start_frame=1_150, end_frame=1_400), whole[1_150:1_400, [8, 2, 4]])
    chosen = recording.select_channels([names[4], names[1]])
    alone = RemoveStimArtifactsRecording(chosen, TIMES_MS)
    assert np.abs(alone.get_traces() - whole[:, [4, 1]].astype(float)).max() * GAIN_UV < NOISE_UV


def test_several_segments_are_refused(truth):
    """A recording of several segments is an error that says what to do."""
    traces = truth[1].recording.get_traces()
    recording = si.NumpyRecording([traces, traces], FS_HZ)
    for call in (preprocess_stim_artifacts, RemoveStimArtifactsRecording):
        with pytest.raises(ValueError, match="2 segments; expected one: concatenate them"):
            call(recording, TIMES_MS)


@pytest.mark.parametrize("shape,height_uV", [("step", 60.0), ("step", 120.0), ("biphasic", 200.0), ("biphasic", 400.0)])
def test_small_artifacts_leave_no_step(shape, height_uV):
    """Artifacts about as large as spikes go from their first sample on: nothing of a pulse or a step is left as one."""
    clean = np.random.default_rng(0).normal(0, NOISE_UV, (8, 8_000))
    traces, decay = clean.copy(), height_uV * np.exp(-np.arange(400) / 40)
    if shape == "biphasic":
        traces[:, 3_996:4_004] += height_uV * np.repeat([1, -1], 4)
        traces[:, 4_004:4_404] -= 0.3 * decay
    else:
        traces[:, 4_000:4_400] += decay
    cleaned, blanked = remove_stim_artifacts(traces, [200.0], FS_HZ)
    left = np.where(blanked, 0.0, cleaned - clean)
    assert np.abs(left).max() < 3 * NOISE_UV
    assert blanked.sum(axis=1).max() <= 16
    remove_stim_artifacts(traces, [0.0, 50.0, 399.9], FS_HZ, artifact_window_ms=0.3)


def test_small_artifacts_begin_where_they_do_beside_a_stuck_channel():
    """A channel at the end of its type tells nothing of where small artifacts begin on the others."""
    traces = np.random.default_rng(0).normal(0, NOISE_UV, (8, 8_000))
    # The first sample that is looked at, far off as noise sometimes is.
    traces[:, 3_960] = 3.75 * NOISE_UV
    traces[:, 4_000:4_400] += 120 * np.exp(-np.arange(400) / 40)
    counts = np.rint(traces / GAIN_UV).astype(np.int16)
    expected, expected_blanked = remove_stim_artifacts(counts, [200.0], FS_HZ)
    stuck = np.full((1, 8_000), np.iinfo(np.int16).max, dtype=np.int16)
    with pytest.warns(UserWarning, match="stay as they are: 8$"):
        cleaned, blanked = remove_stim_artifacts(np.concatenate([counts, stuck]), [200.0], FS_HZ)
    np.testing.assert_array_equal(cleaned[:8], expected)
    np.testing.assert_array_equal(blanked[:8], expected_blanked)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 3), st.sampled_from([5, 40, 900])),
    dtype=st.sampled_from(["int16", "uint16", "float32", "float64"]),
    lost=st.sampled_from([0.0, 0.02, 1.0]),
    places=st.lists(st.floats(-0.1, 1.1), min_size=1, max_size=4),
    window_ms=st.sampled_from([0.05, 2.0, 40.0]),
    method=st.sampled_from(["polynomial", "blank"]),
)
@pytest.mark.filterwarnings("ignore::spikelab.stim_sorting.StimulationWarning")
def test_whatever_comes_is_cleaned(seed, shape, dtype, lost, places, window_ms, method):
    """Of any type, length, times and gaps: numbers stay numbers, what is blanked is 0, the summary is strict JSON."""
    rng = np.random.default_rng(seed)
    volts = rng.normal(0, rng.choice([0, 8]), shape)
    volts[:, shape[1] // 3 :] += rng.choice([100, 40_000]) * np.exp(-np.arange(shape[1] - shape[1] // 3) / 40)
    traces = np.clip(volts + 500, 0, 30_000).astype(dtype)
    if np.issubdtype(traces.dtype, np.floating):
        traces[rng.random(shape) < lost] = rng.choice([np.nan, np.inf])
    times_ms = np.array(places) * shape[1] / 20
    options = {"method": method, "artifact_window_ms": window_ms}
    cleaned, blanked = remove_stim_artifacts(traces, times_ms, FS_HZ, **options)
    assert np.isfinite(cleaned[np.isfinite(traces)]).all()
    assert not cleaned[blanked].any()
    _, summary = preprocess_stim_artifacts(si.NumpyRecording([traces.T], FS_HZ), times_ms, **options)
    json.dumps(summary.to_dict(), allow_nan=False)
