"""Artifacts go, spikes stay, and every part of a recording is cleaned the same way."""

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import spikeinterface.core as si
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelab.simulation import add_stim_artifacts, simulate_recording
from spikelab.spike_sorting.stim_sorting import artifact_removal as documented
from spikelab.stim_sorting import (
    RemoveStimArtifactsRecording,
    StimulationWarning,
    preprocess_stim_artifacts,
    recenter_stim_times,
    remove_stim_artifacts,
)

FS_HZ = 20_000.0
GAIN_UV = 0.195
NOISE_UV = 8.0
TIMES_MS = np.array([60.0, 140.02, 231.5, 330.03, 420.0, 505.01])


@cache
def clean():
    return simulate_recording("mea", n_channels=16, duration_s=0.6, n_units=4, rate_Hz=(8, 12), seed=2)


@cache
def clean_uV():
    return clean().recording.get_traces().T * np.float32(GAIN_UV)


def stimulated(times_ms=TIMES_MS, **artifact):
    return add_stim_artifacts(clean().recording, times_ms, electrode=5, **artifact)


def traces_uV(truth):
    return truth.recording.get_traces().T * np.float32(GAIN_UV)


def tail_mask(truth, from_ms=0.5, to_ms=9.5):
    """Return the samples `from_ms` to `to_ms` after the last saturated one of each event, (channels, samples)."""
    saturated = truth.saturated(0, truth.recording.get_num_samples()).T
    mask = np.zeros(saturated.shape, dtype=bool)
    for time_ms in truth.times_ms:
        start = round((time_ms - 1) * FS_HZ / 1000)
        window = saturated[:, start : start + 800]
        last = np.where(window.any(axis=1), window.shape[1] - window[:, ::-1].argmax(axis=1), 26)
        for channel, end in enumerate(start + last):
            mask[channel, end + round(from_ms * 20) : end + round(to_ms * 20)] = True
    return mask


KINDS = {
    "anodic first": {},
    "cathodic first": {"first_phase": "cathodic", "tail_tau_ms": 1.0},
    "monophasic": {"pulse": "monophasic"},
    "stuck at the positive rail": {"recovery_ms": 3.0, "tail_tau_ms": 1.5},
    "stuck at the negative rail": {"recovery_ms": 12.0, "recovery_rail": "negative", "tail_tau_ms": 1.5},
    "ringing": {"tail": "oscillating", "tail_tau_ms": 2.5, "tail_fraction": 0.05},
    "nothing clips": {"amplitude_uV": 1_500.0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_artifacts_go_and_saturation_is_blanked(kind):
    """No saturated sample is left, tails end as noise, and what is far from events is untouched."""
    truth = stimulated(**KINDS[kind])
    cleaned, blanked = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ)
    saturated = truth.saturated(0, truth.recording.get_num_samples()).T
    assert blanked[saturated].all()
    assert not cleaned[blanked].any()
    tails = tail_mask(truth) & ~blanked
    assert np.sqrt(np.mean((cleaned - clean_uV())[tails] ** 2)) < 0.75 * NOISE_UV
    assert blanked.mean(axis=1).max() < 0.2
    untouched = np.ones(cleaned.shape[1], dtype=bool)
    for time_ms in TIMES_MS:
        untouched[round((time_ms - 2) * 20) : round((time_ms + 45) * 20)] = False
    np.testing.assert_array_equal(cleaned[:, untouched], traces_uV(truth)[:, untouched])


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_spike_on_the_tail_keeps_its_shape(sign):
    """Of spikes of 120 uV, 2 to 8.5 ms after saturation, 95 % keep their size within 10 % and their time."""
    rng = np.random.default_rng(1)
    traces = rng.normal(0, NOISE_UV, (120, 8_000)).astype(np.float32)
    spike = np.zeros(60)
    spike[:20] = -120 * np.exp(-0.5 * ((np.arange(20) - 10) / 2.5) ** 2)
    spike[14:] += 25 * np.exp(-0.5 * ((np.arange(46) - 10) / 6) ** 2)
    places = 4_031 + np.linspace(40, 170, 120).astype(np.int64)
    for channel, place in enumerate(places):
        traces[channel, place - 10 : place + 50] += spike
    stimulated = traces.copy()
    stimulated[:, 3_980:3_990] += sign * 9_000
    stimulated[:, 3_990:4_590] += sign * 12_000 * np.exp(-np.arange(600) / 30)
    stimulated = np.clip(stimulated, -3_000, 3_000)
    cleaned, blanked = remove_stim_artifacts(stimulated, [199.0], FS_HZ)
    rows, near = np.arange(120)[:, None], places[:, None] + np.arange(-8, 9)
    assert not blanked[rows, near].any()
    found, true = cleaned[rows, near], traces[rows, near]
    within = np.abs(found.min(axis=1) / true.min(axis=1) - 1) <= 0.1
    assert within.mean() >= 0.95
    assert np.mean(np.abs(found.argmin(axis=1) - true.argmin(axis=1)) <= 2) >= 0.95


def test_both_phases_are_blanked():
    """A pulse that passes through zero between its phases is blanked as a whole, before and after the edge."""
    truth = stimulated(phase_ms=0.5, tail="none")
    _, blanked = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ)
    edge = round(TIMES_MS[0] * 20)
    assert blanked[:, edge - 9 : edge + 9].all()


