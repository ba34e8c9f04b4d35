"""The examples of docs/curation.md, one after the other, as a reader would type them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY

from spikelab.simulation import simulate_recording
from spikelab.spikedata import SpikeData

PAGE = (REPOSITORY / "docs" / "curation.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Every block of the page runs on units with raw data and two epochs."""
    monkeypatch.chdir(tmp_path)
    truth = simulate_recording("linear", n_channels=6, duration_s=8, n_units=3, rate_Hz=(20, 30), seed=3)
    sd = SpikeData.from_sorting(truth.sorting, truth.recording)
    attributes = [
        {"unit_id": unit, "position": truth.unit_locations_um[unit, :2], "spike_amplitudes": np.full(train.size, -80.0),
         "avg_waveform": truth.templates_uV[unit].T}
        for unit, train in enumerate(sd.train)
    ]  # fmt: skip
    chunks = {"rec_chunks_ms": [(0.0, 4000.0), (4000.0, 8000.0)]}
    space: dict[str, Any] = {"sd": sd.replace(neuron_attributes=attributes, metadata={**sd.metadata, **chunks})}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, space)
    assert (tmp_path / "footprints.png").stat().st_size > 0
    assert "spike_count" in capsys.readouterr().out
    assert space["first"].N == 3
