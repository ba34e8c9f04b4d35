"""SNR and consistency from raw data: right numbers, one pass, any size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from spikelab.curation import _filtered, compute_waveform_metrics, waveform_metrics
from spikelab.spike_sorting._exceptions import EmptyWaveformMetricsError
from spikelab.spikedata import SpikeData

FS_KHZ = 20.0
SHAPE = -np.exp(-0.5 * (np.arange(-20, 40) / 4.0) ** 2)


def simulate(*, n_spikes=(80, 80), amplitudes=(120.0, 60.0), noise=8.0, n_samples=80_000, n_channels=3, seed=0):
    """Unit u on channel u; returns SpikeData with float traces attached."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, noise, (n_channels, n_samples)) + 40.0
    trains = []
    for unit, (count, amplitude) in enumerate(zip(n_spikes, amplitudes, strict=True)):
        spikes = np.sort(rng.choice(np.arange(100, n_samples - 100, 150), count, replace=False)) + unit * 70
        spikes = spikes[spikes < n_samples - 100]
        for spike in spikes:
            raw[unit, spike - 20 : spike + 40] += amplitude * SHAPE
        trains.append(spikes / FS_KHZ)
    return SpikeData(trains, length=n_samples / FS_KHZ, raw_data=raw, raw_time=FS_KHZ)


def reference(sd, ms_before=1.0, ms_after=2.0):
    """The definition, one unit at a time on the whole filtered trace."""
    raw = np.asarray(sd.raw_data)
    filtered = sosfiltfilt(butter(5, (300, 6000), "bandpass", fs=sd.raw_fs_Hz, output="sos"), raw, axis=1)
    noise = np.median(np.abs(filtered - np.median(filtered, axis=1, keepdims=True)), axis=1) / 0.6744897501960817
    snr, std_norm = [], []
    for times in sd.train:
        samples = np.rint(times * FS_KHZ).astype(int)
        waveforms = np.stack(
            [filtered[:, s - round(ms_before * FS_KHZ) : s + round(ms_after * FS_KHZ)] for s in samples]
        )
        mean = waveforms.mean(axis=0)
        channel, peak = np.unravel_index(np.abs(mean).argmax(), mean.shape)
        snr.append(np.abs(mean[channel, peak]) / noise[channel])
        std_norm.append(waveforms[:, channel, peak].std() / np.abs(mean[channel, peak]))
    return np.array(snr), np.array(std_norm)


def test_the_numbers_are_those_of_the_definition():
    """SNR and std_norm equal a plain computation on the whole filtered trace."""
    sd = simulate()
    measured, metrics = sd.compute_waveform_metrics()
    snr, std_norm = reference(sd)
    np.testing.assert_allclose(metrics["snr"], snr, rtol=1e-4)
    np.testing.assert_allclose(metrics["std_norm"], std_norm, rtol=1e-3)
    assert measured.get_neuron_attribute("snr").tolist() == metrics["snr"].tolist()
    assert measured.get_neuron_attribute("std_norm").tolist() == metrics["std_norm"].tolist()
    assert sd.neuron_attributes == [{}, {}]


def test_blocks_leave_no_trace(monkeypatch):
    """Small blocks give the numbers of one block, with spikes on and beside every border."""
    sd = simulate()
    train = [np.arange(offset, 79_000, 7) / FS_KHZ for offset in (100, 103)]
    sd = sd.replace(train=[*sd.train, *train], neuron_attributes=None)
    whole = compute_waveform_metrics(sd, max_spikes=100_000)[1]
    monkeypatch.setattr(_filtered, "_BLOCK_VALUES", 10_000)
    pieces = compute_waveform_metrics(sd, max_spikes=100_000)[1]
    for name in whole:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-4)


def test_every_block_carries_the_filtered_traces_around_it(monkeypatch):
    """A block is a cut of the filtered whole, with `reach` samples on both sides where there are any."""
    monkeypatch.setattr(_filtered, "_BLOCK_VALUES", 10_000)
    raw = np.asarray(simulate().raw_data)
    band = _filtered.Band(FS_KHZ * 1000, 300.0, 6000.0)
    whole = band.apply(raw)
    ends = [0]
    for block in _filtered.iterate_blocks(raw, band, reach=40):
        assert (block.first, block.offset) == (ends[-1], max(block.first - 40, 0))
        last = min(block.last + 40, raw.shape[1])
        np.testing.assert_allclose(block.traces, whole[:, block.offset : last], atol=1e-3)
        np.testing.assert_allclose(block.core, whole[:, block.first : block.last], atol=1e-3)
        ends.append(block.last)
    assert ends[-1] == raw.shape[1]
    assert len(ends) > 10