def test_without_clipping_nothing_is_cut_off():
    """Where no voltage clips, large ones count as voltages: a smooth wave is followed, and not blanked."""
    traces = clean_uV().copy()
    wave = 3_000 * np.exp(-0.5 * ((np.arange(600) - 200) / 40) ** 2)
    traces[:, 4_500:5_100] += wave.astype(np.float32)
    cleaned, blanked = remove_stim_artifacts(traces, [230.0], FS_HZ, artifact_window_ms=20)
    assert not blanked.any()
    assert np.sqrt(np.mean((cleaned - clean_uV())[:, 4_660:4_980] ** 2)) < NOISE_UV


def test_no_step_where_untouched_samples_begin():
    """A tail that outlasts the window is let go gradually: neighbours differ by less than one SD of the noise."""
    quiet = simulate_recording("mea", n_channels=16, duration_s=0.3, n_units=0, noise_uV=NOISE_UV).recording
    truth = add_stim_artifacts(quiet, [100.0], electrode=5, tail_tau_ms=12.0, tail_fraction=0.03)
    without_noise = traces_uV(truth) - quiet.get_traces().T * np.float32(GAIN_UV)
    with pytest.warns(StimulationWarning, match="artifacts outlast"):
        cleaned, blanked = remove_stim_artifacts(traces_uV(truth), [100.0], FS_HZ)
    taken = traces_uV(truth) - cleaned
    left = np.where(blanked, 0, without_noise - taken)
    after = ~blanked[:, 1:] & ~blanked[:, :-1]
    after[:, : (101 * 20)] = False
    assert np.abs(np.diff(left, axis=1))[after].max() < NOISE_UV
    np.testing.assert_array_equal(cleaned[:, (130 * 20) :], traces_uV(truth)[:, (130 * 20) :])


def test_no_step_where_a_slow_wave_is_taken_up():
    """On channels without an artifact, a slow wave is taken away gradually, and left so."""
    traces = np.random.default_rng(0).normal(0, NOISE_UV, (4, 12_000))
    traces += 250 * np.sin(2 * np.pi * 15 * np.arange(12_000) / FS_HZ)
    cleaned, blanked = remove_stim_artifacts(traces, [216.0], FS_HZ)
    assert not blanked.any()
    taken = traces - cleaned
    assert np.abs(taken).max() > 100
    assert np.abs(np.diff(taken, axis=1)).max() < NOISE_UV


