"""A sort without spikes says why: nothing is called silence that is a wrong type, gain, polarity or geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probeinterface import Probe
from spikeinterface.core import NumpyRecording

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting._exceptions import InsufficientActivityError
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.backends.kilosort4.diagnosis import Diagnosis, diagnose, explained, glance_at
from spikelab.spike_sorting.backends.kilosort4.results import require_spikes
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

N_CHANNELS, FS_HZ = 16, 20_000.0


@pytest.fixture(scope="module")
def truth():
    """Two seconds of 16 channels with spikes of 60 to 200 uV over noise of 8 uV."""
    return simulate_recording("linear", n_channels=N_CHANNELS, duration_s=2, n_units=8, rate_Hz=(10, 20)).recording


@pytest.fixture(scope="module")
def samples(truth):
    return truth.get_traces()


def job_of(
    folder: Path, traces: np.ndarray, like: Any, *, gain: float = 0.195, scale_um: float = 1.0, **params
) -> SortJob:
    """Return a job on `traces`, with the probe of `like`, scaled."""
    recording = NumpyRecording([traces], FS_HZ)
    places = like.get_channel_locations()[:, :2] * scale_um
    if len(places) != traces.shape[1]:
        places = np.column_stack([np.zeros(traces.shape[1]), 50.0 * np.arange(traces.shape[1])])
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(positions=places)
    probe.set_device_channel_indices(np.arange(len(places)))
    recording.set_probe(probe)
    recording.set_channel_gains(gain)
    recording.set_channel_offsets(0.0)
    run = RunFolder(inter=folder / "inter", results=folder / "results")
    (run.inter / "output").mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params=params, n_jobs=1)
    return SortJob(recording, run.inter / "output", run, config, ProgressFile(run.progress, "sort"))


def look(folder: Path, traces: np.ndarray, like: Any, **options: Any) -> Diagnosis:
    return diagnose(glance_at(job_of(folder, traces, like, **options)))


def about(found: Diagnosis) -> list[str]:
    return [cause.about for cause in found.causes]


# -------------------------------------------------------------------------------------------------- what is right


def test_an_active_recording_is_no_silence(tmp_path, truth, samples):
    """Where spikes are seen and all looks right, settings are blamed, never silence."""
    found = look(tmp_path, samples, truth)
    assert about(found) == ["threshold"]
    assert found.is_active
    assert 5 < found.noise_uV < 8
    assert found.n_negative > 10 * found.n_positive
    assert "no silence" in str(found)
    assert found.seconds == 2.0


def test_noise_alone_is_silence(tmp_path, truth):
    """Noise without a spike is called silent, after the rest has been ruled out."""
    noise = np.random.default_rng(1).normal(0, 40, (40_000, N_CHANNELS)).astype("int16")
    found = look(tmp_path, noise, truth)
    assert about(found) == ["silence"]
    assert "data type, gain, polarity and geometry look right" in str(found)


@pytest.mark.parametrize("layout", ["mea", "neuropixels1", "neuropixels2", "linear", "tetrode"])
@pytest.mark.parametrize("written", [{}, {"dtype": "uint16", "gain_uV": 6.294, "offset_uV": -512 * 6.294}])
def test_usual_recordings_raise_no_suspicion(tmp_path, layout, written):
    """No layout, and neither 16-bit steps nor Maxwell's coarse unsigned ones, are taken for a mistake."""
    recording = simulate_recording(layout, n_channels=None, duration_s=2, rate_Hz=(10, 20), seed=2, **written).recording
    run = RunFolder(inter=tmp_path / "inter", results=tmp_path / "results")
    job = SortJob(recording, tmp_path, run, KILOSORT4, ProgressFile(run.progress, "sort"))
    assert about(diagnose(glance_at(job))) == ["threshold"]


