"""The reading of one recording, from the folders of its run alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from spikelab.cli.live.events import (
    Event,
    attempt_of,
    awaited,
    changes_in,
    estimated_s,
    of_last_run,
    share_of_sort,
    sort_frac,
    stage_by_events,
    stage_track,
    told_by_watch,
)
from spikelab.cli.live.gauges import read_gauges
from spikelab.cli.live.view import Failure, Kind, View, id_of
from spikelab.cli.outcomes import found_text
from spikelab.cli.output import local_time
from spikelab.cli.status import UNKNOWN, Standing, standing_of
from spikelab.spike_sorting.outcome import FAILED, INTERRUPTED, SKIPPED, SUCCESS, RecordingResult
from spikelab.spike_sorting.remarks import remarks_from
from spikelab.spike_sorting.report.plain import finite, mapping, read_json
from spikelab.spike_sorting.report.sorting_log import STAGES, parse_sorting_log
from spikelab.spike_sorting.roster import Roster
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.run_log import log_tail
from spikelab.spike_sorting.state import NOT_STARTED, RUNNING, UNFINISHED, run_of
from spikelab.spike_sorting.supervision import host

N_LOG_LINES = 20
_CONTINUES = "The same command continues where it stopped."
_SETTLED = frozenset({"sorted", "failed", "stopped"})

_Fields = dict[str, Any]


class Reader:
    """Reads one recording again and again; what has ended is read once, until something changes.

    Parameters
    ----------
    results : Path
        Its results folder, which need not be there yet.
    """

    def __init__(self, results: Path) -> None:
        self._run = RunFolder(results, results)
        self._seen: tuple[Any, View] | None = None

    def read(self, roster: Roster | None = None) -> View:
        """Return the recording as it stands now, see `view_of`."""
        files = (self._run.journal.path, self._run.report_json, self._run.report_html, self._run.report_markdown)
        seen = (*map(_version, files), roster.path if roster else None, roster.is_dead if roster else None)
        if self._seen is not None and self._seen[0] == seen and self._seen[1].kind in _SETTLED:
            return self._seen[1]
        view = view_of(self._run.results, roster)
        self._seen = (seen, view)
        return view


def _version(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


@dataclass(frozen=True)
class _Run:
    """The folders of a run, where it stands, and the events of its last call."""

    folder: RunFolder
    standing: Standing
    events: Sequence[Event]


def view_of(results: Path, roster: Roster | None = None) -> View:
    """Return the recording as it stands now.

    Parameters
    ----------
    results : Path
        Its results folder, which need not be there yet.
    roster : Roster or None, default None
        The batch in which it is.

    Raises
    ------
    OSError
        Something of it cannot be read.
    """
    standing, folder = standing_of(results), _folder_of(results)
    events = folder.journal.read() if standing.problem is None else []
    held_since = (standing.state.holder or {}).get("started_at")
    run = _Run(folder, standing, of_last_run(events, held_since))
    kind = _kind(standing, roster)
    return View(id=id_of(results), name=results.name, folder=str(results), kind=kind, **_READERS[kind](run))


def _folder_of(results: Path) -> RunFolder:
    try:
        return run_of(results)
    except FileNotFoundError:  # not begun, or the report of a recording that could not be read
        return RunFolder(results, results)


_KINDS: Mapping[str, Kind] = {
    SUCCESS: "sorted",
    INTERRUPTED: "stopped",
    SKIPPED: "stopped",
    UNFINISHED: "gone",
    NOT_STARTED: "unknown",
    UNKNOWN: "unknown",
}


def _kind(standing: Standing, roster: Roster | None) -> Kind:
    state = standing.state
    if state.status == RUNNING:
        return "gone" if host.is_dead(state.holder or {}) else "running"
    if roster is not None and _is_awaited(standing, roster):
        return "gone" if roster.is_dead else "waiting"
    return _KINDS.get(state.status, "failed")


def _is_awaited(standing: Standing, roster: Roster) -> bool:
    """Return whether the batch of `roster` still has to come to it; what is sorted will be found sorted."""
    state = standing.state
    if state.status in {SUCCESS, UNKNOWN}:
        return False
    last = max(filter(None, (state.started_at, state.ended_at)), default="")
    # After its batch has died, what an earlier one left to say counts more than that it was not begun.
    return last < roster.began_at and (not roster.is_dead or state.status == NOT_STARTED)


# ------------------------------------------------------------------------------------------------ by its kind


def _running(run: _Run) -> _Fields:
    progress = run.standing.state.progress if run.events else None
    holder = run.standing.state.holder or {}
    by = f"Process {holder.get('pid')} on {holder.get('hostname')}" if holder.get("pid") else "A process"
    since = f" since {_clock(holder['started_at'])}" if holder.get("started_at") else ""
    return {
        **_where(run, "now"),
        "status": "running",
        "step_left_s": progress.left_s if progress else None,
        "elapsed_s": _seconds_since(str(holder.get("started_at") or "")),
        "estimated_s": estimated_s(run.events),
        "sort_frac": sort_frac(run.events),
        "gpu": run.standing.state.gpu,
        # While it waits, the last readings are those of a worker that has ended.
        "gauges": tuple(read_gauges(run.folder)) if run.events and not awaited(run.events) else (),
        "log": _log_lines(run.folder) if run.events else (),
        "notes": (f"{by}{since}.",),
    }


def _gone(run: _Run) -> _Fields:
    """Tell of a run whose process is gone, or of a recording that its batch did not come to."""
    began = run.standing.state.status in {RUNNING, UNFINISHED}
    return {
        **(_where(run, "failed") if began else {}),
        "status": "did not finish" if began else "not begun",
        "log": _log_lines(run.folder) if began else (),
        "notes": (f"The process that ran this batch is gone. {_CONTINUES}",),
    }


def _waiting(run: _Run) -> _Fields:
    before = run.standing.state.status
    return {"status": "waiting" if before == NOT_STARTED else f"waiting to be tried again (was: {_words(before)})"}


def _sorted(run: _Run) -> _Fields:
    result = run.standing.result
    return {
        **_ended(run),
        "status": f"sorted: {found_text(result)}" if result else "sorted",
        "n_spikes": result.n_spikes if result else None,
    }


def _failed(run: _Run) -> _Fields:
    result, status = run.standing.result, run.standing.state.status
    stage = result.stage if result else None
    return {
        **_ended(run),
        "status": "failed" if status == FAILED else f"failed: {_words(status)}",
        "stages": stage_track(stage, "failed") if stage in STAGES else (),
        "log": _log_lines(run.folder),
        "failure": _failure(result) if result else None,
    }


def _stopped(run: _Run) -> _Fields:
    return {**_ended(run), "status": run.standing.state.status, "notes": (_CONTINUES,)}


def _unknown(run: _Run) -> _Fields:
    problem = run.standing.problem
    return {"status": run.standing.state.status, "notes": (problem,) if problem else ()}


_READERS: Mapping[Kind, Callable[[_Run], _Fields]] = {
    "running": _running,
    "waiting": _waiting,
    "sorted": _sorted,
    "failed": _failed,
    "stopped": _stopped,
    "gone": _gone,
    "unknown": _unknown,
}


# ------------------------------------------------------------------------------------------------------- parts


def _where(run: _Run, now: str) -> _Fields:
    """Return where a worker is or was, and what happened on the way."""
    progress = run.standing.state.progress if run.events else None
    waits_in, waits_for = awaited(run.events) or ("", "")
    stage = progress.stage if progress else waits_in or stage_by_events(run.events)
    return {
        "stage": stage,
        "step": progress.step if progress else waits_for,
        "fraction": progress.fraction if progress and progress.step else None,
        "n_spikes": progress.n_spikes if progress else None,
        "recorded_s": run.folder.recorded_s() or None,
        "stages": stage_track(stage, now),
        "attempt": attempt_of(run.events),
        "changes": changes_in(run.events),
        "warnings": (*_told_by_stages(run.folder, stage), *told_by_watch(run.events)),
    }


def _ended(run: _Run) -> _Fields:
    """Return what the report of a run says."""
    result, changes, has_report = run.standing.result, changes_in(run.events), run.standing.report is not None
    if result is None:
        return {"changes": changes, "has_report": has_report}
    return {
        "elapsed_s": max(result.wall_time_s, sum(result.stage_timings_s.values())),
        "sort_frac": share_of_sort(result.stage_timings_s),
        "recorded_s": finite(mapping(read_json(run.folder.report_json).get("recording")).get("duration_s")),
        "attempt": 1 + result.retries_used,
        "changes": changes,
        "warnings": tuple(dict.fromkeys(map(str, (*result.suspicions, *result.warnings)))),
        "has_report": has_report,
    }


def _failure(result: RecordingResult) -> Failure:
    where = f" in stage {result.stage}" if result.stage else ""
    return Failure(f"{result.error_class or 'Failed'}{where}", result.error_message or "", result.advice or "")


def _told_by_stages(folder: RunFolder, stage: str) -> Iterator[str]:
    """Return what the stages behind `stage` have found."""
    for name in STAGES[: STAGES.index(stage)] if stage in STAGES else ():
        summary = mapping((folder.read_marker(name) or {}).get("summary"))
        yield from map(str, remarks_from(summary.get("warnings") or ()))


def _log_lines(folder: RunFolder) -> tuple[str, ...]:
    """Return the last lines of the log, without what only a terminal understands."""
    return tuple(parse_sorting_log(log_tail(folder.log, N_LOG_LINES))["last_lines"])


def _words(status: str) -> str:
    return status.replace("_", " ")


def _seconds_since(utc: str) -> float | None:
    try:
        began = datetime.fromisoformat(utc)
        return max(0.0, round((datetime.now(timezone.utc) - began).total_seconds(), 1))
    except (ValueError, TypeError):
        return None


def _clock(utc: Any) -> str:
    try:
        return local_time(str(utc))
    except ValueError:
        return str(utc)