def test_bursts_are_one_event():
    """Where the signal is not back before the next pulse, what lies between is blanked; where it is, it stays."""
    pulses = np.concatenate([TIMES_MS[:3] + k * 5.0 for k in range(3)])
    slow = stimulated(np.sort(pulses), tail_tau_ms=6.0, recovery_ms=1.0)
    with (
        pytest.warns(StimulationWarning, match="longer than the time between events"),
        pytest.warns(StimulationWarning, match="artifacts outlast"),
    ):
        _, blanked = remove_stim_artifacts(traces_uV(slow), pulses[np.argsort(pulses)], FS_HZ)
    assert blanked[5, (60 * 20) : (70 * 20)].all()
    fast = stimulated(np.sort(pulses), tail_tau_ms=0.3, amplitude_uV=4_000)
    with pytest.warns(StimulationWarning, match="longer than the time between events"):
        cleaned, blanked = remove_stim_artifacts(traces_uV(fast), np.sort(pulses), FS_HZ)
    between = slice(round(62.5 * 20), round(64.5 * 20))
    assert not blanked[:, between].any()
    assert np.abs(cleaned - clean_uV())[:, between].max() < 4 * NOISE_UV


def test_blank_zeroes_the_window():
    """The method "blank" leaves nothing in the window, and everything outside of it."""
    truth = stimulated()
    cleaned, blanked = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ, method="blank")
    assert blanked[:, (60 * 20) : (69 * 20)].all()
    assert not cleaned[blanked].any()
    np.testing.assert_array_equal(cleaned[~blanked], traces_uV(truth)[~blanked])


def test_tails_can_be_followed_beyond_the_window():
    """With artifact_window_only=False a slow tail is gone long after the window."""
    truth = stimulated(tail_tau_ms=12.0, tail_fraction=0.1)
    later = slice(80 * 20, 95 * 20)
    with pytest.warns(StimulationWarning, match=r"outlast the 10 ms .* 16 channels .* artifact_window_only=False"):
        within, _ = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ)
    beyond, _ = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ, artifact_window_only=False)
    left = [np.abs(cleaned - clean_uV())[5, later].max() for cleaned in (within, beyond)]
    assert left[1] < 3 * NOISE_UV < left[0]


def test_a_curve_that_runs_away_is_cut_off():
    """No curve goes farther from the baseline than poly_clamp_factor times the RMS of its tail."""
    decay = 3_000 * np.exp(-np.arange(400) / 40)
    traces = np.random.default_rng(0).normal(0, NOISE_UV, (4, 8_000))
    traces[:, 4_000:4_400] += decay
    largest = {}
    for factor in (0.5, 10.0):
        cleaned, blanked = remove_stim_artifacts(traces, [200.0], FS_HZ, poly_clamp_factor=factor)
        largest[factor] = np.abs(traces - cleaned)[~blanked].max()
    rms = np.sqrt(np.mean(traces[:, 4_000:4_200] ** 2, axis=1)).max()
    assert largest[0.5] <= 0.5 * rms < rms < largest[10.0]


def test_integers_stay_integers():
    """Integer samples are cleaned to the nearest integer."""
    truth = stimulated()
    raw = truth.recording.get_traces().T
    cleaned, blanked = remove_stim_artifacts(raw, TIMES_MS, FS_HZ)
    assert cleaned.dtype == np.int16
    as_float, same = remove_stim_artifacts(raw.astype(np.float32), TIMES_MS, FS_HZ)
    np.testing.assert_array_equal(blanked, same)
    assert np.abs(cleaned - as_float).max() <= 0.5 + 1e-3


def test_saturation_can_be_seen_in_other_traces():
    """With raw_traces, samples count as saturated where those clip, although the filtered traces do not."""
    truth = stimulated(recovery_ms=6.0, tail_tau_ms=0.5)
    raw = truth.recording.get_traces().T
    filtered = traces_uV(truth) * np.float32(0.5) + np.float32(3) * np.sin(
        np.arange(raw.shape[1]) / 50, dtype=np.float32
    )
    _, blanked = remove_stim_artifacts(filtered, TIMES_MS, FS_HZ, raw_traces=raw)
    assert blanked[truth.saturated(0, raw.shape[1]).T].all()


