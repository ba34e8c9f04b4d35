"""Logged times of stimulation move to where the artifacts are."""

from functools import cache

import numpy as np
import pytest

from spikelab.simulation import add_stim_artifacts, simulate_recording
from spikelab.spike_sorting.stim_sorting import recentering as documented
from spikelab.stim_sorting import StimulationWarning, recenter_stim_times

FS_HZ = 20_000.0
TIMES_MS = np.array([100.01, 230.02, 371.04, 455.5, 610.23])


@cache
def clean():
    return simulate_recording("mea", n_channels=16, duration_s=0.8, n_units=4).recording


def stimulated(**artifact):
    return add_stim_artifacts(clean(), TIMES_MS, **artifact)


def traces_of(truth, dtype=None):
    traces = truth.recording.get_traces().T
    return traces if dtype is None else traces.astype(dtype)


MODES = {
    "abs_max": ({"pulse": "monophasic", "first_phase": "cathodic"}, 0.1),
    "pos_peak": ({"pulse": "monophasic"}, 0.1),
    "neg_peak": ({"pulse": "monophasic", "first_phase": "cathodic"}, 0.1),
    "down_edge": ({"first_phase": "anodic"}, 0.03),
    "up_edge": ({"first_phase": "cathodic"}, 0.03),
}


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_the_artifact(mode, dtype):
    """Times end within a sample or two of the truth, edges within half a sample, on integers as on floats."""
    artifact, tolerance_ms = MODES[mode]
    truth = stimulated(**artifact, jitter_ms=1.0, offset_ms=1.0)
    found_ms = recenter_stim_times(traces_of(truth, dtype), truth.logged_times_ms, FS_HZ, peak_mode=mode)
    np.testing.assert_allclose(found_ms, TIMES_MS, atol=tolerance_ms)


def test_crossings_lie_between_samples():
    """A crossing is interpolated: a quarter of a sample can be told."""
    traces = np.zeros((2, 2_000))
    traces[:, 995:1_000], traces[:, 1_000:1_005] = 300.0, -900.0
    (found_ms,) = recenter_stim_times(traces, [50.0], FS_HZ, peak_mode="down_edge")
    assert found_ms == pytest.approx((999 + 0.25) / 20)


def test_the_order_of_the_events_is_kept():
    """Unsorted times come back in their own order."""
    truth = stimulated()
    order = [3, 0, 4, 1, 2]
    found_ms = recenter_stim_times(traces_of(truth), TIMES_MS[order] - 1, FS_HZ, peak_mode="down_edge")
    np.testing.assert_allclose(found_ms, TIMES_MS[order], atol=0.03)


@pytest.mark.parametrize("select,pulse", [("first", 0), ("last", 2)])
@pytest.mark.parametrize("mode", ["down_edge", "abs_max"])
def test_one_pulse_of_a_train(mode, select, pulse):
    """With multi_peak, events align to the first or the last pulse of a train, not to the strongest."""
    truth = stimulated(n_pulses=3, pulse_interval_ms=4.0, amplitude_uV=3_000, tail_tau_ms=6.0)
    options = {
        "peak_mode": mode,
        "multi_peak": True,
        "multi_peak_select": select,
        "max_offset_ms": 20,
        "warn_offset_ms": 15,
    }
    found_ms = recenter_stim_times(traces_of(truth), TIMES_MS - 2, FS_HZ, **options)
    np.testing.assert_allclose(found_ms, TIMES_MS + 4 * pulse, atol=0.25 if mode == "abs_max" else 0.05)


def test_small_peaks_and_close_ones_are_no_pulses():
    """multi_peak_threshold sets how small, multi_peak_min_separation_ms how close a pulse may be."""
    traces = np.zeros((1, 4_000))
    traces[0, [1_000, 1_100, 1_120, 1_300]] = 500, 700, 1_000, 700
    first = {"multi_peak": True, "max_offset_ms": 30}
    options = [{}, {"multi_peak_threshold": 0.4}, {"multi_peak_min_separation_ms": 0.5}, {"multi_peak_select": "last"}]
    found = [recenter_stim_times(traces, [49.0], FS_HZ, **first, **more, warn_offset_ms=99)[0] for more in options]
    assert found == [56.0, 50.0, 55.0, 65.0]


