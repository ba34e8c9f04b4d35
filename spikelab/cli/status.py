"""``spikelab status``: where the sort of each results folder stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from spikelab.cli.outcomes import failed_text, found_text, page_of
from spikelab.cli.output import ExitCode, counted, local_time, make_console, say, say_whole, short_path
from spikelab.cli.progress import position_text
from spikelab.cli.results import find_results
from spikelab.spike_sorting.outcome import INTERRUPTED, SKIPPED, SUCCESS, RecordingResult
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.state import RUNNING, UNFINISHED, RunState, run_state, status_of

UNKNOWN = "unknown"
_CONTINUES = "the same command continues where it stopped"


@dataclass(frozen=True)
class Standing:
    """A results folder and what is known of it.

    Parameters
    ----------
    folder : Path
        Results folder.
    state : RunState
        Where its run stands.
    result : RecordingResult or None
        The last report, where it is that of this state.
    problem : str or None
        Why its state cannot be told.
    """

    folder: Path
    state: RunState
    result: RecordingResult | None = None
    problem: str | None = None

    @property
    def report(self) -> Path | None:
        """The page or the note for people."""
        return page_of(RunFolder(self.folder, self.folder))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        holder, result = self.state.holder, self.result
        keys = ("pid", "hostname", "started_at")
        return {
            "results_folder": str(self.folder),
            "status": self.state.status,
            "problem": self.problem,
            "holder": None if holder is None else {key: holder.get(key) for key in keys},
            "progress": asdict(self.state.progress) if self.state.progress else None,
            "gpu": self.state.gpu,
            "started_at": self.state.started_at,
            "ended_at": self.state.ended_at,
            "n_units": result.n_units if result else None,
            "n_curated_units": result.n_curated_units if result else None,
            "error_message": result.error_message if result else None,
            "report": str(self.report) if self.report else None,
        }


def tell_status(folders: Sequence[Path], *, as_json: bool) -> int:
    """Print where each results folder in or below `folders` stands; return the exit code."""
    console = make_console()
    standings = [standing_of(folder) for folder in find_results(folders)]
    if as_json:
        say_whole(console, json.dumps([one.to_dict() for one in standings], indent=2, allow_nan=False))
        return ExitCode.DONE
    for standing in standings:
        say(console, Text("\n").join(_lines(standing)))
    if len(standings) > 1:
        say(console, _summary(standings), style="bold")
    return ExitCode.DONE


def standing_of(folder: Path) -> Standing:
    """Return where the results folder `folder` stands; what cannot be read is said, not raised."""
    try:
        state = _state(folder)
    except OSError as error:
        return Standing(folder, RunState(UNKNOWN), problem=f"{error.strerror} ({error.filename})")
    result = _read_result(RunFolder(folder, folder).report_json)
    return Standing(folder, state, result if result and result.status == state.status else None)


def _state(folder: Path) -> RunState:
    try:
        return run_state(folder)
    except FileNotFoundError:
        # A recording that could not be read leaves a report, but no claim on the folder.
        events = RunFolder(folder, folder).journal.read()
        ended = [event["time"] for event in events if event["event"] == "run_ended"]
        return RunState(status_of(events), ended_at=ended[-1] if ended else None)


def _read_result(path: Path) -> RecordingResult | None:
    try:
        return RecordingResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


# ------------------------------------------------------------------------------------------------- for people


def _lines(standing: Standing) -> list[Text]:
    head = Text.assemble(f"{short_path(standing.folder)}: ", _what(standing))
    return [head, *(Text(f"    {line}") for line in _more(standing))]


def _what(standing: Standing) -> Text:
    state, result = standing.state, standing.result
    where = _where(state)
    if state.status == RUNNING:
        return Text(f"running: {where}" if where else "running", style="cyan")
    if state.status == UNFINISHED:
        return Text(f"did not finish; it was at: {where}" if where else UNFINISHED, style="yellow")
    if state.status == SUCCESS:
        return Text(f"{SUCCESS}, {found_text(result)}" if result else SUCCESS, style="green")
    if result is not None and state.status not in {INTERRUPTED, SKIPPED}:
        # The first line is enough here: the others of a long message are in the report.
        return Text(failed_text(result).splitlines()[0].removesuffix(":"), style="red")
    return Text(standing.problem or state.status, style="yellow")


def _where(state: RunState) -> str | None:
    if state.progress is None:
        return None
    # Nobody works on a run that did not finish, so that nothing can be told of the time.
    return position_text(state.progress if state.status == RUNNING else replace(state.progress, left_s=None))


def _more(standing: Standing) -> list[str]:
    state, report = standing.state, standing.report
    if state.status == RUNNING:
        return [_held_by(state)]
    if state.status == UNFINISHED:
        return [f"began {local_time(state.started_at or '')}; {_CONTINUES}"]
    ended = [f"ended {local_time(state.ended_at)}"] if state.ended_at else []
    told = [*ended, *([f"report: {short_path(report)}"] if report else [])]
    if state.status == INTERRUPTED:
        told.append(_CONTINUES)
    return ["; ".join(told)] if told else []


def _held_by(state: RunState) -> str:
    holder = state.holder or {}
    if not holder.get("pid"):
        return "held by a process that did not leave its name"
    gpu = f", on {state.gpu}" if state.gpu else ""
    return f"held by process {holder['pid']} on {holder['hostname']} since {local_time(holder['started_at'])}{gpu}"


def _summary(standings: Sequence[Standing]) -> str:
    statuses = [one.state.status for one in standings]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return f"{counted(len(standings), 'results folder')}: {counts}"
