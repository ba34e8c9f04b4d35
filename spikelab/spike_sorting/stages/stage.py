"""What a stage is: a name, the settings it reads, and a function that fills a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spikelab.spike_sorting import sources
from spikelab.spike_sorting._settings import digest
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.stages.overcome import Overcome
from spikelab.spike_sorting.supervision.progress import ProgressFile

_log = logging.getLogger(__name__)

Phase = Literal["prepare", "sort", "finish", "scan"]
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class StageRun:
    """What a stage is given.

    Parameters
    ----------
    job : Job
        The recording and its settings.
    folder : Path
        Empty folder to write into; it becomes the stage's folder when the stage returns.
    progress : ProgressFile
        Where to say how far it is.
    """

    job: Job
    folder: Path
    progress: ProgressFile


@dataclass(frozen=True)
class Stage:
    """One step of a sort.

    Parameters
    ----------
    name : str
        Name of the step and of its folder.
    phase : {"prepare", "sort", "finish", "scan"}
        Worker process that does it.
    version : int
        Raised by hand when its output changes for the same input.
    settings : callable
        Returns the settings that it reads, as plain values: a change of one runs it again.
    run : callable
        Does the work and returns a summary for the marker.
    """

    name: str
    phase: Phase
    version: int
    settings: Callable[[SortingPipelineConfig], Any]
    run: Callable[[StageRun], Summary]


def stage_keys(
    stages: Sequence[Stage],
    config: SortingPipelineConfig,
    identity: Mapping[str, Any],
    location: Mapping[str, Any],
) -> dict[str, str]:
    """Return the key of each stage: it changes with the input, and with all that the stage and those before it read.

    Only the first stage, which notes down where the input is, depends on its `location`: a folder of data that
    was moved as a whole keeps its results.
    """
    keys: dict[str, str] = {}
    upstream = digest(identity)
    for stage in stages:
        upstream = digest([upstream, stage.name, stage.version, stage.settings(config)])
        keys[stage.name] = upstream if keys else digest([upstream, location])
    return keys


def keys_of(stages: Sequence[Stage], job: Job, identity: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the key of each stage of `job`, whose recording is on disk.

    Parameters
    ----------
    stages : sequence of Stage
        The stages that build on one another.
    job : Job
        The recording and its settings.
    identity : mapping or None, default None
        What tells the recording from others; None has its files looked at.
    """
    known = sources.identity(job.source) if identity is None else identity
    return stage_keys(stages, job.config, known, job.source.to_dict())


def ensure(stage: Stage, job: Job, key: str, run_id: str | None = None, overcome: Overcome | None = None) -> bool:
    """Run `stage` unless it is finished under `key`, and note what was `overcome` for it; return whether it ran.

    Raises
    ------
    ConcurrentSortError
        The folders are no longer those of the run `run_id`.
    """
    if job.run.is_done(stage.name, key):
        return False
    job.run.forget([stage.name])
    partial = job.run.fresh_partial(stage.name)
    progress = ProgressFile(job.run.progress, stage.name)
    progress.report("")
    job.run.journal.write("stage_started", stage=stage.name)
    _log.info("stage %s", stage.name)
    started = time.monotonic()
    summary = stage.run(StageRun(job, partial, progress))
    seconds = time.monotonic() - started
    summary = summary if overcome is None else overcome.noted_in(summary)
    job.run.finish(stage.name, key, partial, seconds, summary, run_id)
    job.run.journal.write("stage_finished", stage=stage.name, wall_time_s=round(seconds, 3))
    return True