def test_a_long_recording_is_looked_at_all_over(tmp_path, truth):
    """Of a long recording two seconds are read, from its beginning to its end."""
    noise = np.random.default_rng(1).normal(0, 40, (200_000, N_CHANNELS)).astype("int16")
    glance = glance_at(job_of(tmp_path, noise, truth))
    assert [len(window) for window in glance.windows] == [5000] * 8
    np.testing.assert_array_equal(glance.windows[0], noise[:5000])
    np.testing.assert_array_equal(glance.windows[-1], noise[-5000:])


@pytest.mark.parametrize("n_samples", [1, 20, 31, 4999])
def test_a_short_recording_is_looked_at_whole(tmp_path, truth, n_samples):
    """However short a recording is, there is a diagnosis."""
    noise = np.random.default_rng(1).normal(0, 40, (n_samples, N_CHANNELS)).astype("int16")
    assert look(tmp_path, noise, truth).seconds == pytest.approx(n_samples / FS_HZ)


# -------------------------------------------------------------------------------------------------- what is wrong


def test_polarity(tmp_path, truth, samples):
    """Spikes that go up are told, with the setting that turns them over."""
    (cause,) = look(tmp_path, -samples, truth).causes
    assert (cause.about, cause.advice) == ("polarity", "Set kilosort_params={'invert_sign': True}.")


def test_polarity_turned_for_nothing(tmp_path, truth, samples):
    """Where invert_sign itself turns spikes upside down, it is to be left out."""
    (cause,) = look(tmp_path, samples, truth, invert_sign=True).causes
    assert (cause.about, cause.advice) == ("polarity", "Leave invert_sign out.")
    assert about(look(tmp_path / "right", -samples, truth, invert_sign=True)) == ["threshold"]


@pytest.mark.parametrize("factor,which", [(1000, "large"), (0.001, "small")])
def test_gain(tmp_path, truth, samples, factor, which):
    """A gain that makes of the noise what no electrode gives is told, with about how wrong it is."""
    (cause,) = look(tmp_path, samples, truth, gain=0.195 * factor).causes
    assert cause.about == "gain"
    assert f"1000 times too {which}" in cause.message
    assert "gain_to_uv" in cause.advice


def test_floats_in_volts(tmp_path, truth, samples):
    """Floats in volts are told, with the scale that Kilosort4 needs."""
    volts = (samples * 0.195e-6).astype("float32")
    (cause,) = look(tmp_path, volts, truth, gain=1e6).causes
    assert cause.about == "gain"
    assert "kilosort_params={'scale': 1e+06}" in cause.advice


MISREAD = {
    "unsigned as signed": (lambda x: (x.astype("int32") + 32768).astype("uint16").view("int16"), "unsigned, offset"),
    "signed as unsigned": (lambda x: x.view("uint16"), "look like signed ones (int16)"),
    "other byte order": (lambda x: x.byteswap(), "other byte order"),
    "float32 as int16": (lambda x: (x * np.float32(0.195)).astype("float32").view("int16"), "look like float32"),
    "int16 as float32": (lambda x: np.ascontiguousarray(x).view("float32"), "no amplifier gives"),
    "noise": (lambda x: np.random.default_rng(0).integers(-32768, 32768, x.shape, "int16"), "fill the whole range"),
}


@pytest.mark.parametrize("how", MISREAD)
def test_data_type(tmp_path, truth, samples, how):
    """Samples read as another type are told alone, as their gain and polarity mean nothing."""
    misread, said = MISREAD[how]
    found = look(tmp_path, misread(samples), truth)
    assert about(found) == ["dtype"]
    assert said in found.causes[0].message


def test_rail(tmp_path, truth, samples):
    """Channels that stay at the largest or smallest value are told."""
    railed = samples.copy()
    railed[:20_000, 4:] = 32767
    assert about(look(tmp_path, railed, truth)) == ["rail"]


