"""RT-Sort itself, in its own environment, on a recording in which action potentials travel along axons."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikelab.simulation import simulate_axons
from spikelab.spike_sorting import InsufficientActivityError, SortRunReport, sort_recording
from spikelab.spike_sorting.backends.rt_sort.environment import build_environment
from spikelab.spike_sorting.config import RT_SORT_MEA

pytestmark = [pytest.mark.rtsort, pytest.mark.timeout(3600)]

N_UNITS = 12


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that ``make test-rtsort`` has built."""
    named = os.environ.get("SPIKELAB_RTSORT_PYTHON")
    if named is None:
        pytest.skip("SPIKELAB_RTSORT_PYTHON names no interpreter with RT-Sort; make test-rtsort builds one")
    return named


def accuracies(truth: Any, sd: Any) -> list[float]:
    """Return how well each true unit is found, from 0 to 1, by SpikeInterface's comparison."""
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    found = sd.to_sorting()
    compared = compare_sorter_to_ground_truth(truth.sorting, found, exhaustive_gt=True)
    return sorted(map(float, compared.get_performance()["accuracy"]), reverse=True)


def test_units_are_found_from_end_to_end(tmp_path: Path, python: str) -> None:
    """A minute of 100 channels is sorted with the small model: a third of the neurons at least, each where it is."""
    truth = simulate_axons(n_channels=100, duration_s=60, n_units=N_UNITS, rate_Hz=(2, 8), peak_uV=(80, 200), seed=11)
    recording = truth.recording.save(folder=tmp_path / "array", verbose=False)
    report = SortRunReport()
    (sd,) = sort_recording(
        [recording], config=RT_SORT_MEA.override(rt_sort_python=python), results_folders=[tmp_path / "out"],
        intermediate_folders=[tmp_path / "inter"], out_report=report, curate_second=False,
    )  # fmt: skip
    assert sd is not None
    (record,) = report.records
    assert [warning.code for warning in record.warnings if warning.code == "rt-sort-small-model"]
    found = accuracies(truth, sd)
    times_s = {name: round(value, 1) for name, value in record.stage_timings_s.items()}
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    told = f"{sd.N} units; accuracies {np.round(found, 2).tolist()}; {times_s}; largest process {peak_gb:.2f} GB"
    sys.stdout.write(f"\n{told}\n")
    assert sum(accuracy >= 0.5 for accuracy in found) >= N_UNITS // 3
    assert sum(accuracy >= 0.8 for accuracy in found) >= 2
    assert sd.length == 60_000
    roots = {unit["rt_root_channel"] for unit in sd.neuron_attributes}
    assert len(roots & set(truth.root_channels.tolist())) >= N_UNITS // 3


def test_a_part_is_sorted_by_sequences_of_a_shorter_one(tmp_path: Path, python: str) -> None:
    """Sequences of the first seconds of a window sort all of it, in the times of the recording."""
    truth = simulate_axons(n_channels=36, duration_s=30, n_units=4, rate_Hz=(6, 10), peak_uV=(150, 200), seed=5)
    recording = truth.recording.save(folder=tmp_path / "array", verbose=False)
    window = {"rt_sort_recording_window_ms": (5_000, 30_000), "rt_sort_detection_window_s": 15.0}
    config = RT_SORT_MEA.override(rt_sort_python=python, **window, curate_first=False, curate_second=False)
    (sd,) = sort_recording([recording], config=config, results_folders=[tmp_path / "out"])
    assert sd is not None
    spikes = np.sort(np.concatenate(sd.train))
    assert spikes[0] >= 5_000
    assert spikes[-1] > 29_000
    true = np.sort(np.concatenate([truth.sorting.get_unit_spike_train(u) for u in truth.sorting.unit_ids])) / 20
    after = np.searchsorted(true, spikes).clip(1, true.size - 1)
    assert np.median(np.minimum(abs(true[after] - spikes), abs(true[after - 1] - spikes))) < 0.5


def test_silence_is_no_success(tmp_path: Path, python: str) -> None:
    """No sequence in noise is told as too little activity."""
    noise = simulate_axons(n_channels=16, duration_s=8, n_units=0, seed=1)
    recording = noise.recording.save(folder=tmp_path / "array", verbose=False)
    config = RT_SORT_MEA.override(rt_sort_python=python)
    with pytest.raises(InsufficientActivityError):
        sort_recording([recording], config=config, results_folders=[tmp_path / "out"])
    evidence = json.loads((tmp_path / "out" / "recording_report.json").read_text(encoding="utf-8"))
    assert evidence["status"] == "insufficient_activity"


def test_a_complete_environment_is_not_built_again(python: str) -> None:
    """The same command again finds what it has built, and checks it."""
    said: list[str] = []
    provider = build_environment(Path(python).parent.parent, said.append)
    assert provider.python == python
    assert said == ["importing RT-Sort"]
