"""``spikelab compare``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from spikelab.spike_sorting import compare_results
from spikelab.spikedata import SpikeData

TRUE = [np.arange(10.0, 5000.0, step) for step in (37.0, 51.0, 83.0)]


@pytest.fixture
def saved(tmp_path, monkeypatch) -> list[str]:
    """Files of three sorters, with three, two and one of the units."""
    monkeypatch.chdir(tmp_path)
    for k, sorter in enumerate(("kilosort4", "kilosort2", "fake")):
        SpikeData(TRUE[: 3 - k], length=5000.0, metadata={"sorter": sorter, "fs_Hz": 20_000.0}).save(f"{sorter}.h5")
    return ["kilosort4.h5", "kilosort2.h5", "fake.h5"]


def test_tables_for_people(spikelab, saved):
    """Sortings are told by the names of their sorters, each pair with its matches, and all together."""
    result = spikelab("compare", *saved, "--out", "units.csv")
    assert result.exit_code == 0, result.output
    for line in ("kilosort4 and kilosort2: 2 units matched", "only in kilosort4: 2", "all 3 1", "2 of them 1"):
        assert line in " ".join(result.output.split()), line
    rows = list(csv.DictReader(Path("units.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["n_sortings"] for row in rows] == ["3", "2", "1"]
    assert rows[1] == {"kilosort4": "1", "kilosort2": "1", "fake": "", "n_sortings": "2", "agreement": "1.0"}


def test_json_for_programs(spikelab, saved):
    """--json is what the function returns, with the numbers of the call."""
    result = spikelab("compare", *saved[:2], "--json", "--delta-ms", 0.2, "--min-agreement", 0.7)
    said = json.loads(result.stdout)
    assert said == compare_results(saved[:2], delta_ms=0.2, min_agreement=0.7).to_dict()
    assert (said["delta_ms"], said["min_agreement"]) == (0.2, 0.7)


def test_one_sorter_twice_is_told_apart_by_path(saved):
    """Two results of one sorter are called by their paths, or as one likes."""
    SpikeData(TRUE, length=5000.0, metadata={"sorter": "kilosort4"}).save("again.h5")
    assert compare_results(["kilosort4.h5", "again.h5"]).names == ["kilosort4.h5", "again.h5"]
    assert compare_results(["kilosort4.h5", "again.h5"], names=["one", "two"]).names == ["one", "two"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["kilosort4.h5"], "two or more"),
        (["kilosort4.h5", "kilosort4.h5"], "given twice"),
        (["kilosort4.h5", "."], "neither is nor holds a results folder"),
        (["kilosort4.h5", "fake.h5", "--min-agreement", "2"], "min_agreement"),
        (["kilosort4.h5", "fake.h5", "--out", "nowhere/units.csv"], "is no folder"),
    ],
)
def test_wrong_calls_are_told(spikelab, saved, arguments, said):
    """What cannot be compared ends with 2 and a sentence."""
    result = spikelab("compare", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
