"""The way of a recording, from a file to a report. Read this file first.

`STAGES` is the whole sort, in order. `run_recording` takes one job through it: under a lock, in fresh worker
processes, each finished stage kept, and a report at the end whatever happens.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from spikelab.spike_sorting import sources
from spikelab.spike_sorting._exceptions import IOStallError, RecordingUnreadableError
from spikelab.spike_sorting.attempts import run_phase
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.containers import leftovers
from spikelab.spike_sorting.canary import SCAN, send_canary
from spikelab.spike_sorting.conclusion import conclude, failed, found
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Outcome, RecordingResult, SortRunReport
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.run_folder import EXPORT
from spikelab.spike_sorting.schedule import turn
from spikelab.spike_sorting.stages import assemble, curate, export, load, review, sort, waveforms
from spikelab.spike_sorting.stages.overcome import Overcome
from spikelab.spike_sorting.stages.stage import Phase, Stage, ensure, keys_of
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.resources import Resources
from spikelab.spike_sorting.work import Observer, Work

__all__ = ["PHASES", "STAGES", "Observer", "RecordingResult", "SortRunReport", "is_finished", "run_recording"]

STAGES: tuple[Stage, ...] = (
    Stage("load", "prepare", load.VERSION, load.settings, load.run),
    Stage("sort", "sort", sort.VERSION, sort.settings, sort.run),
    Stage("waveforms", "finish", waveforms.VERSION, waveforms.settings, waveforms.run),
    Stage("assemble", "finish", assemble.VERSION, assemble.settings, assemble.run),
    Stage("curate", "finish", curate.VERSION, curate.settings, curate.run),
    Stage("review", "finish", review.VERSION, review.settings, review.run),
    Stage(EXPORT, "finish", export.VERSION, export.settings, export.run),
)
PHASES: tuple[Phase, ...] = tuple(dict.fromkeys(stage.phase for stage in STAGES))
"""Groups of stages; each group is the work of one fresh process."""

_BEGIN_S = 1800.0
"""Time for clean-up and for a look at the files of a recording, which may be a hundred thousand (s)."""

_RECOMPUTE = {
    "recompute_recording": "load",
    "recompute_sorting": "sort",
    "reextract_waveforms": "waveforms",
    "recurate_first": "curate",
    "recurate_second": "curate",
}


def run_recording(
    job: Job,
    *,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
    resources: Resources | None = None,
    run_id: str | None = None,
) -> Outcome:
    """Sort one recording, or find that it is sorted already; always return an outcome.

    Parameters
    ----------
    job : Job
        What to sort, and how.
    observer : callable or None, default None
        Called a few times a second with the progress.
    stop : Event or None, default None
        When set, the worker is stopped and the outcome is "interrupted".
    resources : Resources or None, default None
        Shared by recordings in flight together; None: it is alone.
    run_id : str or None, default None
        Cookie of its processes; None: a new one. ``RUN.TRY`` takes the folders over from earlier tries of the same run.
    """
    work = Work(
        job,
        STAGES,
        run_id or uuid.uuid4().hex,
        time.monotonic(),
        observer,
        stop or threading.Event(),
        remarks=list(job.remarks),
        resources=resources or Resources(),
    )
    try:
        _check_places(work)
        with hold((job.run.inter, job.run.results), work.run_id) as locks:
            return _run_locked(replace(work, locks=locks))
    except Exception as error:  # noqa: BLE001 - the boundary: one outcome per recording, whatever happens
        return Outcome(failed(work, error), error)


def is_finished(job: Job) -> bool:
    """Return whether the same call was finished before, so that nothing is left to do.

    What cannot be read is not finished: what is wrong with it is found again, and told, when it is the job's turn.
    """
    if job.problem is not None or _to_recompute(job):
        return False
    try:
        return _was_finished(job)
    except (OSError, RecordingUnreadableError):
        return False


def _was_finished(job: Job) -> bool:
    if not job.run.reported_success():
        return False
    return job.run.is_done(EXPORT, keys_of(STAGES, job.on_disk())[EXPORT])


def _check_places(work: Work) -> None:
    """Raise what makes it impossible even to report: a disk that does not answer, a recording without a folder."""
    job = work.job
    if isinstance(job.problem, IOStallError):
        raise job.problem  # known already: not waited for again
    if silent := work.stall(*job.places):
        raise silent
    if job.problem is not None and not job.run.results.parent.parent.is_dir():
        # The recording's own folder is missing: none is made up for a report.
        raise job.problem


def _run_locked(work: Work) -> Outcome:
    """Find the job finished, or run what is not, and report."""
    limit_s = _begin_limit_s(work.job)
    try:
        work = work.patiently(partial(_identified, work), limit_s)
        if work.patiently(partial(_is_finished, work)):
            return work.patiently(partial(found, work), limit_s)
        work.patiently(partial(_open_run, work), limit_s)
        for phase in PHASES:
            if work.unfinished(phase):
                if phase == "sort":
                    send_canary(work)
                _run_phase(work, phase)
                work.patiently(partial(_check_unchanged, work), limit_s)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - reported here, raised by the caller
        return conclude(work, error)
    return conclude(work)


def _begin_limit_s(job: Job) -> float:
    """Return how long the beginning may take: one that lives in this process is read and saved here, in any time."""
    return threading.TIMEOUT_MAX if job.in_memory is not None else _BEGIN_S


def _identified(work: Work) -> Work:
    """Return the work, cleaned up and claimed, with the keys of its stages, and nothing that is to be redone."""
    job = work.job
    _remove_container(work)
    job.run.remove_leftovers()
    job.run.claim(job.source.owner_card())
    if job.problem is not None:
        raise job.problem
    job = job.on_disk()
    _forget(job, _to_recompute(job))
    identity = sources.identity(job.source)
    return replace(work, job=job, keys=keys_of(STAGES, job, identity), identity=identity)


def _remove_container(work: Work) -> None:
    """End a container that an earlier run of these folders left; we hold their locks, so that nobody else needs it."""
    failures = (leftovers.sweep(note) for note in work.job.run.container_notes)
    work.remarks.extend(remark("container-left", why_not) for why_not in failures if why_not is not None)


def _check_unchanged(work: Work) -> None:
    """Raise when the recording is no longer the one that the run began with: its results are those of neither."""
    now = sources.identity(work.job.source)
    if now == work.identity:
        return
    if sources.content(now) == sources.content(work.identity):
        touched = remark("file-touched", f"{work.job.path} was touched while it was sorted")
        work.remarks += [] if touched in work.remarks else [touched]
        return
    work.job.run.forget([EXPORT])
    msg = f"{work.job.path} changed while it was sorted; expected a file that is complete. Sort it again once it is"
    raise RecordingUnreadableError(msg, path=work.job.path)


def _forget(job: Job, names: list[str]) -> None:
    """Remove the markers of the stages `names`, with everything from which they could be taken up again."""
    job.run.forget(names)
    if "load" in names:
        job.run.remove_binary()
    if "sort" in names:
        job.run.remove_checkpoints()


def _to_recompute(job: Job) -> list[str]:
    """Return the stages whose results the user wants to be made again, with all that depend on them."""
    names = [stage.name for stage in STAGES]
    asked = [names.index(stage) for flag, stage in _RECOMPUTE.items() if getattr(job.config.execution, flag)]
    return names[min(asked) :] if asked else []


def _is_finished(work: Work) -> bool:
    return work.job.run.is_done(EXPORT, work.keys[EXPORT]) and work.job.run.reported_success()


def _run_phase(work: Work, phase: Phase) -> None:
    """Do the unfinished stages of `phase`, in workers, or in this process for debugging."""
    if work.job.config.execution.runner == "inline":
        with turn(work, phase, work.job.config), host.numbering_gpus_as_a_worker():
            run_stages(work.job, work.keys, phase, work.run_id)
    else:
        run_phase(work, phase)


def run_stages(
    job: Job,
    keys: Mapping[str, str],
    phase: Phase,
    run_id: str | None = None,
    overcome: Overcome | None = None,
) -> None:
    """Run the unfinished stages of `phase` in this process, for as long as the folders are those of `run_id`.

    The first of them is where an earlier attempt has failed: it notes what was `overcome`.
    """
    for stage in (*STAGES, SCAN):
        if stage.phase == phase and ensure(stage, job, keys[stage.name], run_id, overcome):
            overcome = None


# ------------------------------------------------------------------------------------------ begin and end


def _open_run(work: Work) -> None:
    """Put what the worker reads on disk, and leave in the results folder what a person wants to know later."""
    job, run = work.job, work.job.run
    if job.in_memory is not None:
        sources.save_in_memory(job.in_memory, job.source)
    # What lies in the results folder no longer is what these settings give; without a report, nothing is fine.
    run.forget([EXPORT])
    run.remove_reports()
    work.n_threads = _threads(work)
    publish_json(run.config_used, _config_used(work))
    run.progress.unlink(missing_ok=True)
    work.note("run_started", run_id=work.run_id, recording=job.path, sorter=job.config.sorter.sorter_name)
    if job.estimate is not None:
        wall_time_s, stages_s = asdict(job.estimate.wall_time_s), dict(job.estimate.stages_s)
        work.note("estimated", wall_time_s=wall_time_s, stages_s=stages_s)


def _threads(work: Work) -> int:
    """Return how many threads each worker has: as many as in an earlier call, since sums depend on them."""
    before = work.job.run.threads_used()
    if before is not None and before <= host.usable_cores():
        return before
    return work.resources.n_threads or host.free_cores()


def _config_used(work: Work) -> dict[str, Any]:
    from importlib.metadata import version

    from spikelab import __version__

    name = work.job.config.sorter.sorter_name
    return {
        "schema": 1,
        "spikelab": __version__,
        "python": sys.version.split()[0],
        "sorter": name,
        "sorter_version": get_backend(name).installed(work.job.config),
        "packages": {package: version(package) for package in ("spikeinterface", "numpy")},
        "threads": work.n_threads,
        "config": work.job.config.to_dict(),
    }
