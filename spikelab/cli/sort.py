"""``spikelab sort`` and ``spikelab multistream``: plan, run with live progress, and say what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from spikelab.cli.dry_run import tell_plan, tell_plan_elsewhere
from spikelab.cli.estimate import tell_estimates
from spikelab.cli.findings import count_text, tell_findings
from spikelab.cli.options import OnError
from spikelab.cli.outcomes import summary_lines
from spikelab.cli.output import ExitCode, UsageProblem, counted, make_console, say, say_whole, usage_errors
from spikelab.cli.planning import Places, plan_all_streams, plan_files, plan_streams
from spikelab.cli.preflight import tell_preflight
from spikelab.cli.progress import make_display
from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError
from spikelab.spike_sorting.batch import run_jobs
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Outcome, SortRunReport
from spikelab.spike_sorting.preflight import Finding, error_from

if TYPE_CHECKING:
    from spikelab.spike_sorting.cluster.settings import ClusterSettings

MOST_TOLD = 4
"""Names, and messages of one kind, that are told before a sort starts; ``spikelab preflight`` tells all."""


@dataclass(frozen=True)
class Options:
    """What the options of ``sort`` and ``multistream`` say.

    Parameters
    ----------
    config : SortingPipelineConfig
        All settings.
    places : Places
        Where results and intermediate files go.
    on_error : OnError
        Stop at the first failure, or go on.
    parallel : int or None
        Recordings in flight at once.
    dry_run : bool
        Only say what would be done.
    as_json : bool
        Only one JSON document on standard output; everything else on standard error.
    cluster : ClusterSettings or None, default None
        Where it is sorted; None: on this machine.
    """

    config: SortingPipelineConfig
    places: Places
    on_error: OnError
    parallel: int | None
    dry_run: bool
    as_json: bool
    cluster: ClusterSettings | None = None


def read_cluster_file(path: Path | None) -> ClusterSettings | None:
    """Return the cluster that the option --cluster names, or None."""
    if path is None:
        return None
    from spikelab.spike_sorting.cluster.settings import read_cluster

    with usage_errors():
        return read_cluster(path)


def sort_files(files: Sequence[Path], options: Options) -> int:
    """Sort each of `files`, or say what would be sorted; return the exit code."""
    with usage_errors():
        jobs = plan_files(files, options.config, options.places)
    return _sort_or_tell(jobs, options)


def sort_streams(file: Path, streams: Sequence[str] | None, options: Options) -> int:
    """Sort streams of `file`, each as a recording of its own; return the exit code."""
    with usage_errors():
        jobs = plan_streams(file, streams, options.config, options.places)
    return _sort_or_tell(jobs, options)


def preflight_files(files: Sequence[Path], options: Options) -> int:
    """Say what speaks against sorting `files`, all streams of each, and what that takes; return the exit code."""
    with usage_errors():
        jobs = plan_all_streams(files, options.config, options.places)
    return tell_preflight(jobs, options.parallel, as_json=options.as_json)


def estimate_files(files: Sequence[Path], options: Options) -> int:
    """Say what sorting `files`, all streams of each, will take; return the exit code."""
    with usage_errors():
        jobs = plan_all_streams(files, options.config, options.places)
    return tell_estimates(jobs, options.parallel, as_json=options.as_json)


def _sort_or_tell(jobs: Sequence[Job], options: Options) -> int:
    if options.cluster is not None and options.parallel is not None:
        msg = "--parallel is for this machine, and --cluster sorts on others"
        raise UsageProblem(msg, "Leave one out; the file of --cluster says how many workers there are.")
    if options.dry_run and options.cluster is not None:
        return tell_plan_elsewhere(jobs, options.config, as_json=options.as_json)
    if options.dry_run:
        return tell_plan(jobs, options.config, options.parallel, as_json=options.as_json)
    report, findings = SortRunReport(), list[Finding]()
    console = make_console(stderr=options.as_json, talk_only=True)
    try:
        sort_jobs(
            jobs,
            console,
            report,
            findings,
            on_error=options.on_error,
            parallel=options.parallel,
            cluster=options.cluster,
        )
    finally:
        if options.as_json and (report.records or findings):
            _print_json(report, findings)
    return exit_code_of(report)


def exit_code_of(report: SortRunReport) -> int:
    """Return what the shell is told of a batch that ran to its end."""
    return ExitCode.DONE if report.all_succeeded else ExitCode.SOME_FAILED


def sort_jobs(
    jobs: Sequence[Job],
    console: Console,
    report: SortRunReport,
    findings: list[Finding],
    *,
    on_error: OnError = OnError.CONTINUE,
    parallel: int | None = None,
    cluster: ClusterSettings | None = None,
) -> None:
    """Check and sort `jobs` with live progress and a summary on `console`, and fill `report` and `findings`.

    Raises
    ------
    SpikeSortingClassifiedError
        Nothing could be started.
    KeyboardInterrupt
        The user stopped it; `report` says how far it came.
    """
    started, show = time.monotonic(), _Show(console, jobs, findings)
    try:
        with show:
            if cluster is not None:
                _sort_on(cluster, jobs, show, report, on_error)
                return
            run_jobs(
                jobs,
                on_error=on_error.value,
                max_parallel=parallel,
                out_report=report,
                observer=show.display.progress,
                on_outcome=show.outcome,
                on_findings=show.begin,
            )
    except Exception as error:
        # What ended a batch that had started is one of its outcomes, and was told as such.
        if not show.n_told:
            _raise_in_short(error, jobs, findings)
            raise
    finally:
        if show.n_told:
            lines = summary_lines(report, time.monotonic() - started)
            say(console, Text("\n").join(lines))


def _sort_on(
    cluster: ClusterSettings, jobs: Sequence[Job], show: _Show, report: SortRunReport, on_error: OnError
) -> None:
    """Sort `jobs` on a cluster; what its machines find before a sort stands in the reports of the recordings."""
    from spikelab.spike_sorting.cluster.flight import run_jobs_on
    from spikelab.spike_sorting.cluster.settings import connected

    with connected(cluster) as client:
        run_jobs_on(
            client,
            jobs,
            on_error=on_error.value,
            out_report=report,
            observer=show.display.progress,
            on_outcome=show.outcome,
            on_started=lambda: show.begin([]),
            wait_s=60 * cluster.wait_min,
        )


class _Show:
    """What a person sees of a batch: that it is checked, what was found, how far it is, what came of each recording.

    Parameters
    ----------
    console : Console
        Where it is shown.
    jobs : sequence of Job
        The batch.
    findings : list of Finding
        Gets what was found.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], findings: list[Finding]) -> None:
        self.display = make_display(console, jobs)
        self.n_told = 0
        self._console, self._jobs, self._findings = console, jobs, findings
        self._checking = console.status("Checking the machine and the recordings")
        self._shown = ExitStack()

    def begin(self, found: list[Finding]) -> None:
        """Tell what the checks have found, and show the progress from now on."""
        self._checking.stop()
        self._findings.extend(found)
        _tell_doubts(self._console, found, len(self._jobs))
        self._shown.enter_context(self.display)

    def outcome(self, job: Job, outcome: Outcome) -> None:
        """Tell what came of `job`."""
        self.n_told += 1
        self.display.outcome(job, outcome)

    def __enter__(self) -> _Show:
        self._shown.enter_context(self._checking)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, traceback)


def _tell_doubts(console: Console, findings: Sequence[Finding], n_recordings: int) -> None:
    """Print warnings and errors; what is only good to know would be in the way here."""
    doubts = [finding for finding in findings if finding.level != "info"]
    if doubts:
        say(console, f"Before the start: {count_text(doubts)}.", style="bold")
        tell_findings(console, doubts, n_recordings, most=MOST_TOLD)


def _raise_in_short(error: Exception, jobs: Sequence[Job], findings: Sequence[Finding]) -> None:
    """Raise `error` without the findings behind it, where those have been told."""
    strict = any(job.config.execution.preflight_strict for job in jobs)
    fatal = [finding for finding in findings if error_from([finding], strict=strict) is not None]
    if fatal and isinstance(error, SpikeSortingClassifiedError):
        speak = "speaks" if len(fatal) == 1 else "speak"
        msg = f"Nothing was started: {counted(len(fatal), 'finding')} above {speak} against it."
        raise type(error)(msg) from None


def _print_json(report: SortRunReport, findings: Sequence[Finding]) -> None:
    import json

    document = {**report.to_dict(), "findings": [finding.to_dict() for finding in findings]}
    say_whole(make_console(), json.dumps(document, indent=2, allow_nan=False))
