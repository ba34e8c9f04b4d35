"""From SpikeInterface's analyzers."""

from __future__ import annotations

import numpy as np
import pytest
from spikeinterface.core import create_sorting_analyzer

from spikelab.spikedata import SpikeData


def test_an_analyzer_comes_in_with_what_it_has_computed(analyzer, measured):
    """Templates, amplitudes, places, metrics and traces are those of the analyzer, in the pipeline's names."""
    assert (measured.N, measured.length) == (4, 5000.0)
    average = analyzer.get_extension("templates").get_templates(operator="average")
    locations = analyzer.get_extension("unit_locations").get_data()
    for unit, entries in enumerate(measured.neuron_attributes):
        np.testing.assert_array_equal(entries["template_full"], average[unit])
        np.testing.assert_array_equal(entries["avg_waveform"], average[unit].T)
        np.testing.assert_array_equal(entries["template"], average[unit][:, entries["template_channels"]])
        assert entries["amplitude"] == pytest.approx(abs(average[unit]).max())
        assert entries["channel"] == abs(average[unit]).max(axis=0).argmax()
        assert entries["position"].tolist() == locations[unit, :2].tolist()
        assert entries["spike_amplitudes"].size == entries["num_spikes"] == measured.train[unit].size
        assert entries["firing_rate"] == pytest.approx(measured.rates()[unit])
        assert 0 < entries["std_norm"] < 1
    assert measured.get_neuron_attribute("snr").min() > 3
    assert measured.raw_data.shape == (12, 100_000)


def test_an_analyzer_that_computed_nothing_gives_the_spikes(analyzer):
    """Without extensions there are spikes, properties, channels and the length, and no made-up attribute."""
    bare = create_sorting_analyzer(analyzer.sorting, analyzer.recording, sparse=False)
    sd = SpikeData.from_analyzer(bare)
    assert sd.train[0].tolist() == SpikeData.from_analyzer(analyzer).train[0].tolist()
    assert sd.metadata["channel_locations"].shape == (12, 2)
    assert "template" not in sd.neuron_attributes[0]


def test_its_units_can_be_curated_at_once(measured):
    """What comes from an analyzer is curated without raw data, like the pipeline's output."""
    curated, results = measured.with_raw_data(None).curate(min_spikes=10, min_snr=3.0, max_std_norm=1.0)
    assert set(results) == {"spike_count", "snr", "std_norm"}
    assert curated.N == 4