@pytest.mark.parametrize("dtype,zero", [("int16", 0), ("uint16", 32_768)])
@pytest.mark.parametrize("threshold", [None, 3_000.0 / GAIN_UV])
def test_rails_of_other_traces_are_in_their_own_unit(dtype, zero, threshold):
    """Ends of the type, and the threshold, are those of raw_traces: neither uV nor an offset make counts saturated."""
    truth = stimulated(recovery_ms=6.0, tail_tau_ms=0.5)
    counts = truth.recording.get_traces().T
    raw = (counts.astype(np.int32) + zero).astype(dtype)
    recording = si.NumpyRecording([raw.T], FS_HZ)
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(-zero * GAIN_UV)
    options = {"raw_traces": raw, "recording": recording, "saturation_threshold": threshold}
    _, blanked = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ, **options)
    assert blanked[truth.saturated(0, raw.shape[1]).T].all()
    _, expected = remove_stim_artifacts(
        traces_uV(truth), TIMES_MS, FS_HZ, saturation_threshold=threshold and threshold * GAIN_UV
    )
    assert np.mean(blanked != expected) < 1e-3


def test_a_recording_tells_where_its_type_ends():
    """Given the recording, the ends of its integer type count as rails of float traces in uV."""
    rail_uV = 32_767 * GAIN_UV
    truth = stimulated(rail_uV=rail_uV, recovery_ms=2.0)
    _, blanked = remove_stim_artifacts(traces_uV(truth), TIMES_MS, FS_HZ, recording=truth.recording)
    assert blanked[truth.saturated(0, truth.recording.get_num_samples()).T].all()


# ------------------------------------------------------------------------------------- one implementation


@cache
def two_kinds():
    """Traces with saturation, bursts and close events, and their cleaned version."""
    times_ms = np.array([3.0, 60.0, 64.0, 71.0, 140.0, 231.5, 240.0, 330.0, 595.0])
    truth = stimulated(times_ms, tail_tau_ms=3.0, recovery_ms=2.0)
    return truth, RemoveStimArtifactsRecording(truth.recording, times_ms)


@pytest.fixture(scope="module", autouse=True)
def _made_once():
    with (
        pytest.warns(StimulationWarning, match="longer than the time between events"),
        pytest.warns(StimulationWarning, match="artifacts outlast"),
    ):
        two_kinds()


@cache
def whole_of_two_kinds():
    return two_kinds()[1].get_traces()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12_000), min_size=1, max_size=8), st.booleans())
def test_the_same_samples_whatever_the_chunks(cuts, one_channel):
    """Any way to cut a recording into chunks gives bit for bit the samples of the whole, on any channels."""
    _, cleaned = two_kinds()
    borders = sorted({0, *cuts, 12_000})
    channels = cleaned.channel_ids[[3]] if one_channel else None
    parts = [
        cleaned.get_traces(start_frame=start, end_frame=end, channel_ids=channels) for start, end in pairwise(borders)
    ]
    whole = whole_of_two_kinds()
    np.testing.assert_array_equal(np.concatenate(parts), whole[:, [3]] if one_channel else whole)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["polynomial", "blank"]),
    dtype=st.sampled_from(["int16", "float32", "float64"]),
    times_ms=st.lists(st.floats(0, 599), min_size=1, max_size=8, unique=True).map(sorted),
    time_major=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::spikelab.stim_sorting.StimulationWarning")
def test_in_place_equals_a_copy(method, dtype, times_ms, time_major):
    """copy=False gives what copy=True gives, in the array that was passed, and copy=True leaves that alone."""
    raw = two_kinds()[0].recording.get_traces()
    traces = raw.astype(dtype).T if time_major else np.ascontiguousarray(raw.astype(dtype).T)
    before = traces.copy()
    copied, blanked = remove_stim_artifacts(traces, times_ms, FS_HZ, method=method)
    np.testing.assert_array_equal(traces, before)
    cleaned, same = remove_stim_artifacts(traces, times_ms, FS_HZ, method=method, copy=False)
    assert cleaned is traces
    np.testing.assert_array_equal(cleaned, copied)
    np.testing.assert_array_equal(blanked, same)


