"""The examples in the docstrings run as printed."""

from __future__ import annotations

import doctest
import importlib

import pytest
from support import REPOSITORY

PACKAGE = REPOSITORY / "spikelab"
MODULES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for folder in ("spikedata", "curation", "simulation", "stim_sorting")
    for path in sorted((PACKAGE / folder).rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
] + ["spikelab.spike_sorting.backends.kilosort4.advisor"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_printed(name):
    """Every example in the module's docstrings gives what it shows."""
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
