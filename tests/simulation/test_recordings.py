"""Simulated recordings hold the spikes, voltages and samples that were asked for."""

import subprocess
import sys

import numpy as np
import pytest
import spikeinterface.core as si
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.simulation import LAYOUTS, simulate_recording
from spikelab.simulation._spec import quantise

MAXWELL = {"gain_uV": 6.294, "offset_uV": -512 * 6.294, "dtype": "uint16"}


def one_unit(**overrides):
    settings = {"layout": "mea", "n_channels": 16, "duration_s": 4.0, "n_units": 1, "rate_Hz": (20, 20)}
    return simulate_recording(**{**settings, **overrides})


def average_spike_uV(truth, unit, n_before=20, n_after=40):
    """Average the recorded voltages around the true spikes of a unit."""
    traces_uV = truth.recording.get_traces(return_in_uV=True)
    frames = truth.sorting.get_unit_spike_train(unit)
    inside = frames[(frames >= n_before) & (frames < len(traces_uV) - n_after)]
    return np.mean([traces_uV[frame - n_before : frame + n_after] for frame in inside], axis=0)


@pytest.mark.parametrize(
    "scale",
    [{}, {"gain_uV": 2.34, "offset_uV": 17.0}, MAXWELL],
    ids=["int16", "int16 with offset", "maxwell uint16"],
)
def test_asked_peak_is_measured_in_the_traces(scale):
    """A unit of 110 uV is a trough of 110 uV in the recording, whatever its gain and offset."""
    truth = one_unit(peak_uV=(110, 110), **scale)
    average_uV = average_spike_uV(truth, truth.sorting.unit_ids[0])
    assert average_uV.min() == pytest.approx(-110, rel=0.1)
    assert average_uV.min(axis=1).argmin() == 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_unit_reaches_its_peak_within_the_bounds(layout):
    """All units of all layouts have a true trough within the bounds, on their largest channel."""
    truth = simulate_recording(layout, duration_s=1.0, peak_uV=(70, 90))
    assert ((truth.peak_uV >= 70) & (truth.peak_uV <= 90)).all()
    np.testing.assert_allclose(-truth.templates_uV.min(axis=(1, 2)), truth.peak_uV, rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shapes_agree(layout):
    """Recording, sorting, locations and templates speak of the same channels and units."""
    truth = simulate_recording(layout, duration_s=1.0)
    n_units, _, n_channels = truth.templates_uV.shape
    assert truth.recording.get_num_channels() == n_channels == LAYOUTS[layout].default_n_channels
    assert truth.sorting.get_num_units() == n_units == max(4, n_channels // 3)
    assert truth.unit_locations_um.shape == (n_units, 3)
    assert truth.recording.get_num_samples() == 20_000
    assert truth.recording.get_sampling_frequency() == truth.sorting.get_sampling_frequency() == 20_000


def test_mean_spike_is_the_template_on_every_channel():
    """Without noise, and one spike at a time, each recorded spike is the unit's template to half a step."""
    truth = one_unit(noise_uV=0.0, gain_uV=0.5, rate_Hz=(2, 2), duration_s=2.0)
    frame = truth.sorting.get_unit_spike_train("0")[0]
    seen_uV = truth.recording.get_traces(start_frame=frame - 20, end_frame=frame + 60, return_in_uV=True)
    np.testing.assert_allclose(seen_uV, truth.templates_uV[0], atol=0.2501)


def test_samples_are_the_rounded_voltages():
    """Samples are round((uV - offset) / gain) of the voltages that they stand for."""
    truth = one_unit(duration_s=0.5, gain_uV=2.0, offset_uV=3.0)
    voltages_uV = truth.recording.parts.recording_uV.get_traces().astype("float64")
    np.testing.assert_array_equal(truth.recording.get_traces(), np.rint((voltages_uV - 3.0) / 2.0))


def test_noise_has_the_asked_level():
    """A recording without units has white noise of the asked standard deviation."""
    truth = one_unit(n_units=0, noise_uV=8.0, duration_s=1.0, drift=True)
    assert truth.sorting.get_num_units() == 0
    np.testing.assert_allclose(truth.recording.get_traces(return_in_uV=True).std(axis=0), 8.0, rtol=0.05)


def test_rates_are_within_the_bounds():
    """Units fire at the asked rate, with 4 ms between spikes."""
    truth = one_unit(n_units=5, rate_Hz=(30, 30), duration_s=5.0)
    trains = [truth.sorting.get_unit_spike_train(unit) for unit in truth.sorting.unit_ids]
    assert np.mean([len(train) for train in trains]) == pytest.approx(150, rel=0.15)
    assert min(np.diff(train).min() for train in trains) > 0.004 * 20_000


@pytest.mark.parametrize("drift", [False, True])
def test_same_seed_same_samples(drift):
    """The same arguments give the same samples and spikes, another seed gives others."""
    first, again, other = (one_unit(seed=seed, drift=drift, duration_s=1.0) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.recording.get_traces(), again.recording.get_traces())
    np.testing.assert_array_equal(first.sorting.to_spike_vector(), again.sorting.to_spike_vector())
    assert not np.array_equal(first.recording.get_traces(), other.recording.get_traces())


def test_the_seed_decides_the_noise():
    """Without units, recordings of two seeds are two noises."""
    first, other = (one_unit(seed=seed, n_units=0, duration_s=0.1).recording for seed in (1, 2))
    assert not np.array_equal(first.get_traces(), other.get_traces())


def test_peak_bounds_do_not_move_the_units():
    """Asking for other peaks leaves spikes and locations as they were."""
    small, large = one_unit(peak_uV=(50, 60)), one_unit(peak_uV=(300, 400))
    np.testing.assert_array_equal(small.sorting.to_spike_vector(), large.sorting.to_spike_vector())
    np.testing.assert_array_equal(small.unit_locations_um, large.unit_locations_um)


@pytest.mark.parametrize("drift", [False, True])
def test_blocks_equal_the_whole(drift):
    """Reading in blocks and by channel gives the samples that reading at once gives."""
    recording = one_unit(drift=drift, duration_s=0.5).recording
    whole = recording.get_traces()
    blocks = [recording.get_traces(start_frame=i, end_frame=i + 777) for i in range(0, 10_000, 777)]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(recording.get_traces(channel_ids=["3", "1"]), whole[:, [3, 1]])


@pytest.mark.parametrize("drift", [False, True])
def test_a_dumped_recording_loads_to_the_sample(tmp_path, drift):
    """A recording dumped to JSON loads with its samples, scales and probe."""
    recording = one_unit(drift=drift, duration_s=0.5).recording
    recording.dump(tmp_path / "recording.json")
    loaded = si.load(tmp_path / "recording.json")
    np.testing.assert_array_equal(loaded.get_traces(), recording.get_traces())
    np.testing.assert_array_equal(loaded.get_channel_gains(), recording.get_channel_gains())
    np.testing.assert_array_equal(loaded.get_channel_locations(), recording.get_channel_locations())


def test_long_recordings_cost_no_memory():
    """An hour of 16 channels is made and read in its middle at once."""
    truth = one_unit(duration_s=3600.0, rate_Hz=(1, 1))
    assert truth.recording.get_num_samples() == 72_000_000
    middle = truth.recording.get_traces(start_frame=36_000_000, end_frame=36_000_100)
    assert middle.shape == (100, 16)


def test_odd_durations_keep_every_sample():
    """Lengths whose duration times rate is a hair too small have every sample, in the noise too."""
    for n_samples in (5_005, 5_015, 5_025):
        assert int(n_samples / 20_000 * 20_000) < n_samples
        recording = one_unit(duration_s=n_samples / 20_000).recording
        assert recording.get_num_samples() == n_samples
        assert recording.parts.recording_uV.get_num_samples() == n_samples
        assert recording.get_traces().shape == (n_samples, 16)


def test_drift_moves_the_spikes_along_the_probe():
    """Over a drifting recording the centre of a unit's spikes moves along y by tens of micrometres."""
    truth = one_unit(layout="linear", drift=True, noise_uV=0.0, duration_s=5.0, rate_Hz=(40, 40))
    traces_uV = truth.recording.get_traces(return_in_uV=True).astype("float64")
    frames = truth.sorting.get_unit_spike_train("0")
    y_um = truth.recording.get_channel_locations()[:, 1]
    weights = traces_uV[frames[frames < len(traces_uV)]] ** 2
    centre_um = (weights * y_um).sum(axis=1) / weights.sum(axis=1)
    assert np.ptp(centre_um) > 3.0


def test_drift_keeps_truth_at_displacement_zero():
    """Drift changes neither the spikes nor the templates of the truth, but the samples."""
    still, drifting = one_unit(duration_s=2.0), one_unit(duration_s=2.0, drift=True)
    np.testing.assert_array_equal(still.templates_uV, drifting.templates_uV)
    np.testing.assert_array_equal(still.sorting.to_spike_vector(), drifting.sorting.to_spike_vector())
    assert not np.array_equal(still.recording.get_traces(), drifting.recording.get_traces())


def test_units_of_four_shanks_sit_on_their_shank():
    """Units of a four-shank probe are shared out evenly and lie within 40 um of a shank's contacts."""
    truth = simulate_recording("neuropixels2", n_units=8, duration_s=0.5)
    shank = np.rint((truth.unit_locations_um[:, 0] - 16) / 250)
    np.testing.assert_array_equal(np.bincount(shank.astype(int)), [2, 2, 2, 2])
    assert np.abs(truth.unit_locations_um[:, 0] - 16 - 250 * shank).max() <= 26.001
    np.testing.assert_array_equal(np.unique(truth.recording.get_channel_groups()), [0, 1, 2, 3])


def test_crowded_probes_are_placed_without_a_warning():
    """More units than fit at a distance are placed closer, without a warning or an error."""
    assert simulate_recording("tetrode", n_units=20, duration_s=0.5).sorting.get_num_units() == 20


def test_scales_are_on_the_recording():
    """Gain, offset and dtype of the recording are those asked for."""
    recording = one_unit(duration_s=0.5, **MAXWELL).recording
    assert recording.get_dtype() == np.dtype("uint16")
    np.testing.assert_array_equal(recording.get_channel_gains(), 6.294)
    np.testing.assert_array_equal(recording.get_channel_offsets(), -512 * 6.294)
    assert np.median(recording.get_traces()) == 512


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"layout": "hexagon"}, "Unknown layout"),
        ({"n_channels": 7}, "rectangle"),
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": 1e-6}, "duration_s"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"n_units": -1}, "n_units"),
        ({"fs_Hz": 1000.0}, "fs_Hz.*12000"),
        ({"seed": -1}, "seed"),
        ({"noise_uV": -1.0}, "noise_uV"),
        ({"noise_uV": float("nan")}, "noise_uV"),
        ({"peak_uV": (200, 60)}, "peak_uV"),
        ({"peak_uV": (0, 60)}, "peak_uV"),
        ({"peak_uV": (1, 2, 3)}, "peak_uV"),
        ({"rate_Hz": (-1, 5)}, "rate_Hz"),
        ({"gain_uV": 0.0}, "gain_uV"),
        ({"gain_uV": float("nan")}, "gain_uV"),
        ({"offset_uV": float("inf")}, "offset_uV"),
        ({"dtype": "float32"}, "dtype.*int16, uint16"),
    ],
)
def test_bad_arguments_are_refused_by_name(bad, message):
    """An argument that makes no sense raises ValueError naming it, before anything is generated."""
    with pytest.raises(ValueError, match=message):
        one_unit(**bad)