def test_arrays_and_recordings_are_cleaned_alike():
    """The lazy preprocessor and the function on arrays give the same samples and the same mask."""
    truth, cleaned = two_kinds()
    with pytest.warns(StimulationWarning, match="longer"):
        traces, blanked = remove_stim_artifacts(truth.recording.get_traces().T, truth.times_ms, FS_HZ)
    np.testing.assert_array_equal(cleaned.get_traces(), traces.T)
    np.testing.assert_array_equal(cleaned.blanked(0, 12_000), blanked.T)


def test_copies_and_processes_have_the_same_samples(tmp_path):
    """A recording from JSON is not measured again, and two processes write what one reads."""
    _, cleaned = two_kinds()
    cleaned.dump_to_json(tmp_path / "cleaned.json")
    copy = si.load(tmp_path / "cleaned.json")
    assert json.loads((tmp_path / "cleaned.json").read_text())["kwargs"]["plan"]["reaches"]
    np.testing.assert_array_equal(copy.get_traces(), cleaned.get_traces())
    saved = cleaned.save(folder=tmp_path / "saved", n_jobs=2, chunk_size=1_700, progress_bar=False, verbose=False)
    np.testing.assert_array_equal(saved.get_traces(), cleaned.get_traces())


def test_raw_counts_are_moved_to_zero():
    """Unsigned counts around 512 become signed ones around 0, so that blanked samples are at the baseline."""
    maxwell = simulate_recording(
        "mea", n_channels=16, duration_s=0.3, n_units=2, dtype="uint16", gain_uV=6.294, offset_uV=-512 * 6.294
    ).recording
    truth = add_stim_artifacts(maxwell, [100.0, 200.0], rail_uV=3_000)
    cleaned = RemoveStimArtifactsRecording(truth.recording, truth.times_ms)
    traces_uV = cleaned.get_traces(return_in_uV=True)
    assert cleaned.dtype == np.int16
    assert not traces_uV[cleaned.blanked(0, 6_000)].any()
    difference_uV = traces_uV - maxwell.get_traces(return_in_uV=True)
    assert np.abs(difference_uV[1_000:1_900]).max() < 6.3


def test_preprocessing_finds_the_times_and_tells_what_it_did():
    """The summary has logged and true times, offsets and blanked fractions; channels are named that stay saturated."""
    truth = stimulated(offset_ms=1.0, jitter_ms=0.3, recovery_ms=4.0)
    cleaned, summary = preprocess_stim_artifacts(truth.recording, truth.logged_times_ms, peak_mode="down_edge")
    np.testing.assert_allclose(summary.times_ms, TIMES_MS, atol=0.05)
    np.testing.assert_allclose(summary.offsets_ms, TIMES_MS - truth.logged_times_ms, atol=0.05)
    mask = cleaned.blanked(0, cleaned.get_num_samples())
    np.testing.assert_allclose(summary.blanked_frac_per_channel, mask.mean(axis=0))
    assert summary.blanked_frac == pytest.approx(mask.mean())
    assert summary.saturated_channels == []
    assert len(summary.blanked_ms) == TIMES_MS.size
    assert repr(summary).startswith("StimSummary(6 events, offset -0.9")
    assert (summary.blanked_ms[:, 0] < TIMES_MS).all()
    assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["times_ms"] == summary.times_ms.tolist()


def test_channels_that_stay_saturated_are_named():
    """Channels that an amplifier leaves at the rail for more than a fifth of the recording are told, and summed up."""
    truth = stimulated(recovery_ms=40.0, amplitude_uV=10_000.0, falloff_um=20.0)
    overloaded = clean().recording.channel_ids[truth.amplitude_uV >= 5_000]
    said = f"saturated for more than a fifth .*: {', '.join(map(str, overloaded))}$"
    with pytest.warns(StimulationWarning, match=said):
        _, summary = preprocess_stim_artifacts(truth.recording, TIMES_MS, recenter=False)
    assert 0 < overloaded.size < 16
    assert summary.saturated_channels == overloaded.tolist()
    np.testing.assert_allclose(summary.saturation_ms[truth.amplitude_uV >= 5_000], 40.4, atol=0.5)
    assert summary.saturation_ms[truth.amplitude_uV < 4_000].max() == 0


