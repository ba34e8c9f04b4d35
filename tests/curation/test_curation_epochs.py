"""Curation of concatenated recordings: on one epoch, and over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from spikelab.spikedata import SpikeData

CHUNKS = {"rec_chunks_ms": [(0.0, 1000.0), (1000.0, 3000.0), (3000.0, 4000.0)]}


def make(**options):
    trains = [np.arange(5.0, 4000.0, 10.0), np.arange(1005.0, 3000.0, 10.0), np.arange(5.0, 4000.0, 1000.0)]
    attributes = [{"unit_id": unit, "snr": 1.0, "epoch_snr": [9.0, 2.0, 9.0]} for unit in range(3)]
    return SpikeData(trains, length=4000.0, neuron_attributes=attributes, metadata=CHUNKS, **options)


def test_one_epoch_decides_for_the_whole():
    """Criteria are measured on the epoch, with its own metrics; units of the whole recording stay or go."""
    sd = make()
    curated, results = sd.curate(epoch=0, min_spikes=50, min_snr=5.0)
    assert results["spike_count"]["metric"].tolist() == [100.0, 0.0, 1.0]
    assert results["snr"]["metric"].tolist() == [9.0, 9.0, 9.0]
    assert curated == sd.subset([0])
    assert sd.curate(epoch=1, min_spikes=50)[0] == sd.subset([0, 1])
    assert sd.curate(epoch=1, min_snr=5.0)[0].N == 0
    history = sd.build_curation_history(sd, curated, results, {"epoch": 0})
    assert sd.apply_curation(history) == curated


@pytest.mark.parametrize("epoch", [-1, 3])
def test_an_epoch_that_is_not_there_is_named(epoch):
    """The message tells how many there are; without epochs, what is missing."""
    with pytest.raises(ValueError, match=f"epoch must be 0 to 2, .*got {epoch}"):
        make().curate(epoch=epoch, min_spikes=1)
    with pytest.raises(ValueError, match="rec_chunks_ms"):
        SpikeData([[1.0]]).curate(epoch=0)


def test_presence_is_the_share_of_epochs_in_which_a_unit_fires():
    """An epoch counts when the rate there is not far below the unit's own; silent units are nowhere present."""
    sd = make()
    curated, result = sd.curate_by_epoch_presence()
    assert result["metric"].tolist() == [1.0, pytest.approx(1 / 3), 1.0]
    assert curated == sd.subset([0, 2])
    assert sd.curate_by_epoch_presence(min_presence=0.3)[0].N == 3
    seldom = sd.replace(train=[np.array([5.0, *np.arange(1005.0, 4000.0, 1.0)]), [], []])
    assert seldom.curate_by_epoch_presence()[1]["metric"].tolist() == [pytest.approx(2 / 3), 0.0, 0.0]
    assert seldom.curate_by_epoch_presence(min_rate_ratio=0.0)[1]["metric"].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="min_presence must be zero or more"):
        sd.curate_by_epoch_presence(-1.0)


def test_what_is_blanked_is_no_silence():
    """A unit is judged over the time in which its spikes could be seen: as much as half of an epoch may be blanked."""
    train = np.concatenate([np.arange(5.0, 1000.0, 10.0), np.arange(2505.0, 4000.0, 10.0)])
    blanked = {**CHUNKS, "blanked_ms": [(1000.0, 2500.0)]}
    sd = SpikeData([train], length=4000.0, metadata=blanked)
    assert sd.curate_by_epoch_presence(min_rate_ratio=0.9)[1]["metric"].tolist() == [1.0]
    assert sd.curate_by_firing_rate()[1]["metric"].tolist() == pytest.approx([100.0])
    hill = sd.curate_by_isi_violations(threshold_ms=20.0, method="hill")[1]["metric"]
    n_violations = train.size - 2
    assert hill == pytest.approx(n_violations * 2500.0 / (2 * train.size**2 * 20.0))


def test_each_epoch_has_its_own_templates_rates_and_metrics():
    """Waveforms and rates are measured epoch by epoch, and split_epochs hands each its own."""
    rng, fs_kHz = np.random.default_rng(0), 20.0
    raw = rng.normal(0, 5.0, (2, 80_000))
    shape = -np.exp(-0.5 * ((np.arange(-20, 40)) / 4.0) ** 2)
    train = np.arange(5.0, 3990.0, 10.0)
    for time in train:
        start = round(time * fs_kHz) - 20
        raw[0, start : start + 60] += shape * (200.0 if time < 1000.0 else 100.0)
    chunks = {"rec_chunks_ms": [(0.0, 1000.0), (1000.0, 4000.0)]}
    sd = SpikeData([train, [2000.0]], length=4000.0, raw_data=raw, raw_time=fs_kHz, metadata=chunks)
    measured = sd.compute_epoch_attributes(ms_before=1.0, ms_after=2.0)
    assert sd.neuron_attributes == [{}, {}]
    first, second = measured.split_epochs()
    assert [epoch.neuron_attributes[0]["num_spikes"] for epoch in (first, second)] == [100, 299]
    assert first.neuron_attributes[0]["firing_rate"] == pytest.approx(100.0)
    heights = [-epoch.neuron_attributes[0]["avg_waveform"].min() for epoch in (first, second)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.1)
    assert first.neuron_attributes[0]["avg_waveform"].shape == (2, 60)
    alone = first.replace(neuron_attributes=None).compute_waveform_metrics()[1]
    assert first.neuron_attributes[0]["snr"] == pytest.approx(alone["snr"][0])
    assert np.isnan(first.neuron_attributes[1]["avg_waveform"]).all()
    assert np.isnan(first.neuron_attributes[1]["snr"])