def test_windows_are_clipped_at_the_edges():
    """An artifact in the first or last ms of the recording is found."""
    traces = np.zeros((2, 1_000))
    traces[:, [10, 990]] = 800.0
    assert recenter_stim_times(traces, [2.0, 48.0], FS_HZ).tolist() == [0.5, 49.5]


@pytest.mark.parametrize("where_ms", [-500.0, 5_000.0, 20.0])
def test_without_an_artifact_the_time_stays(where_ms):
    """An event outside of the recording, or where nothing is, keeps its time with a warning."""
    with pytest.warns(StimulationWarning, match="1 of 6 events keep"):
        found_ms = recenter_stim_times(
            traces_of(stimulated()), [*TIMES_MS, where_ms], FS_HZ, peak_mode="down_edge", max_offset_ms=20
        )
    assert found_ms[-1] == where_ms
    np.testing.assert_allclose(found_ms[:-1], TIMES_MS, atol=0.03)


def test_a_large_shift_is_told():
    """A median shift above warn_offset_ms is a warning, below it is not."""
    truth = stimulated(offset_ms=-4.0)
    with pytest.warns(StimulationWarning, match=r"\+4\.0. ms from the logged times"):
        recenter_stim_times(traces_of(truth), truth.logged_times_ms, FS_HZ, peak_mode="down_edge")
    recenter_stim_times(traces_of(truth), truth.logged_times_ms, FS_HZ, peak_mode="down_edge", warn_offset_ms=5)


def test_two_events_never_share_an_artifact_in_silence():
    """Close events go to their own artifacts, with a warning; events that have only one between them are told."""
    traces = np.zeros((1, 4_000))
    traces[0, [1_000, 1_200, 1_400]] = 500, 1_000, 700
    with pytest.warns(StimulationWarning, match="looked for again"):
        assert recenter_stim_times(traces, [50.0, 60.0, 70.0], FS_HZ).tolist() == [50.0, 60.0, 70.0]
    traces[0, [1_000, 1_400]] = 0
    with pytest.warns(StimulationWarning) as told:
        recenter_stim_times(traces, [59.8, 60.0], FS_HZ)
    assert any("share an artifact" in str(warning.message) for warning in told)


@pytest.mark.parametrize("again_ms", [0.0, 0.03])
def test_an_event_that_is_logged_twice_is_looked_for_once(again_ms):
    """Repeated times have the time of their one artifact, of which no neighbour is told, and those of others stay."""
    truth = stimulated(offset_ms=-2.0)
    logged_ms = truth.logged_times_ms
    expected = recenter_stim_times(traces_of(truth), logged_ms, FS_HZ, peak_mode="down_edge")
    times_ms = [logged_ms[3] + again_ms, *logged_ms, logged_ms[1]]
    with pytest.warns(StimulationWarning) as told:
        found = recenter_stim_times(traces_of(truth), times_ms, FS_HZ, peak_mode="down_edge")
    np.testing.assert_array_equal(found, [expected[3], *expected, expected[1]])
    assert [str(warning.message) for warning in told] == ["2 stimulation times are there twice; each counts once"]


def test_no_events_no_times():
    """No times in, no times out."""
    assert recenter_stim_times(np.zeros((2, 100)), [], FS_HZ).size == 0


@pytest.mark.parametrize(
    "wrong,said",
    [
        ({"stim_times_ms": [1.0, np.nan]}, "index 1"),
        ({"stim_times_ms": [[1.0, 2.0]]}, "flat list"),
        ({"fs_Hz": 0}, "fs_Hz"),
        ({"traces": np.zeros((2_000, 4))}, r"transpose it with \.T"),
        ({"traces": np.zeros(2_000)}, "channels, samples"),
        ({"peak_mode": "peak"}, "abs_max"),
        ({"multi_peak_select": "middle"}, "first, last"),
        ({"n_reference_channels": 0}, "n_reference_channels"),
        ({"multi_peak_threshold": 60}, "at most 1"),
        ({"max_offset_ms": -1}, "max_offset_ms"),
    ],
)
def test_bad_input_is_named(wrong, said):
    """What cannot be is an error that says what was expected and what was found."""
    call = {"traces": np.zeros((4, 2_000)), "stim_times_ms": [1.0], "fs_Hz": FS_HZ, **wrong}
    with pytest.raises(ValueError, match=said):
        recenter_stim_times(**call)


def test_the_documented_path_is_the_same_function():
    """The guide's import path gives the same object."""
    assert documented.recenter_stim_times is recenter_stim_times