def test_constant(tmp_path, truth, samples):
    """Channels that never change are told with their number."""
    flat = samples.copy()
    flat[:, :10] = 7
    found = look(tmp_path, flat, truth)
    assert about(found) == ["constant"]
    assert "10 of 16" in found.causes[0].message


@pytest.mark.parametrize("scale_um,said", [(1e-3, "they look like mm"), (1e3, "nm or pixels")])
def test_geometry(tmp_path, truth, samples, scale_um, said):
    """Positions in another unit are told."""
    (cause,) = look(tmp_path, samples, truth, scale_um=scale_um).causes
    assert cause.about == "geometry"
    assert said in cause.message


def test_several_causes_are_all_told(tmp_path, truth, samples):
    """A wrong gain, polarity and geometry together are three causes, each with its advice."""
    found = look(tmp_path, -samples, truth, gain=195.0, scale_um=1e-3)
    assert about(found) == ["gain", "polarity", "geometry"]


# ----------------------------------------------------------------------------------------------- how it is told


def test_the_error_carries_the_findings(tmp_path, truth, samples):
    """Message and advice are those of the diagnosis, and the numbers of the failure stay."""
    silent = InsufficientActivityError("Kilosort4 found too few spikes", sorter="kilosort4", nspks_at_failure=3)
    error = explained(silent, job_of(tmp_path, -samples, truth))
    assert str(error).startswith("Kilosort4 found too few spikes: in 2 s of the recording")
    assert error.advice == "Set kilosort_params={'invert_sign': True}."
    assert (error.sorter, error.nspks_at_failure) == ("kilosort4", 3)
    assert error.threshold_crossings > 100
    assert [finding["about"] for finding in error.findings] == ["polarity"]


@pytest.mark.parametrize("n_units,what", [(0, "silence"), (6, "threshold")])
def test_a_sort_without_spikes_says_why(tmp_path, n_units, what):
    """A real sort that finds nothing ends as silence only where the recording is silent."""
    pytest.importorskip("kilosort")
    truth = simulate_recording("linear", n_channels=8, duration_s=5, n_units=n_units, rate_Hz=(8, 15))
    job = job_of(tmp_path, truth.recording.get_traces(), truth.recording, nblocks=0, Th_universal=1000.0)
    with pytest.raises(InsufficientActivityError) as raised:
        Kilosort4Backend().sort(job)
    assert [finding["about"] for finding in raised.value.findings] == [what]
    assert ("silent" in str(raised.value)) == (what == "silence")
    assert ("silent" in raised.value.advice) == (what == "silence")


def test_a_sort_that_finds_spikes_and_no_unit_says_why(tmp_path):
    """A real sort whose templates fit none of the spikes they were learned from tells of both, and what to look at."""
    pytest.importorskip("kilosort")
    truth = simulate_recording("linear", n_channels=8, duration_s=5, n_units=6, rate_Hz=(8, 15))
    job = job_of(tmp_path, truth.recording.get_traces(), truth.recording, nblocks=0, Th_learned=1000.0)
    with pytest.raises(
        InsufficientActivityError, match=r"detected \d+ spikes, and finds none with the \d+ templates"
    ) as raised:
        Kilosort4Backend().sort(job)
    assert [finding["about"] for finding in raised.value.findings] == ["threshold"]
    assert "Th_learned" in raised.value.advice
    assert raised.value.nspks_at_failure == 0


@pytest.mark.parametrize("times", [[], [-3, 100]])
def test_spikes_beside_the_recording_are_no_unit(tmp_path, times):
    """Padding alone gives no unit, and a sort that ends so does not count as one."""
    np.save(tmp_path / "spike_times.npy", np.array(times, dtype=np.int64))
    with pytest.raises(InsufficientActivityError, match=f"with {len(times)} spikes beside the recording"):
        require_spikes(tmp_path, n_samples=100)
    np.save(tmp_path / "spike_times.npy", np.array([*times, 5]))
    require_spikes(tmp_path, n_samples=100)
