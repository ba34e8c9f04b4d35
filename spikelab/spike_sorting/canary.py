"""The canary: sort the first seconds of a recording, so that what fails at once does not fail after hours.

A classified failure of the canary is the recording's. Running out of memory in so short a window, and failures
that nobody has classified, say little about the whole sort: they are remarked upon and do not stop it.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from spikelab.spike_sorting import sources
from spikelab.spike_sorting._exceptions import (
    GpuMemoryWatchdogError,
    GPUOutOfMemoryError,
    HostMemoryWatchdogError,
    HostOutOfMemoryError,
    InsufficientActivityError,
    IOStallError,
    SpikeSortingClassifiedError,
    UnclassifiedSortError,
)
from spikelab.spike_sorting.attempts import run_phase
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages import scan
from spikelab.spike_sorting.stages.stage import Phase, Stage, keys_of
from spikelab.spike_sorting.supervision.progress import Progress
from spikelab.spike_sorting.work import Observer, Use, Work

_log = logging.getLogger(__name__)

_SAY_LITTLE = (
    GPUOutOfMemoryError,
    HostOutOfMemoryError,
    GpuMemoryWatchdogError,
    HostMemoryWatchdogError,
    UnclassifiedSortError,
)
"""Failures of so short a window that say little about the whole recording."""
_PHASES: tuple[Phase, ...] = ("prepare", "sort")
_AS_LOADED: dict[str, Any] = {
    "first_n_mins": None,
    "mea_y_max": None,
    "rec_chunks": None,
    "rec_chunks_s": None,
    "gain_to_uv": None,
    "offset_to_uv": None,
    "bad_channels": None,
    "stim_times_ms": None,
    "rt_sort_recording_window_ms": None,
}
"""Settings of the whole recording that its description has already, or that mean nothing within the window."""

SCAN = Stage("scan", "scan", scan.VERSION, scan.settings, scan.run)
"""Done only when the first seconds are silent; nothing depends on it."""


def send_canary(work: Work) -> None:
    """Sort the first seconds of a loaded recording, when that is asked for and the recording is long enough.

    Raises
    ------
    SpikeSortingClassifiedError
        The canary failed in a way in which the whole sort would fail too.
    """
    execution = work.job.config.execution
    seconds = execution.canary_first_n_s
    if seconds <= 0 or work.patiently(work.job.run.recorded_s) < max(seconds, execution.canary_min_recording_s):
        return
    with _telling_little(work, _SAY_LITTLE):
        try:
            _try(work, 0.0, seconds)
        except InsufficientActivityError as silent:
            start_s = _busiest_start_s(work)
            if start_s is not None:
                work.note("canary_silent", error=str(silent), next_start_s=start_s)
                _try(work, start_s, seconds)


@contextmanager
def _telling_little(work: Work, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn failures of these kinds into a remark."""
    try:
        yield
    except kinds as error:
        found = f"the canary failed ({type(error).__name__}: {error}); the whole recording was sorted all the same"
        _log.warning("%s", found)
        work.remarks.append(remark("canary-failed", found))


def _busiest_start_s(work: Work) -> float | None:
    """Return where the busiest seconds begin, or None where that cannot be found out: that is no canary's failure.

    A worker finds it: the recording is read there and not here.
    """
    job, found = work.job, None
    keys = keys_of((work.stages[0], SCAN), job, work.identity)
    with _telling_little(work, (SpikeSortingClassifiedError, UnclassifiedSortError)):
        run_phase(replace(work, stages=(SCAN,), keys=keys, attempts=[]), SCAN.phase)
        found = work.patiently(lambda: job.run.read_marker(SCAN.name))
    return float(found["summary"]["start_s"]) if found else None


def _try(work: Work, start_s: float, seconds: float) -> None:
    """Sort one window in folders of its own."""
    canary = work.patiently(lambda: _work_on_window(work, start_s, start_s + seconds))
    work.note("canary_started", start_s=start_s, duration_s=seconds)
    try:
        for phase in _PHASES:
            run_phase(canary, phase)
    finally:
        work.note("canary_ended", attempts=[attempt.status for attempt in canary.attempts])
        work.remarks += [told for told in canary.remarks if told.code == "container-left"]
        with suppress(IOStallError, OSError):
            work.patiently(lambda: _clear(canary.job.run))


def _clear(run: RunFolder) -> None:
    """Remove the folder of the canary, but for what tells of a container that is left: by that it is ended later."""
    if run.container_note.exists():
        run.remove_inter()
    else:
        shutil.rmtree(run.inter, ignore_errors=True)


def on_window(config: SortingPipelineConfig, start_s: float, end_s: float) -> SortingPipelineConfig:
    """Return the settings of a sort of a window of a recording that was loaded with `config`, and needs no more of it.

    Parameters
    ----------
    config : SortingPipelineConfig
        Of the whole sort.
    start_s, end_s : float
        The window, in the recording as it was loaded (s).
    """
    return config.override(
        **_AS_LOADED, start_time_s=start_s or None, end_time_s=end_s, oom_retry_max=0, canary_first_n_s=0.0
    )


def _work_on_window(work: Work, start_s: float, end_s: float) -> Work:
    """Return the same sort of a window of the loaded recording, in folders below the run's own."""
    loaded = json.loads(work.job.run.recording.read_text(encoding="utf-8"))["recording"]
    source = sources.Source(description=json.dumps(loaded, sort_keys=True))
    folder = work.job.run.canary
    config = on_window(work.job.config, start_s, end_s)
    job = Job("canary", source, RunFolder(folder, folder / "results"), config)
    job.run.results.mkdir(parents=True, exist_ok=True)
    keys = keys_of(work.stages, job)
    told = None if work.observer is None else partial(_tell_of, work.observer, work.job)
    return replace(work, job=job, observer=told, keys=keys, started_s=time.monotonic(), attempts=[], remarks=[])


def _tell_of(observer: Observer, job: Job, _canary: Job, progress: Progress, use: Use) -> None:
    """Tell how far the canary of `job` is: who looks on knows recordings alone."""
    observer(job, replace(progress, step=f"canary, {progress.step}" if progress.step else "canary"), use)
