"""What each recording of a batch will take on this machine, with the uncertainty of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from spikelab.spike_sorting.backends.kilosort4.advisor import recommend_settings
from spikelab.spike_sorting.costs import Estimate, Range, Workload
from spikelab.spike_sorting.forecast.history import FormerRun, Pace, alike, pace_of
from spikelab.spike_sorting.forecast.model import stage_seconds
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import Header, RecordingFacts, reckoning_with
from spikelab.spike_sorting.preflight.gpu_choice import device_of
from spikelab.spike_sorting.preflight.projection import Projection, project

PROBE_S = 30.0
"""Seconds of a recording by which its activity is judged when somebody asks what a sort will take."""
_OF_FIVE = 1.2816
"""Standard deviations of a normal distribution within which four values of five lie."""
_SPIKES_SPREAD = 0.5
"""Standard deviation of the logarithm of spikes found, given the crossings that were counted."""
_OF_PROJECTION = 0.55
"""What sorts have taken of the memory that was projected, at least: projections are rather too high."""


def estimates_of(batch: Batch, runs: Sequence[FormerRun] = ()) -> dict[Path, Estimate]:
    """Return the estimate for each job by its results folder; without recordings that cannot be opened.

    Parameters
    ----------
    batch : Batch
        The recordings and the machine.
    runs : sequence of FormerRun
        What sorts took on this machine.
    """
    known = (facts for facts in batch.recordings if facts.header is not None and facts.header.n_samples)
    return {facts.job.run.results: _estimate(facts, facts.header, batch, runs) for facts in known if facts.header}


def _estimate(facts: RecordingFacts, header: Header, batch: Batch, runs: Sequence[FormerRun]) -> Estimate:
    job, activity = facts.job, facts.activity
    measured = facts.spikes_per_channel_s
    likely_rate = header.spikes_per_channel_s / 2 if measured is None else measured
    off = math.exp(_OF_FIVE * math.hypot(_SPIKES_SPREAD, activity.spread if activity else 1.0))
    rates = Range(likely_rate / off, likely_rate, likely_rate * off)
    work = _workload(job, header, batch, rates.likely * header.n_channels)
    used = alike(work, runs)
    paces = {stage: pace_of(stage, work, used) for stage in stage_seconds(work)}
    disk_and_memory = _projections(job, header, batch, rates)
    return Estimate(
        name=job.name,
        results_folder=str(job.run.results),
        workload=work,
        crossings_Hz=activity.crossings_Hz if activity else None,
        probe_s=activity.seconds if activity else 0.0,
        wall_time_s=_wall_time(work, rates, paces),
        stages_s={stage: round(_seconds(stage, work, paces), 3) for stage in paces},
        disk_inter_gb=_range(disk_and_memory, lambda one: one.disk_inter_gb),
        disk_results_gb=_range(disk_and_memory, lambda one: one.disk_results_gb),
        ram_gb=_memory(_range(disk_and_memory, lambda one: one.ram_gb)),
        vram_gb=_memory(_range(disk_and_memory, lambda one: one.vram_gb)) if work.device == "cuda" else None,
        n_former_runs=len(used),
    )


def _workload(job: Job, header: Header, batch: Batch, spikes_Hz: float) -> Workload:
    return Workload(
        sorter=job.config.sorter.sorter_name,
        device=device_of(batch, job),
        n_channels=header.n_channels,
        fs_Hz=header.fs_Hz,
        duration_s=header.duration_s,
        spikes_Hz=spikes_Hz,
        tracks_drift=_tracks_drift(job, header),
        n_parallel=min(batch.n_parallel, len(batch.recordings)),
    )


def _tracks_drift(job: Job, header: Header) -> bool:
    """Return whether Kilosort4 will estimate drift: as the settings say, or as is advised for the probe."""
    params = job.config.sorter.sorter_params
    if job.config.sorter.sorter_name != "kilosort4":
        return False
    if "nblocks" in params or not params.get("advise", True) or header.locations_um is None:
        return int(params.get("nblocks", 1)) > 0
    places = header.locations_um
    probe = {"xc": places[:, 0], "yc": places[:, 1], "kcoords": header.shanks}
    try:
        advised = recommend_settings(probe, header.fs_Hz, header.duration_s, given=params).values
    except ValueError:  # a probe that no sorter can make sense of, which the checks tell
        return True
    return int(advised.get("nblocks", 1)) > 0


# --------------------------------------------------------------------------------------------------------- time


def _wall_time(work: Workload, rates: Range, paces: dict[str, Pace]) -> Range:
    def total(spikes: float, deviations: float) -> float:
        known = replace(work, spikes_Hz=spikes * work.n_channels)
        factors = {stage: math.exp(deviations * pace.log_spread) for stage, pace in paces.items()}
        return sum(factors[stage] * _seconds(stage, known, paces) for stage in paces)

    return Range(total(rates.low, -_OF_FIVE), total(rates.likely, 0.0), total(rates.high, _OF_FIVE))


def _seconds(stage: str, work: Workload, paces: dict[str, Pace]) -> float:
    return paces[stage].factor * stage_seconds(work)[stage]


# ---------------------------------------------------------------------------------------------- disk and memory


def _projections(job: Job, header: Header, batch: Batch, rates: Range) -> tuple[Projection, Projection, Projection]:
    """Return what is projected with few, the likely number of and many spikes."""
    free_bytes = batch.machine.available_ram_bytes()
    low, likely, high = (
        project(job, reckoning_with(header, rate), free_bytes) for rate in (rates.low, rates.likely, rates.high)
    )
    return low, likely, high


def _range(projections: tuple[Projection, Projection, Projection], read: Callable[[Projection], float]) -> Range:
    # Many spikes are left on disk, so that a sort with more of them may take less memory.
    return Range(min(map(read, projections)), read(projections[1]), max(map(read, projections)))


def _memory(projected: Range) -> Range:
    middle = (1 + _OF_PROJECTION) / 2
    return Range(_OF_PROJECTION * projected.low, middle * projected.likely, projected.high)
