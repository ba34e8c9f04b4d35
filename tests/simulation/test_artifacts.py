"""Artifacts are added where and as asked, and the clean samples stay known."""

import numpy as np
import pytest
import spikeinterface.core as si

from spikelab.simulation import add_stim_artifacts, simulate_recording
from spikelab.simulation._spec import quantise

TIMES_MS = [100.0, 250.0, 400.0]
FS_HZ = 20_000.0


@pytest.fixture(scope="module")
def clean():
    return simulate_recording("mea", n_channels=16, duration_s=0.6, n_units=4).recording


def window_uV(truth, from_ms, to_ms):
    """Return traces around the first event, shape (samples, channels), uV, and their times (ms)."""
    start, end = (round((TIMES_MS[0] + at_ms) * FS_HZ / 1000) for at_ms in (from_ms, to_ms))
    return truth.recording.get_traces(start_frame=start, end_frame=end, return_in_uV=True)


def test_the_clean_truth_is_what_was_given(clean):
    """Before an artifact begins the samples are the clean ones; the recording keeps type, gains and probe."""
    truth = add_stim_artifacts(clean, TIMES_MS)
    assert truth.clean is clean
    assert truth.recording.dtype == clean.dtype
    before = [recording.get_traces(end_frame=1_900) for recording in (truth.recording, clean)]
    np.testing.assert_array_equal(*before)
    np.testing.assert_array_equal(truth.recording.get_channel_gains(), clean.get_channel_gains())
    np.testing.assert_array_equal(truth.recording.get_channel_locations(), clean.get_channel_locations())


@pytest.mark.parametrize("pulse", ["biphasic", "monophasic"])
@pytest.mark.parametrize("first_phase,sign", [("anodic", 1), ("cathodic", -1)])
def test_polarity(clean, pulse, first_phase, sign):
    """An anodic pulse begins positive; a biphasic one ends with the other sign, at the time that is noted."""
    truth = add_stim_artifacts(clean, TIMES_MS, pulse=pulse, first_phase=first_phase, tail="none")
    onset_ms, end_ms = (-0.15, 0.15) if pulse == "biphasic" else (0.05, 0.15)
    pulse_uV = window_uV(truth, onset_ms, end_ms + 0.01)[:, 0] * sign
    assert pulse_uV[0] > 4_000
    assert pulse_uV[-1] < -4_000 if pulse == "biphasic" else pulse_uV[-1] > 4_000
    assert abs(window_uV(truth, 1.0, 2.0)[:, 0]).max() < 300


def test_the_amplitude_falls_with_distance(clean):
    """The pulse is largest on the electrode, and smaller the farther a channel is."""
    truth = add_stim_artifacts(clean, TIMES_MS, amplitude_uV=1_000, electrode=5, tail="none", variation=0)
    distance_um = np.linalg.norm(clean.get_channel_locations() - clean.get_channel_locations()[5], axis=1)
    assert truth.amplitude_uV[5] == 1_000
    assert (np.diff(truth.amplitude_uV[np.argsort(distance_um, kind="stable")]) <= 0).all()
    difference_uV = window_uV(truth, -0.15, 0) - clean.get_traces(start_frame=1_997, end_frame=2_000, return_in_uV=True)
    np.testing.assert_allclose(difference_uV[1], truth.amplitude_uV, atol=0.2)


@pytest.mark.parametrize("rail,sign", [("positive", 1), ("negative", -1)])
def test_recovery_from_either_rail(clean, rail, sign):
    """An overloaded channel stays at the rail as long as asked, and comes back exponentially."""
    truth = add_stim_artifacts(
        clean, TIMES_MS, amplitude_uV=20_000, recovery_ms=3.0, recovery_rail=rail, tail_tau_ms=1.0, variation=0
    )
    stuck_uV = sign * window_uV(truth, 0.5, 3.0)[:, 0]
    np.testing.assert_allclose(stuck_uV, 5_000, atol=0.2)
    later_uV = sign * window_uV(truth, 3.2, 5.3)[:, 0]
    assert later_uV[20] == pytest.approx(5_000 / np.e, abs=300)
    assert truth.saturated(2_010, 2_060)[:, 0].all()