@pytest.mark.parametrize("method", ["blank", "polynomial"])
def test_what_is_blanked_is_not_saturated(method):
    """Channels that are blanked for a fifth of the time and more are named only if they are saturated for as long."""
    times_ms = np.arange(20.0, 590.0, 40.0)
    truth = stimulated(times_ms, amplitude_uV=12_000.0, tail_tau_ms=1.0)
    _, summary = preprocess_stim_artifacts(truth.recording, times_ms, method=method, recenter=False)
    assert (summary.blanked_frac_per_channel.min() > 0.2) == (method == "blank")
    assert summary.saturated_channels == []
    saturated = truth.saturated(0, truth.recording.get_num_samples()).sum(axis=0)
    np.testing.assert_allclose(summary.saturation_ms, saturated / times_ms.size / 20, atol=0.1)


def test_samples_at_the_end_of_an_integer_type_are_blanked():
    """What reaches the end of the type only just, without a plateau, counts as saturated."""
    wave = 32_740 * np.exp(-0.5 * ((np.arange(600) - 150) / 60) ** 2)
    noise = np.random.default_rng(0).normal(0, 40, (4, 8_000))
    noise[:, 4_000:4_600] += wave
    traces = np.clip(np.rint(noise), -32_768, 32_767).astype(np.int16)
    at_end = traces == 32_767
    assert at_end.any()
    _, blanked = remove_stim_artifacts(traces, [200.0], FS_HZ, artifact_window_ms=20)
    assert blanked[at_end].all()


# ------------------------------------------------------------------------------------------------ bad input


def test_no_events_change_nothing():
    """Without events traces and recordings stay as they are, with a warning."""
    with pytest.warns(StimulationWarning, match="no stimulation times"):
        cleaned, blanked = remove_stim_artifacts(clean_uV(), [], FS_HZ)
    np.testing.assert_array_equal(cleaned, clean_uV())
    assert not blanked.any()
    with pytest.warns(StimulationWarning, match="no stimulation times"):
        recording, summary = preprocess_stim_artifacts(clean().recording, [])
    assert recording is clean().recording
    assert summary.blanked_frac == 0


def test_times_that_are_all_outside_change_nothing():
    """Where no event lies within the recording it stays as it is, lazily as well, with a warning."""
    with pytest.warns(StimulationWarning, match="2 of 2 stimulation times are outside"):
        cleaned, summary = preprocess_stim_artifacts(clean().recording, [-5.0, 900.0], recenter=False)
    np.testing.assert_array_equal(cleaned.get_traces(), clean().recording.get_traces())
    assert (summary.blanked_frac, len(summary.blanked_ms), summary.saturated_channels) == (0, 0, [])


@pytest.mark.parametrize(
    "times_ms,said",
    [
        ([*TIMES_MS[::-1]], "not in order"),
        ([*TIMES_MS, TIMES_MS[-1]], "there twice"),
        ([-5.0, *TIMES_MS], "outside of the recording"),
        ([*TIMES_MS, 700.0], "outside of the recording"),
    ],
)
def test_odd_times_are_mended_and_told(times_ms, said):
    """Unsorted, repeated and outside times give the result of the proper ones, with a warning."""
    traces = traces_uV(stimulated())
    proper, _ = remove_stim_artifacts(traces, TIMES_MS, FS_HZ)
    with pytest.warns(StimulationWarning, match=said):
        cleaned, _ = remove_stim_artifacts(traces, times_ms, FS_HZ)
    np.testing.assert_array_equal(cleaned, proper)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_channel_saturated_throughout_is_named_and_left(dtype):
    """A channel that shows its rail all the time stays as it is, by name, and does not disturb the others."""
    traces = traces_uV(stimulated()).astype(dtype)
    rail = 5_000 if dtype == "float32" else np.iinfo(dtype).max
    traces[4] = rail
    with pytest.warns(StimulationWarning, match=r"saturated, flat or no numbers throughout, and stay as they are: 4$"):
        cleaned, blanked = remove_stim_artifacts(traces, TIMES_MS, FS_HZ)
    assert (cleaned[4] == rail).all()
    others = np.arange(16) != 4
    expected, _ = remove_stim_artifacts(traces[others], TIMES_MS, FS_HZ)
    assert np.abs(cleaned[others] - expected).max() < NOISE_UV
    assert not blanked[4].any()