def test_import_is_light():
    """Importing the package imports none of the heavy packages."""
    code = (
        "import sys, spikelab.simulation; "
        "print([m for m in ('spikeinterface', 'h5py', 'torch', 'probeinterface') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    steps=st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=20),
    gain_uV=st.floats(0.01, 50),
    offset_uV=st.floats(-5_000, 5_000),
)
@settings(max_examples=100, deadline=None)
def test_quantising_undoes_scaling(steps, gain_uV, offset_uV):
    """Samples scaled to uV are the same samples when quantised again."""
    samples = np.array(steps, dtype="int16")
    voltages_uV = samples.astype("float64") * gain_uV + offset_uV
    np.testing.assert_array_equal(quantise(voltages_uV, gain_uV, offset_uV, "int16"), samples)


@given(voltage_uV=st.floats(-1e6, 1e6), gain_uV=st.floats(0.01, 50), dtype=st.sampled_from(["int16", "uint16"]))
@settings(max_examples=100, deadline=None)
def test_quantising_is_within_half_a_step_or_clipped(voltage_uV, gain_uV, dtype):
    """A sample is within half a step of its voltage, or at the end of the dtype on the voltage's side."""
    sample = int(quantise(np.array([voltage_uV]), gain_uV, 0.0, dtype)[0])
    limits = np.iinfo(dtype)
    exact = voltage_uV / gain_uV
    expected = min(max(exact, limits.min), limits.max)
    assert abs(sample - expected) <= 0.5 + 1e-6