def test_what_is_clipped_is_at_a_rail(clean):
    """`saturated` names the samples at a rail, and only those."""
    truth = add_stim_artifacts(clean, TIMES_MS)
    at_rail = abs(window_uV(truth, -1.0, 20.0)) > 4_999.8
    np.testing.assert_array_equal(truth.saturated(1_980, 2_400), at_rail)
    assert at_rail.any()


def test_bursts_do_not_return_to_baseline(clean):
    """With several pulses an event, each pulse rides on the tails of those before it."""
    burst = {"amplitude_uV": 3_000, "n_pulses": 3, "pulse_interval_ms": 4, "tail_tau_ms": 8, "variation": 0}
    truth = add_stim_artifacts(clean, TIMES_MS, **burst)
    between_uV = window_uV(truth, 3.0, 3.5)[:, 0].mean(), window_uV(truth, 7.0, 7.5)[:, 0].mean()
    assert between_uV[1] < between_uV[0] < -400


def test_an_oscillating_tail_rings(clean):
    """It crosses zero twice in a period."""
    truth = add_stim_artifacts(
        clean, TIMES_MS, amplitude_uV=4_900, tail="oscillating", tail_fraction=1, tail_tau_ms=50, tail_frequency_Hz=500
    )
    ringing_uV = window_uV(truth, 1.0, 9.0)[:, 0]
    assert np.count_nonzero(np.diff(np.sign(ringing_uV))) == pytest.approx(8, abs=1)


def test_logged_times_drift_and_jitter(clean):
    """A clock that is 1,000 ppm fast is 1 ms off after a second; jitter has the spread that was asked for."""
    times_ms = np.linspace(0, 500, 2_000)
    drifted = add_stim_artifacts(clean, times_ms, clock_drift_ppm=1_000, offset_ms=2)
    np.testing.assert_allclose(drifted.logged_times_ms, times_ms * 1.001 + 2)
    jittered = add_stim_artifacts(clean, times_ms, jitter_ms=0.5)
    assert np.std(jittered.logged_times_ms - times_ms) == pytest.approx(0.5, rel=0.1)


def test_chunks_and_copies_have_the_same_samples(clean, tmp_path):
    """Samples depend neither on how they are read nor on the process: the recording is rebuilt from JSON."""
    truth = add_stim_artifacts(clean, TIMES_MS, recovery_ms=2.0, n_pulses=2)
    whole = truth.recording.get_traces()
    np.testing.assert_array_equal(truth.recording.get_traces(start_frame=2_007, end_frame=8_011), whole[2_007:8_011])
    truth.recording.dump_to_json(tmp_path / "stimulated.json")
    np.testing.assert_array_equal(si.load(tmp_path / "stimulated.json").get_traces(), whole)


def test_offsets_and_unsigned_samples_are_kept(clean):
    """On raw counts around 512 the artifact has its voltage, and clips at the rail."""
    maxwell = simulate_recording(
        "mea", n_channels=16, duration_s=0.2, n_units=0, dtype="uint16", gain_uV=6.294, offset_uV=-512 * 6.294
    ).recording
    truth = add_stim_artifacts(maxwell, [100.0], rail_uV=3_000)
    assert truth.recording.get_traces().max() == quantise(np.array(3_000.0), 6.294, -512 * 6.294, "uint16")


@pytest.mark.parametrize(
    "wrong", [{"pulse": "triphasic"}, {"phase_ms": 0}, {"n_pulses": 0}, {"rail_uV": -1}, {"jitter_ms": np.nan}]
)
def test_wrong_values_are_refused(clean, wrong):
    """A value out of its range is named."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        add_stim_artifacts(clean, TIMES_MS, **wrong)
