"""The examples in the docstrings run as printed."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "spikelab.spikedata._attributes",
    "spikelab.spikedata._counts",
    "spikelab.spikedata._epochs",
    "spikelab.spikedata._snippets",
    "spikelab.spikedata._units",
    "spikelab.spikedata._windows",
    "spikelab.spikedata.comparison",
    "spikelab.spikedata.pynapple",
    "spikelab.spikedata.spikedata",
    "spikelab.curation.criteria",
    "spikelab.curation.curate",
    "spikelab.curation.history",
    "spikelab.curation.redundancy",
    "spikelab.curation.waveform_metrics",
    "spikelab.spike_sorting.backends.kilosort4.advisor",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_printed(name):
    """Every example in the module's docstrings gives what it shows."""
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