def test_noise_of_a_long_recording_comes_from_a_part_of_it(monkeypatch):
    """Where there are more samples than needed the noise is taken from some of them, evenly, to a few percent."""
    sd = simulate()
    whole = compute_waveform_metrics(sd)[1]["snr"]
    monkeypatch.setattr(waveform_metrics, "_NOISE_VALUES", 30_000)
    monkeypatch.setattr(_filtered, "_BLOCK_VALUES", 10_000)
    np.testing.assert_allclose(compute_waveform_metrics(sd)[1]["snr"], whole, rtol=0.05)


def test_noise_and_snr_are_spikeinterfaces(tmp_path):
    """On the same data SNR and noise are SpikeInterface's, within the noise of its random chunks."""
    from spikeinterface import preprocessing
    from spikeinterface.core import NumpyRecording, create_sorting_analyzer

    sd = simulate()
    recording = NumpyRecording([np.asarray(sd.raw_data, dtype="float32").T], FS_KHZ * 1000)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    recording.set_dummy_probe_from_locations(np.array([[0.0, 0.0], [0.0, 20.0], [0.0, 40.0]]))
    filtered = preprocessing.bandpass_filter(recording, 300, 6000)
    analyzer = create_sorting_analyzer(sd.to_sorting(FS_KHZ * 1000), filtered, sparse=False, format="memory")
    analyzer.compute(
        {"random_spikes": {}, "templates": {}, "noise_levels": {}, "quality_metrics": {"metric_names": ["snr"]}}
    )
    theirs = analyzer.get_extension("quality_metrics").get_data()["snr"].to_numpy()
    ours = sd.compute_waveform_metrics()[1]["snr"]
    np.testing.assert_allclose(ours, theirs, rtol=0.03)
    # Unit u is on channel u, and all spikes are in both averages: peak over SNR is the noise.
    peaks_uV = np.abs(analyzer.get_extension("templates").get_data()).max(axis=(1, 2))
    noise_uV = analyzer.get_extension("noise_levels").get_data()[: sd.N]
    np.testing.assert_allclose(peaks_uV / ours, noise_uV, rtol=0.03)


def test_any_source_and_number_type_gives_the_same(tmp_path):
    """A memmap, int16 counts on an offset, a lazy HDF5 dataset: the same SNR."""
    import h5py

    sd = simulate()
    counts = np.rint(np.asarray(sd.raw_data) * 4).astype("int16")
    expected = sd.compute_waveform_metrics()[1]["snr"]
    stored = np.memmap(tmp_path / "raw.bin", dtype="int16", mode="w+", shape=counts.shape)
    stored[:] = counts
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["traces"] = counts
        for raw in (counts, stored, file["traces"]):
            got = sd.with_raw_data(raw, FS_KHZ).compute_waveform_metrics()[1]["snr"]
            np.testing.assert_allclose(got, expected, rtol=5e-3)


def test_raw_data_are_filtered_once_for_both_metrics(monkeypatch):
    """curate() with SNR and std_norm runs the filter as often as one block needs, not once per unit or metric."""
    calls = []
    apply = _filtered.Band.apply
    monkeypatch.setattr(_filtered.Band, "apply", lambda band, traces: calls.append(1) or apply(band, traces))
    curated, results = simulate().curate(min_snr=5.0, max_std_norm=1.0)
    assert len(calls) == 1
    assert list(results) == ["snr", "std_norm"]
    assert curated.neuron_attributes == [{}, {}]


def test_the_draw_is_seeded_and_independent_of_other_units():
    """More spikes than max_spikes are drawn; the same every time, and the same when units are reordered."""
    sd = simulate(n_spikes=(300, 200))
    one = compute_waveform_metrics(sd, max_spikes=50)[1]
    again = compute_waveform_metrics(sd, max_spikes=50)[1]
    turned = compute_waveform_metrics(sd[::-1], max_spikes=50)[1]
    other = compute_waveform_metrics(sd, max_spikes=50, seed=1)[1]
    for name in one:
        assert one[name].tolist() == again[name].tolist() == turned[name].tolist()[::-1]
        assert one[name].tolist() != other[name].tolist()


def test_no_spike_is_drawn_twice():
    """The draw is without replacement."""
    drawn = waveform_metrics._draw(np.arange(100), 60, seed=0)
    assert np.unique(drawn).size == 60


