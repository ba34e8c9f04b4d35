"""What Kilosort4 tells while it works."""

from __future__ import annotations

import types
from typing import Any

import pytest

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.backends.kilosort4.progress import StepProgress, calls_seen
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder

pytest.importorskip("kilosort")

Report = tuple[str, float | None, int | None]


class Heard:
    """Keeps all that is reported; stands in for the file."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        self.reports.append((step, fraction, n_spikes))

    def of(self, step: str) -> list[Report]:
        return [report for report in self.reports if report[0] == step]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """What a short sort with drift correction has told."""
    folder = tmp_path_factory.mktemp("progress")
    truth = simulate_recording("linear", n_channels=8, duration_s=8, n_units=4, rate_Hz=(8, 15), seed=3)
    recording = truth.recording.save(folder=folder / "recording", verbose=False)
    run = RunFolder(folder / "inter", folder / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params={"nblocks": 1, "nskip": 1}, n_jobs=1)
    progress: Any = Heard()
    Kilosort4Backend().sort(SortJob(recording, output, run, config, progress))
    return progress


@pytest.mark.parametrize(
    "step",
    [
        "preprocessing",
        "drift correction",
        "spike detection",
        "first clustering",
        "spike extraction",
        "final clustering",
    ],
)
def test_a_step_that_counts_goes_from_nothing_to_all(heard: Heard, step: str) -> None:
    """From inside each long step comes a share that only rises, from 0 to 1, with looks in between."""
    shares = [fraction for _, fraction, _ in heard.of(step) if fraction is not None]
    assert shares[0] == 0.0
    assert shares[-1] == pytest.approx(1.0)
    assert shares == sorted(shares)
    assert step.endswith("clustering") or len(shares) > 3


@pytest.mark.parametrize("step", ["template postprocessing", "merging", "saving"])
def test_a_step_that_cannot_count_makes_no_share_up(heard: Heard, step: str) -> None:
    """A step of which upstream tells nothing is named, and its share is unknown rather than 0 % throughout."""
    assert [fraction for _, fraction, _ in heard.of(step)] == [None]


@pytest.mark.parametrize("step", ["drift correction", "spike detection", "spike extraction"])
def test_spikes_are_counted_while_they_are_found(heard: Heard, step: str) -> None:
    """The number of spikes rises from batch to batch, and at the end it is that with which the next step goes on."""
    counts = [n_spikes for _, fraction, n_spikes in heard.of(step) if fraction and n_spikes is not None]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1]
    following = heard.reports[heard.reports.index(heard.of(step)[-1]) + 1]
    # Matching drops spikes that begin before the recording does; after drift correction they are detected anew.
    expected = None if step == "drift correction" else pytest.approx(counts[-1], abs=3)
    assert following[2] == expected


@pytest.mark.parametrize(
    "n_passes, percents, last",
    [(1, [50, 100], 1.0), (2, [50, 100, 50, 100], 1.0), (3, [100, 100, 100], 1.0), (2, [100], 0.5), (1, [90, 10], 0.1)],
)
def test_passes_are_joined_into_one_share(n_passes: int, percents: list[int], last: float) -> None:
    """Columns of a probe, each told from 0 to 100 % of its own, add up to one share that never exceeds 1."""
    heard: Any = Heard()
    progress = StepProgress(heard)
    progress.start("clustering", n_passes)
    for percent in percents:
        progress.emit(percent)
    assert heard.reports[-1][1] == pytest.approx(last)


def test_a_function_that_is_watched_comes_back_whatever_happens() -> None:
    """What it gets and returns is seen, and an error inside leaves the module as it was."""
    owner = types.SimpleNamespace(divide=lambda x: [1 / x])
    before, seen = owner.divide, []

    def divide_twice() -> None:
        with calls_seen(owner, "divide", lambda *call: seen.append(call)):
            owner.divide(2)
            owner.divide(0)

    with pytest.raises(ZeroDivisionError):
        divide_twice()
    assert owner.divide is before
    assert seen == [((2,), [0.5])]
