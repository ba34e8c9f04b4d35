"""The real Kilosort4, killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.harness import InNamespace, Tally, slow
from support import simulate_maxwell


@slow
@pytest.mark.timeout(400)
def test_killed_in_each_step_it_ends_as_undisturbed(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P1, P9: killed once in each step of Kilosort4, the same call goes on, and ends in the very same bytes."""
    steps = pytest.importorskip("spikelab.spike_sorting.backends.kilosort4.steps").STEPS
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file, duration_s=8)
    seen = in_namespace("kilosort4", file=str(file), folder=str(tmp_path), steps=list(steps), limit_s=380)
    tally(
        "P9", "kill -9 in each step of Kilosort4", len(steps), len(seen["killed"]) * (seen["calm"] == seen["disturbed"])
    )
    assert seen["killed"] == list(steps)
    assert seen["report"]["records"][0]["status"] == "success"
    assert seen["disturbed"] == seen["calm"]
    assert len(seen["calm"]) == 3
    assert not seen["left"]
    assert not seen["leftovers"]