@pytest.mark.parametrize("n_channels", [16, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_channel_without_numbers_is_named_and_left(value, n_channels):
    """A channel of NaN or infinities stays as it is, by name; the others are cleaned as they are without it."""
    good = np.arange(n_channels) != 2
    traces = traces_uV(stimulated(phase_ms=0.5))[:n_channels]
    traces[2] = value
    with pytest.warns(StimulationWarning, match=r"no numbers throughout, and stay as they are: 2$"):
        cleaned, blanked = remove_stim_artifacts(traces, TIMES_MS, FS_HZ)
    expected, expected_blanked = remove_stim_artifacts(traces[good], TIMES_MS, FS_HZ)
    np.testing.assert_array_equal(cleaned[2], traces[2])
    assert not blanked[2].any()
    np.testing.assert_array_equal(cleaned[good], expected)
    np.testing.assert_array_equal(blanked[good], expected_blanked)
    logged_ms = TIMES_MS - 1.0
    found_ms = recenter_stim_times(traces, logged_ms, FS_HZ, peak_mode="down_edge")
    np.testing.assert_allclose(found_ms, TIMES_MS, atol=0.05)


def test_single_samples_without_numbers_decide_nothing():
    """NaN on the pulse, on its tail and between events stay, or are blanked; the others are cleaned as always."""
    traces = traces_uV(stimulated(recovery_ms=2.0))
    expected, expected_blanked = remove_stim_artifacts(traces, TIMES_MS, FS_HZ)
    lost = np.zeros(traces.shape, dtype=bool)
    lost[3, [1_205, 1_330, 2_000]] = lost[5, 2_850:2_856] = True
    traces[lost] = np.where(np.arange(lost.sum()) % 2, np.nan, np.inf)
    cleaned, blanked = remove_stim_artifacts(traces, TIMES_MS, FS_HZ)
    np.testing.assert_array_equal(np.isfinite(cleaned), ~lost | blanked)
    assert np.mean(blanked != expected_blanked) < 1e-4
    both = ~lost & ~blanked & ~expected_blanked
    assert np.abs(cleaned - expected)[both].max() < NOISE_UV


@pytest.mark.parametrize("options", [{}, {"method": "blank"}, {"method": "blank", "artifact_window_only": False}])
def test_artifacts_that_outlast_the_window_are_told_by_channel(options):
    """Channels that ring or have not come back behind the window are named; others, and longer windows, are not."""
    traces = np.random.default_rng(0).normal(0, NOISE_UV, (4, 12_000))
    after_ms = np.arange(1_000) / 20
    for time_ms in TIMES_MS:
        start = round(time_ms * 20)
        traces[:, start : start + 8] += 3_000
        traces[1, start + 8 : start + 1_008] += 1_500 * np.exp(-after_ms / 6)
        traces[3, start + 8 : start + 1_008] += 1_500 * np.exp(-after_ms / 6) * np.cos(2 * np.pi * 0.3 * after_ms)
    with pytest.warns(StimulationWarning, match=r"outlast the 10 ms .* 2 channels \(1, 3\), up to [23].* SD"):
        remove_stim_artifacts(traces, TIMES_MS, FS_HZ, **options)
    remove_stim_artifacts(traces, TIMES_MS, FS_HZ, **options, artifact_window_ms=40)


def test_slow_waves_spikes_and_answers_do_not_outlast_the_window():
    """What is there without stimulation, and spikes that answer it behind the window, are no artifacts."""
    rng = np.random.default_rng(0)
    traces = rng.normal(0, NOISE_UV, (6, 12_000))
    traces[:3] += 250 * np.sin(2 * np.pi * np.array([[9.0], [15.0], [40.0]]) * np.arange(12_000) / FS_HZ)
    spike = -150 * np.exp(-0.5 * ((np.arange(20) - 10) / 3) ** 2)
    for time_ms in TIMES_MS:
        start = round(time_ms * 20)
        traces[:, start : start + 8] += 3_000
        for late in (210, 235):
            traces[3:, start + late : start + late + 20] += spike
    remove_stim_artifacts(traces, TIMES_MS, FS_HZ)


@pytest.mark.parametrize(
    "option,value,gain,said",
    [
        ("saturation_threshold", 2.0, 1.0, "within the noise"),
        ("saturation_threshold", 50_000.0, 1.0, "never reached: the traces go up to .* they clip at [45]"),
        ("saturation_threshold", 3_000.0, GAIN_UV, "3000 is far below 256.., where the traces clip"),
        ("saturation_threshold", 3_000.0, 1e6, "never reached"),
        ("baseline_threshold", 5.0, 1.0, "tells no signal at its baseline"),
        ("baseline_threshold", 50.0, 1e6, "tells no signal at its baseline"),
    ],
)
def test_thresholds_of_another_unit_are_told(option, value, gain, said):
    """A threshold within the noise, above all samples, or far below where they clip, is one of another unit."""
    traces = traces_uV(stimulated()) / gain
    with pytest.warns(StimulationWarning, match=said):
        remove_stim_artifacts(traces, TIMES_MS, FS_HZ, **{option: value})


def test_thresholds_of_the_right_unit_are_silent():
    """Thresholds in the unit of the traces are taken as they are, whatever the unit."""
    for gain in (1.0, GAIN_UV, 1e6):
        thresholds = {"saturation_threshold": 4_000.0 / gain, "baseline_threshold": 40.0 / gain}
        remove_stim_artifacts(traces_uV(stimulated()) / np.float64(gain), TIMES_MS, FS_HZ, **thresholds)


def test_traces_on_an_offset_are_told():
    """Blanked samples of raw counts around 512 would be a step: the message says what to do."""
    with pytest.warns(StimulationWarning, match="Subtract the median"):
        remove_stim_artifacts(traces_uV(stimulated()) + 512, TIMES_MS, FS_HZ)


@pytest.mark.parametrize(
    "wrong,said",
    [
        ({"stim_times_ms": [np.nan]}, "finite"),
        ({"fs_Hz": -20_000}, "fs_Hz"),
        ({"traces": np.zeros((600, 4))}, r"transpose it with \.T"),
        ({"method": "zeros"}, "polynomial, blank"),
        ({"saturation_threshold": -100}, "saturation_threshold"),
        ({"baseline_threshold": 0}, "baseline_threshold"),
        ({"artifact_window_ms": 0}, "artifact_window_ms"),
        ({"poly_order": 0}, "poly_order"),
        ({"raw_traces": np.zeros((4, 10))}, "shape of traces"),
    ],
)
def test_bad_input_is_named(wrong, said):
    """What cannot be is an error that says what was expected and what was found."""
    call = {"traces": np.zeros((4, 600)), "stim_times_ms": [10.0], "fs_Hz": FS_HZ, **wrong}
    with pytest.raises(ValueError, match=said):
        remove_stim_artifacts(**call)


def test_the_documented_paths_are_the_same_functions():
    """The guide's import paths give the same objects."""
    assert documented.remove_stim_artifacts is remove_stim_artifacts
    assert documented.preprocess_stim_artifacts is preprocess_stim_artifacts
