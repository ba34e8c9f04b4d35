"""What sorts will take: the model, what former sorts teach, the ranges, and a sort that falls behind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY

from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.costs import Range, Workload
from spikelab.spike_sorting.forecast.estimates import estimates_of
from spikelab.spike_sorting.forecast.history import (
    NAME,
    FormerRun,
    alike,
    cache_folder,
    former_runs,
    pace_of,
    remember,
)
from spikelab.spike_sorting.forecast.model import MODELS, SORT, UNKNOWN, model_of, stage_seconds
from spikelab.spike_sorting.forecast.throughput import COLLAPSED, Throughput
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight import Machine
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import Header, RecordingFacts
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.samples.crossings import Activity, activity, channels_of_a_spike
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.progress import Progress

WORK = Workload("kilosort4", "cpu", 64, 20_000.0, 600.0, 200.0, tracks_drift=False)


def machine(**readings: Any) -> Machine:
    return Machine(available_ram_bytes=lambda: 16 * 10**9, driver=lambda: None, **readings)


def facts(n_channels: int = 64, duration_s: float = 600.0, crossings_Hz: float | None = 10.0, **overrides: Any) -> Any:
    places = np.array([(17.5 * (k % 8), 17.5 * (k // 8)) for k in range(n_channels)])
    header = Header(20_000.0, "int16", 1, n_channels, int(20_000 * duration_s), 0, False, places, np.zeros(n_channels))
    run = RunFolder(Path("/inter/a"), Path("/sorted/a"))
    job = Job("a", Source(("/a",), splits=False), run, KILOSORT4.override(**overrides))
    seen = None if crossings_Hz is None else Activity(crossings_Hz, 0.05, 30.0)
    return RecordingFacts(job, header, activity=seen)


def estimated(*runs: FormerRun, **options: Any) -> Any:
    (estimate,) = estimates_of(Batch([facts(**options)], machine()), runs).values()
    return estimate


def took(work: Workload, times: float) -> FormerRun:
    return FormerRun(work, {stage: times * seconds for stage, seconds in stage_seconds(work).items()})


# ------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("sorter,device", [*MODELS, ("somebody's", "cpu")])
def test_more_work_takes_longer(sorter: str, device: str) -> None:
    """More channels, a longer recording and drift never make a sort faster, whatever the sorter."""
    work = replace(WORK, sorter=sorter, device=device)
    larger = [replace(work, n_channels=128), replace(work, duration_s=1200.0), replace(work, tracks_drift=True)]
    assert all(stage_seconds(one)[SORT] >= stage_seconds(work)[SORT] for one in larger)
    assert stage_seconds(larger[0])[SORT] > stage_seconds(work)[SORT]
    assert (model_of(work) is UNKNOWN) == (sorter == "somebody's")


def test_the_page_has_the_coefficients() -> None:
    """What docs/estimates.md says of each sorter is what is reckoned with."""
    rows = [row.split("|") for row in (REPOSITORY / "docs" / "estimates.md").read_text(encoding="utf-8").splitlines()]
    said = [[cell.strip() for cell in row[3:10]] for row in rows if len(row) == 10 and row[1].strip() == "sort"]
    models = [*MODELS.values(), UNKNOWN]
    for (start, samples, spikes, hour, drift, factor, _), model in zip(said, models, strict=True):
        sort = model.sort
        numbers = [float(cell or 0) for cell in (start, samples, spikes, hour)]
        assert numbers == [sort.start_s, sort.per_gigasample_s, sort.per_megaspike_s, sort.per_hour_s]
        assert drift.startswith(f"{100 * model.drift_share:.0f} %") == bool(model.drift_share)
        assert float(factor) == pytest.approx(math.exp(1.2816 * model.log_spread), abs=0.06)


def test_a_range_contains_its_best_guess_and_is_told_in_one_unit() -> None:
    """Time, disk and memory have low <= likely <= high, for a short silent recording and for a day of a large one."""
    for options in ({"duration_s": 2.0, "crossings_Hz": 0.0}, {"n_channels": 1024, "duration_s": 86400.0}, {}):
        estimate = estimated(**options)
        for one in (estimate.wall_time_s, estimate.disk_inter_gb, estimate.disk_results_gb, estimate.ram_gb):
            assert 0 < one.low <= one.likely <= one.high < math.inf
        assert estimate.vram_gb is None
        assert json.loads(json.dumps(estimate.to_dict()))["workload"]["n_channels"] == estimate.workload.n_channels
    assert Range(3000.0, 7200.0, 14400.0).as_time() == "2 h (0.83 to 4)"


def test_what_is_measured_counts() -> None:
    """A busier recording takes longer and more disk; one of which nothing could be read has a wider range."""
    calm, busy, unseen = (estimated(crossings_Hz=rate) for rate in (1.0, 200.0, None))
    assert busy.wall_time_s.likely > calm.wall_time_s.likely
    assert busy.disk_inter_gb.likely > calm.disk_inter_gb.likely
    assert unseen.crossings_Hz is None
    assert unseen.disk_inter_gb.high / unseen.disk_inter_gb.low > calm.disk_inter_gb.high / calm.disk_inter_gb.low


def test_drift_is_reckoned_with_where_it_will_be_estimated() -> None:
    """The settings decide, and where they are silent the advice for the probe does."""
    assert estimated(kilosort_params={"nblocks": 1}).workload.tracks_drift
    assert not estimated(kilosort_params={"nblocks": 0}, n_channels=128).workload.tracks_drift
    assert estimated(n_channels=128).workload.tracks_drift
    assert not estimated(n_channels=4).workload.tracks_drift


# ------------------------------------------------------------------------------------------------- former sorts


@settings(max_examples=25, deadline=None)
@given(times=st.floats(0.2, 6.0), n_runs=st.integers(1, 12), size=st.floats(0.3, 3.0))
def test_former_sorts_correct_the_estimate(times: float, n_runs: int, size: float) -> None:
    """After sorts that all took x times as long, the estimate comes near x times, the nearer the more there were."""
    runs = [took(replace(WORK, duration_s=size * WORK.duration_s), times)] * n_runs
    before, after = pace_of(SORT, WORK, []), pace_of(SORT, WORK, runs)
    assert abs(math.log(after.factor / times)) <= abs(math.log(times)) / (1 + n_runs) + 1e-9
    assert after.log_spread < before.log_spread
    if n_runs > 1:
        assert after.log_spread < pace_of(SORT, WORK, runs[:1]).log_spread


def test_sorts_of_another_sorter_or_device_teach_nothing() -> None:
    """Only former sorts of this sorter on this device count, and one of another size counts less."""
    foreign = [took(replace(WORK, sorter="kilosort2"), 9.0), took(replace(WORK, device="cuda"), 9.0)]
    assert alike(WORK, foreign) == []
    near, far = (pace_of(SORT, WORK, [took(replace(WORK, duration_s=s), 4.0)]).factor for s in (600.0, 600_000.0))
    assert 1 < far < near < 4
    assert estimated(took(WORK, 2.0)).n_former_runs == 1


IMPOSSIBLE: tuple[dict[str, Any], ...] = (
    {"n_parallel": 0}, {"n_parallel": -1}, {"n_channels": "64"}, {"fs_Hz": None}, {"duration_s": float("inf")},
    {"spikes_Hz": float("nan")}, {"took_s": float("inf")}, {"took_s": -1.0},
)  # fmt: skip
"""Changes of a line with which nothing can be reckoned."""


def impossible(line: str, **change: Any) -> str:
    values = json.loads(line)
    if "took_s" in change:
        return json.dumps({**values, "took_s": dict.fromkeys(values["took_s"], change["took_s"])})
    return json.dumps({**values, "workload": {**values["workload"], **change}})


def test_what_is_remembered_is_short_and_forgiving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are torn, damaged, of another host or of another version are left out, and old lines go."""
    folder = tmp_path / "not there yet"
    for number in range(3):
        remember(took(WORK, 1.0 + number), folder)
    lines = (folder / NAME).read_text().splitlines()
    foreign = json.dumps({**json.loads(lines[0]), "host": "elsewhere"})
    wrong = [impossible(lines[0], **change) for change in IMPOSSIBLE]
    (folder / NAME).write_text("\n".join([*lines, foreign, lines[0][:40], "[]", '{"host": 1}', *wrong]) + "\n")
    assert [run.took_s[SORT] for run in former_runs(folder)] == [took(WORK, 1.0 + n).took_s[SORT] for n in range(3)]
    (folder / NAME).write_text("\n".join(lines * 300) + "\n")
    remember(took(WORK, 7.0), folder)
    assert len((folder / NAME).read_text().splitlines()) == 500
    assert former_runs(folder)[-1] == took(WORK, 7.0)
    monkeypatch.setenv("SPIKELAB_CACHE", "")
    remember(took(WORK, 1.0), cache_folder())
    assert former_runs(cache_folder()) == []


