"""What came of a run: its record, its report, and which of its files stay."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from spikelab.spike_sorting._exceptions import ConcurrentSortError, IOStallError
from spikelab.spike_sorting.forecast.history import FormerRun, remember_here
from spikelab.spike_sorting.forecast.model import OTHER, SORT, WAVEFORMS
from spikelab.spike_sorting.outcome import SUCCESS, Outcome, RecordingResult, describe_error
from spikelab.spike_sorting.remarks import Remark, remark, remarks_from
from spikelab.spike_sorting.report import write_report
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.run_log import settle_log, settled_log
from spikelab.spike_sorting.work import Work

_REPORT_S, _INTERRUPTED_S = 1800.0, 30.0
"""Time for a report (s): of a thousand units on a slow share, and for somebody who has pressed Ctrl-C."""

_log = logging.getLogger(__name__)


def conclude(work: Work, error: BaseException | None = None) -> Outcome:
    """Return what came of a run that ended with `error`, or well, reported; folders that hang are waited for no longer.

    Parameters
    ----------
    work : Work
        The run.
    error : BaseException or None, default None
        What it failed with.
    """
    run = work.job.run
    if silent := work.stall(run.results):
        return _unreported(work, error or silent)
    if silent := work.stall(run.inter):
        # What there is to report lies beside the report, but for the numbers of the stages.
        run = RunFolder(run.results, run.results)
        error = error or silent
    try:
        limit_s = _INTERRUPTED_S if isinstance(error, KeyboardInterrupt) else _REPORT_S
        return work.patiently(lambda: _concluded(work, run, error), limit_s)
    except IOStallError as stalled:
        return _unreported(work, error or stalled)


def _unreported(work: Work, error: BaseException) -> Outcome:
    outcome = Outcome(failed(work, error), error)
    found = f"there is no report of this run: {work.job.run.results} does not answer"
    return _with_warning(outcome, remark("report-missing", found))


def _concluded(work: Work, run: RunFolder, error: BaseException | None) -> Outcome:
    """Write the report, for failures too, and remove what a finished sort no longer needs."""
    try:
        run.check_still_ours(work.run_id)
    except ConcurrentSortError as taken:  # that run reports
        return Outcome(failed(work, taken), taken)
    outcome = _outcome(work, error)
    result = outcome.result
    outcome = _reported(work, run, outcome)
    # Last: whoever reads of an end in the journal finds the report.
    work.note("run_ended", status=result.status, wall_time_s=result.wall_time_s)
    if not work.all_noted():
        found = f"{run.journal.path.name} lacks what happened last: the disk is slow"
        outcome = _with_warning(outcome, remark("journal-incomplete", found))
    # Without its report a sort does not count as finished: what it would go on from must stay.
    if result.succeeded and _is_reported(run):
        outcome = _tidied(work, outcome)
        if (former := _as_former_run(work, result)) is not None:
            remember_here(former)
    return outcome


def _outcome(work: Work, error: BaseException | None) -> Outcome:
    """Return what there is to report: a success of which the disk no longer tells is none."""
    if error is None:
        try:
            return Outcome(succeeded(work))
        except OSError as unreadable:
            error = unreadable
    return Outcome(failed(work, error), error)


def _is_reported(run: RunFolder) -> bool:
    try:
        return run.reported_success()
    except OSError:
        return False


def _as_former_run(work: Work, result: RecordingResult) -> FormerRun | None:
    """Return what later estimates learn from this run, or None where it did only a part of the work, or more."""
    timings, took_s = result.stage_timings_s, result.wall_time_s
    # A wait for others says nothing of the work.
    rest_s = max(0.0, took_s - timings.get(SORT, 0.0) - timings.get(WAVEFORMS, 0.0) - sum(work.waits_s))
    phases = [attempt.phase for attempt in result.attempts]
    is_whole = sorted(phases) == sorted({stage.phase for stage in work.stages}) and sum(timings.values()) <= took_s
    if work.job.estimate is None or not is_whole:
        return None
    timed = {SORT: timings.get(SORT, 0.0), WAVEFORMS: timings.get(WAVEFORMS, 0.0), OTHER: rest_s}
    return FormerRun(work.job.estimate.workload, timed)


def _tidied(work: Work, outcome: Outcome) -> Outcome:
    """Remove what is no longer needed; what cannot be removed is no reason to lose a result."""
    settle = partial(settle_log, work.job.run.log, work.job.config.execution.tee_log_policy)
    return _with(partial(_tidy, work), _with(settle, outcome))


def _with(removal: Callable[[], None], outcome: Outcome) -> Outcome:
    """Return the outcome after `removal`, which may fail."""
    try:
        removal()
    except OSError as error:
        return _with_warning(outcome, remark("files-left", f"some files could not be removed: {error}"))
    return outcome


def _with_warning(outcome: Outcome, warning: Remark) -> Outcome:
    return replace(outcome, result=replace(outcome.result, warnings=(*outcome.result.warnings, warning)))


def _reported(work: Work, run: RunFolder, outcome: Outcome) -> Outcome:
    """Write the report and return the outcome; a page that cannot be drawn costs neither a result nor its error."""
    try:
        write_report(run, outcome.result, with_pages=work.job.config.execution.generate_sorting_report)
    except Exception as error:  # noqa: BLE001 - told in the log and in the result
        _log.exception("the report of %s could not be written", work.job.path)
        found = f"the report is incomplete: {type(error).__name__}: {error}"
        return _with_warning(outcome, remark("report-incomplete", found))
    return outcome


def _tidy(work: Work) -> None:
    """Remove what a finished sort no longer needs."""
    run, execution = work.job.run, work.job.config.execution
    run.remove_checkpoints()
    run.remove_scratch()
    if not execution.keep_binary:
        run.remove_binary()
    if execution.delete_inter:
        run.remove_inter()


def found(work: Work) -> Outcome:
    """Return what came of an earlier call, which is still valid, without the files that it no longer needs."""
    values = json.loads(work.job.run.report_json.read_text(encoding="utf-8"))
    result = replace(RecordingResult.from_dict(values), wall_time_s=work.seconds(), attempts=())
    # The folders may have been moved since, and the settings of what stays be others.
    here = replace(result, rec_name=work.job.name, rec_path=work.job.path, results_folder=str(work.job.run.results))
    return _tidied(work, Outcome(_with_files(work, here)))


def succeeded(work: Work) -> RecordingResult:
    """Return the record of a run of which every stage is finished."""
    markers = {stage.name: work.job.run.read_marker(stage.name) for stage in work.stages}
    present = {name: marker for name, marker in markers.items() if marker is not None}
    summary = present[EXPORT]["summary"]
    return replace(
        _with_files(work, _result(work, SUCCESS)),
        n_units=summary["n_units"],
        n_curated_units=summary["n_curated_units"],
        n_spikes=summary["n_spikes"],
        stage_timings_s={name: marker["wall_time_s"] for name, marker in present.items()},
        suspicions=_told_by_stages(work, present, "suspicions"),
        warnings=_warnings(work, present),
    )


def _with_files(work: Work, result: RecordingResult) -> RecordingResult:
    """Return the result with those of its files that stay after a success, where they will lie then."""
    run, execution = work.job.run, work.job.config.execution
    log = settled_log(run.log, execution.tee_log_policy)
    has_analyzer = run.analyzer.is_dir() and not execution.delete_inter
    return replace(
        result,
        log_path=None if log is None else str(log),
        analyzer_folder=str(run.analyzer) if has_analyzer else None,
    )


def failed(work: Work, error: BaseException) -> RecordingResult:
    """Return the record of a run that ended with `error`; nothing that its folders do not tell at once."""
    described = describe_error(error)
    progress = work.progress()
    stage = getattr(error, "stage", None) or (progress.stage if progress else None)
    markers = {stage.name: work.marker(stage.name) or {} for stage in work.stages}
    warnings = _warnings(work, markers)
    return replace(_result(work, described.pop("status")), stage=stage, warnings=warnings, **described)


def _warnings(work: Work, markers: Mapping[str, Mapping[str, Any]]) -> tuple[Remark, ...]:
    """Return what the stages have left, and what this call has met: a retry is both, and told once."""
    return tuple(dict.fromkeys((*_told_by_stages(work, markers, "warnings"), *work.remarks)))


def _told_by_stages(work: Work, markers: Mapping[str, Mapping[str, Any]], what: str) -> tuple[Remark, ...]:
    """Return the remarks that the stages of this run have left in their `markers`."""
    told: list[Remark] = []
    for name, marker in markers.items():
        # A marker of another key is that of an earlier run, on which this one does not build.
        if marker.get("key") is not None and marker.get("key") == work.keys.get(name):
            told += remarks_from(marker["summary"].get(what, ()))
    return tuple(told)


def _result(work: Work, status: str) -> RecordingResult:
    free = [value for name, value in work.peaks.items() if name.startswith("disk_free")]
    return RecordingResult(
        rec_name=work.job.name,
        rec_path=work.job.path,
        results_folder=str(work.job.run.results),
        status=status,
        wall_time_s=work.seconds(),
        log_path=str(work.job.run.log),
        estimated_s=asdict(work.job.estimate.wall_time_s) if work.job.estimate else None,
        attempts=tuple(work.attempts),
        retries_used=len(work.attempts) - len({attempt.phase for attempt in work.attempts}),
        peak_host_ram_pct=work.peaks.get("host_ram_pct"),
        peak_gpu_used_pct=work.peaks.get("gpu_used_pct"),
        min_disk_free_gb=min(free, default=None),
    )