def test_units_that_cannot_be_measured_fail():
    """No spike, or none whose window fits, is NaN; one spike has an SNR but no spread."""
    sd = simulate().replace(train=[[], [0.1, 3999.9], [2000.0]], neuron_attributes=None)
    metrics = sd.compute_waveform_metrics()[1]
    assert np.isnan(metrics["snr"]).tolist() == [True, True, False]
    assert np.isnan(metrics["std_norm"]).tolist() == [True, True, True]
    assert sd.curate_by_snr(0.0)[1]["passed"].tolist() == [False, False, True]
    assert sd.curate_by_std_norm(1e9)[0].N == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_named(value):
    """A filter would spread it over its block, and units would go without a word: the sample is told instead."""
    sd = simulate()
    raw = np.array(sd.raw_data)
    raw[2, 70_000] = value
    broken = sd.with_raw_data(raw, FS_KHZ)
    for measure in (broken.compute_waveform_metrics, lambda: broken.compute_quality_metrics(["amplitude_median"])):
        with pytest.raises(ValueError, match="sample 70000 of channel 2 is"):
            measure()


def test_without_noise_there_is_no_snr():
    """Where more than half of a channel is silent, its noise measures 0: the ratio says nothing, and fails."""
    sd = simulate(noise=0.0)
    metrics = sd.compute_waveform_metrics(freq_min=None, freq_max=None)[1]
    assert np.isnan(metrics["snr"]).all()
    assert sd.set_neuron_attribute("snr", metrics["snr"].tolist()).curate_by_snr(1.0)[0].N == 0


def test_a_spread_over_a_window_differs_from_that_at_the_peak():
    """at_peak=False averages the deviation around the peak."""
    sd = simulate()
    peak, window = (compute_waveform_metrics(sd, at_peak=flag)[1]["std_norm"] for flag in (True, False))
    assert (peak != window).all()
    assert sd.curate_by_std_norm(at_peak=False)[1]["metric"].tolist() == window.tolist()


def test_stored_metrics_are_used_where_every_unit_has_them():
    """A complete attribute wins over the raw data; an incomplete one is measured anew for all."""
    sd = simulate()
    assert sd.set_neuron_attribute("snr", [1.0, 2.0]).curate_by_snr()[1]["metric"].tolist() == [1.0, 2.0]
    partly = sd.set_neuron_attribute("snr", [1.0, None])
    assert partly.curate_by_snr()[1]["metric"].tolist() == sd.compute_waveform_metrics()[1]["snr"].tolist()


@pytest.mark.parametrize("band", [(None, None), (300.0, None), (None, 6000.0), (300.0, 50_000.0)])
def test_bands_may_be_open(band):
    """None, or an edge beyond half the sampling rate, leaves that side open."""
    assert compute_waveform_metrics(simulate(), freq_min=band[0], freq_max=band[1])[1]["snr"][0] > 5


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"freq_min": 6000.0, "freq_max": 300.0}, "freq_min < freq_max"),
        ({"freq_min": 10_000.0, "freq_max": 12_000.0}, "10000.0 Hz"),
        ({"freq_min": -1.0}, "0 <= freq_min"),
        ({"ms_before": -1.0}, "ms_before"),
        ({"ms_before": 0.0, "ms_after": 0.0}, "span a sample"),
        ({"max_spikes": 0}, "max_spikes"),
    ],
)
def test_impossible_settings_are_named(parameters, words):
    """A band, window or number that makes no sense raises a ValueError that names it."""
    with pytest.raises(ValueError, match=words):
        compute_waveform_metrics(simulate(), **parameters)


def test_metrics_need_raw_data():
    """Without traces the failure is classified and says how to attach them."""
    with pytest.raises(EmptyWaveformMetricsError, match="with_raw_data"):
        SpikeData([[1.0]]).compute_waveform_metrics()


@pytest.mark.parametrize("n_samples", [0, 1, 5, 61])
def test_tiny_recordings_do_not_break(n_samples):
    """A recording shorter than the filter or the window gives NaN or numbers, never a crash."""
    sd = SpikeData([[0.0]], length=10.0, raw_data=np.zeros((2, n_samples)), raw_time=FS_KHZ)
    assert np.isnan(sd.compute_waveform_metrics()[1]["snr"]).all()


def test_no_units_still_return_arrays():
    """A recording without units has empty metrics."""
    sd = simulate().subset([])
    assert [values.shape for values in sd.compute_waveform_metrics()[1].values()] == [(0,), (0,)]