# ----------------------------------------------------------------------------------------------- what is counted


def test_crossings_are_counted_a_channel_and_second() -> None:
    """A hundred troughs in ten seconds on one of four channels are 2.5 crossings a second and channel."""
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 1, (200_000, 4)).astype("float32")
    for start in rng.permutation(1900)[:100] * 100 + 50:
        traces[start : start + 6, 2] -= 60
    windows = np.split(traces, 10)
    seen = activity(windows, 20_000.0)
    assert seen is not None
    assert seen.crossings_Hz == pytest.approx(2.5, rel=0.15)
    assert seen.seconds == 10
    assert activity([np.zeros((1000, 3), "int16")], 20_000.0) == Activity(0.0, 0.0, 0.05)
    assert activity([], 20_000.0) is None


def test_a_spike_is_seen_on_the_channels_around_it() -> None:
    """On a dense array a spike is on more channels than on a probe with contacts far from each other."""
    dense, sparse = (channels_of_a_spike(np.array([(s * k, 0.0) for k in range(9)])) for s in (10.0, 100.0))
    assert dense > 4
    assert sparse == 1


# ------------------------------------------------------------------------------------------------- falling behind


def test_a_stage_that_falls_behind_is_told_once() -> None:
    """A stage that will take more than three times the estimate is told at the first look that shows it, once."""
    throughput = Throughput({"sort": 100.0})
    slow = Progress("sort", "detection", 0.1, left_s=900.0)
    assert throughput.look(slow, 0.0) is None  # it has just begun: a first batch may be slow
    assert throughput.look(replace(slow, left_s=100.0), 70.0) is None
    lag = throughput.look(slow, 80.0)
    assert lag is not None
    assert (lag.stage, lag.expected_s, lag.times) == ("sort", 980.0, 9.8)
    assert throughput.look(slow, 90.0) is None
    assert throughput.lag is lag
    assert throughput.look(replace(slow, stage="waveforms"), 95.0) is None
    assert throughput.lag is None


@given(st.floats(70, 1e5), st.floats(0, 1e5))
def test_nothing_is_told_within_three_times_the_estimate(estimated_s: float, spent_s: float) -> None:
    """A stage that keeps below three times its estimate is none of anybody\'s business, and nor is one without."""
    throughput = Throughput({"sort": estimated_s})
    throughput.look(Progress("sort"), 0.0)
    lag = throughput.look(Progress("sort", left_s=0.0), spent_s)
    assert (lag is not None) == (spent_s >= COLLAPSED * estimated_s)
    assert Throughput({}).look(Progress("sort", left_s=1e9), 1e9) is None
