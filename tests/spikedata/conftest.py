"""A simulated recording with its true units, as SpikeInterface's analyzer measures them."""

from __future__ import annotations

from typing import Any

import pytest

from spikelab.simulation import simulate_recording
from spikelab.spikedata import SpikeData


@pytest.fixture(scope="session")
def analyzer() -> Any:
    """Five seconds of 12 channels and 4 units, with the extensions that people compute before curation."""
    from spikeinterface.core import create_sorting_analyzer

    truth = simulate_recording("linear", n_channels=12, duration_s=5, n_units=4, rate_Hz=(8, 12), seed=3)
    made = create_sorting_analyzer(truth.sorting, truth.recording, sparse=False)
    made.compute(
        ["random_spikes", "templates", "noise_levels", "spike_amplitudes", "unit_locations", "quality_metrics"],
        extension_params={"quality_metrics": {"metric_names": ["snr", "firing_rate", "num_spikes"]}},
        n_jobs=1,
    )
    return made


@pytest.fixture(scope="session")
def measured(analyzer: Any) -> SpikeData:
    """The units of the analyzer."""
    return SpikeData.from_analyzer(analyzer)
