"""Raw traces beside the spikes: where times lie in them, what a window keeps, what is read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from spikelab.spikedata import SpikeData

TRACES = np.arange(200.0).reshape(2, 100)


def make(raw_time=10.0, **parts):
    return SpikeData([[0.0, 2.0, 5.0, 9.9]], length=10.0, raw_data=TRACES, raw_time=raw_time, **parts)


def test_waveforms_are_cut_around_the_spikes():
    """Each waveform is (samples, channels) with the spike at ms_before; windows over the edge are left out."""
    waveforms = make().get_waveform_traces(0, ms_before=0.5, ms_after=1.0)
    assert waveforms.shape == (2, 15, 2)
    assert waveforms[0, 5].tolist() == [20.0, 120.0]
    assert make().get_waveform_traces(0, channels=[1])[0, 10].tolist() == [120.0]


def test_waveforms_of_a_silent_unit_are_empty():
    """No spike, no waveform, but the shape says what one would be."""
    sd = SpikeData([[]], length=10.0, raw_data=TRACES, raw_time=10.0)
    assert sd.get_waveform_traces(0).shape == (0, 30, 2)


def test_waveforms_need_raw_data_and_a_window():
    """Without traces, or with a negative window, the error says what to do."""
    with pytest.raises(ValueError, match="with_raw_data"):
        SpikeData([[1.0]]).get_waveform_traces(0)
    with pytest.raises(ValueError, match="ms_before"):
        make().get_waveform_traces(0, ms_before=-1.0)


@pytest.mark.parametrize("start_time", [0.0, -4.0])
@pytest.mark.parametrize("axis", [True, False])
def test_times_lie_at_the_nearest_sample(start_time, axis):
    """A rate counts from start_time; a time axis is searched; both mark what is outside."""
    raw_time = start_time + np.arange(100) / 10.0 if axis else 10.0
    sd = SpikeData([[]], length=10.0, start_time=start_time, raw_data=TRACES, raw_time=raw_time)
    samples = sd.raw_samples(start_time + np.array([0.0, 0.04, 0.06, 5.0, 9.9]))
    assert samples.tolist() == [0, 0, 1, 50, 99]
    assert sd.raw_samples([start_time - 1.0])[0] < 0
    assert sd.raw_samples([start_time + 10.5])[0] >= 100
    assert sd.raw_fs_Hz == pytest.approx(10_000.0)


def test_the_rate_of_the_metadata_is_the_default():
    """raw_time may be left out when metadata has fs_Hz."""
    assert make(raw_time=None, metadata={"fs_Hz": 20_000.0}).raw_time == 20.0


@pytest.mark.parametrize("axis", [True, False])
@pytest.mark.parametrize("start, end", [(2.0, 5.0), (2.03, 5.03), (0.0, 10.0), (3.0, 3.0)])
def test_a_window_cuts_the_raw_data_alike(axis, start, end):
    """After cutting and shifting, every spike still lies at the same sample value."""
    sd = make(raw_time=np.arange(100) / 10.0 if axis else 10.0)
    part = sd.subtime(start, end, shift_to=100.0)
    expected = [TRACES[0, round(10 * t)] for t in part.train[0] - 100.0 + start]
    assert [part.raw_data[0, i] for i in part.raw_samples(part.train[0])] == expected
    assert part.raw_data.shape[1] == round(10 * (end - start))
    assert isinstance(part.raw_time, float) == (not axis and start != 2.03)  # a rate stays one where it can


def test_lazy_traces_stay_lazy(tmp_path):
    """An HDF5 dataset is read only where a waveform is taken, also after cutting."""
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["traces"] = TRACES
    with h5py.File(tmp_path / "raw.h5") as file:
        sd = SpikeData([[2.0, 5.0]], length=10.0, raw_data=file["traces"], raw_time=10.0)
        part = sd.subtime(4.0, 8.0, shift_to=0.0)
        assert not isinstance(part.raw_data, np.ndarray)
        assert part.raw_data.shape == (2, 40)
        assert part.get_waveform_traces(0, ms_before=0.5, ms_after=0.5)[0, 5].tolist() == [50.0, 150.0]


def test_a_memmap_stays_on_disk(tmp_path):
    """A memmap is neither loaded nor copied, and stays untouched."""
    stored = np.memmap(tmp_path / "raw.bin", dtype="float32", mode="w+", shape=(2, 100))
    sd = SpikeData([[2.0]], length=10.0, raw_data=stored, raw_time=10.0)
    assert isinstance(sd.subtime(1.0, 3.0).raw_data, np.memmap)
    assert np.shares_memory(sd.raw_data, stored)
