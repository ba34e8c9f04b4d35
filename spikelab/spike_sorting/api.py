"""What users call: recordings in, one result per recording out, in order."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from spikelab.spike_sorting._exceptions import BiologicalSortFailure, IOStallError, SpikeSortingClassifiedError
from spikelab.spike_sorting._not_yet import check_supported
from spikelab.spike_sorting._settings import flat_name
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.config import SortingPipelineConfig, StimulationConfig
from spikelab.spike_sorting.jobs import Job, Recordings, plan, plan_streams
from spikelab.spike_sorting.outcome import SKIPPED, Outcome, RecordingResult, SortRunReport, describe_error
from spikelab.spike_sorting.pipeline import Observer, is_finished, run_recording
from spikelab.spike_sorting.preflight import Finding, error_from, findings_for, raise_for, run_preflight
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.report import write_batch_report
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.awake import stay_awake
from spikelab.spike_sorting.supervision.deadline import Deadline, unanswered
from spikelab.spike_sorting.supervision.devices import Devices
from spikelab.spike_sorting.supervision.disk import ask_disks

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData
    from spikelab.stim_sorting.aligned import StimSorting

_log = logging.getLogger(__name__)

_GLANCE_S = 10.0
"""Time for the report of a batch of which a disk does not answer (s)."""

OnError = Literal["raise", "continue"]
Folders = Sequence[str | Path] | str | Path | None


def sort_recording(
    recording_files: Recordings,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    intermediate_folders: Folders = None,
    results_folders: Folders = None,
    *,
    out_report: SortRunReport | None = None,
    on_error: OnError = "raise",
    max_parallel: int | None = None,
    **overrides: Any,
) -> list[SpikeData | None]:
    """Sort recordings one after another and return their curated units.

    Calling again with the same arguments continues where the last call stopped, and returns at once what is
    finished.

    Parameters
    ----------
    recording_files : path, recording or list of those
        Files, folders of recordings (concatenated in natural order and split back afterwards), nested lists of
        files (concatenated in their order), or SpikeInterface recordings.
    config : SortingPipelineConfig or None, default None
        Settings; None for the preset of `sorter`.
    sorter : {"kilosort2", "kilosort4", "rt_sort"} or None, default None
        Sorter; None means that of `config`, or "kilosort4".
    intermediate_folders, results_folders : list of paths or None, default None
        One folder per recording; by default ``inter_<sorter>/<name>`` and ``sorted_<sorter>/<name>`` beside it.
    out_report : SortRunReport or None, default None
        Gets one record per recording, for failures too.
    on_error : {"raise", "continue"}, default "raise"
        Raise the first failure, or try every recording and return None in place of failed ones.
    max_parallel : int or None, default None
        Recordings in flight at once; None means 1.
    **overrides : object
        Settings by flat name, such as ``snr_min=6.0``.

    Returns
    -------
    list of SpikeData or None
        One per recording file, in order; a folder of k recordings contributes k.

    Raises
    ------
    ValueError, TypeError
        The call is wrong; nothing has run.
    SpikeSortingClassifiedError
        The first failure, with ``on_error="raise"``.

    Examples
    --------
    >>> results = sort_recording(["session1.raw.h5"], sorter="kilosort4")  # doctest: +SKIP
    >>> results[0].N  # doctest: +SKIP
    12
    """
    settings = resolve_config(config, sorter, overrides)
    jobs = plan(recording_files, settings, intermediate_folders=intermediate_folders, results_folders=results_folders)
    outcomes = run_jobs(jobs, on_error=on_error, max_parallel=max_parallel, out_report=out_report)
    return [sd for job, outcome in zip(jobs, outcomes, strict=True) for sd in _results_of(job, outcome)]


def sort_multistream(
    recording: str | Path,
    stream_ids: Sequence[str] | None = None,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    intermediate_folders: Sequence[str | Path] | None = None,
    results_folders: Sequence[str | Path] | None = None,
    *,
    out_report: SortRunReport | None = None,
    on_error: OnError = "raise",
    max_parallel: int | None = None,
    **overrides: Any,
) -> dict[str, list[SpikeData | None]]:
    """Sort the streams of one file, such as the wells of a plate, each as a recording of its own.

    The streams of a file with several probes are its probes. Where there is one stream, or none, they are the shanks
    of its probe: "shank0", "shank1" and so on; those of one stream of several are called "imec0.ap/shank0".

    Parameters
    ----------
    recording : path
        A file, or a folder of one recording, with several streams or shanks.
    stream_ids : list of str or None, default None
        Streams to sort; None means all.
    intermediate_folders, results_folders : list of paths or None, default None
        One folder per stream; by default beside the file.
    config, sorter, out_report, on_error, max_parallel, **overrides
        As in `sort_recording`.

    Returns
    -------
    dict of str to list of SpikeData or None
        Results by stream.

    Raises
    ------
    ValueError
        A stream is not in the file; the message lists those that are.

    Examples
    --------
    >>> wells = sort_multistream("plate.raw.h5")  # doctest: +SKIP
    >>> {well: sds[0].N for well, sds in wells.items()}  # doctest: +SKIP
    {'well000': 12, 'well001': 9}
    """
    jobs = plan_streams(
        recording,
        resolve_config(config, sorter, overrides),
        stream_ids,
        intermediate_folders=intermediate_folders,
        results_folders=results_folders,
    )
    outcomes = run_jobs(tuple(jobs.values()), on_error=on_error, max_parallel=max_parallel, out_report=out_report)
    return {stream: _results_of(job, outcome) for (stream, job), outcome in zip(jobs.items(), outcomes, strict=True)}


def sort_stim_recording(
    recording: Any,
    stim_times_ms: Sequence[float] | str | Path,
    pre_ms: float,
    post_ms: float,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    *,
    intermediate_folders: Folders = None,
    results_folders: Folders = None,
    out_report: SortRunReport | None = None,
    **overrides: Any,
) -> StimSorting:
    """Sort one recording with stimulation: times recentred, artifacts removed, results aligned to the events.

    Parameters
    ----------
    recording : path or recording
        One recording, as `sort_recording` takes it.
    stim_times_ms : sequence of float or path
        Logged times (ms from the start of the recording), or a file with them, see
        `spikelab.stim_sorting.read_stim_times`.
    pre_ms, post_ms : float
        Window around each event (ms).
    config, sorter, intermediate_folders, results_folders, out_report
        As in `sort_recording`.
    **overrides : object
        Settings by flat name. Those of `preprocess_stim_artifacts` go by their own names, such as
        ``peak_mode="down_edge"`` or ``multi_peak=True``.

    Returns
    -------
    StimSorting
        The whole recording (`spikedata`), one SpikeData per event (`aligned`), and what became of the artifacts
        (`summary`).

    Raises
    ------
    ValueError, TypeError
        The call is wrong; nothing has run.
    SpikeSortingClassifiedError
        The sort failed.

    Examples
    --------
    >>> done = sort_stim_recording("session1.raw.h5", "pulses.csv", 20, 100, peak_mode="down_edge")  # doctest: +SKIP
    >>> done.spikedata.N, len(done.aligned)  # doctest: +SKIP
    (12, 290)
    """
    settings = {_OF_STIMULATION.get(name, name): value for name, value in overrides.items()}
    results = sort_recording(
        [recording],
        config,
        sorter,
        [intermediate_folders] if isinstance(intermediate_folders, (str, Path)) else intermediate_folders,
        [results_folders] if isinstance(results_folders, (str, Path)) else results_folders,
        out_report=out_report,
        stim_times_ms=stim_times_ms,
        **settings,
    )
    from spikelab.stim_sorting.aligned import StimSorting, align_to_events

    sd = results[0] if len(results) == 1 else None
    if sd is None:
        msg = f"sort_stim_recording takes one recording, and {recording} is {len(results)}: sort each by itself"
        raise ValueError(msg)
    aligned = align_to_events(sd, sd.metadata.get("stim_times_ms", ()), pre_ms, post_ms)
    return StimSorting(sd, aligned, dict(sd.metadata.get("stimulation", {})))


_OF_STIMULATION = {field.name: flat_name(field) for field in dataclasses.fields(StimulationConfig)}
"""The options of `preprocess_stim_artifacts`, and the flat names of those settings."""


def load_results(folder: str | Path) -> SpikeData:
    """Return the curated SpikeData in a results folder.

    Parameters
    ----------
    folder : path
        Results folder of one recording.

    Raises
    ------
    FileNotFoundError
        The folder holds no finished sort.
    """
    from spikelab.spikedata import SpikeData

    run = RunFolder(inter=Path(folder), results=Path(folder))
    if not run.curated.is_file():
        msg = f"{folder} holds no {run.curated.name}: expected the results folder of a finished sort"
        raise FileNotFoundError(msg)
    if not run.marker(EXPORT).is_file():
        msg = (
            f"{folder} holds units of an earlier sort, but the last one did not finish: see {run.report_markdown.name} "
            f"there and sort again, or read the old units with SpikeData.load({str(run.curated)!r})"
        )
        raise FileNotFoundError(msg)
    return SpikeData.load(run.curated)


# ------------------------------------------------------------------------------------------------- settings


def resolve_config(
    config: SortingPipelineConfig | None, sorter: str | None, overrides: dict[str, Any]
) -> SortingPipelineConfig:
    """Return the settings of a call.

    Raises
    ------
    ValueError
        `sorter` is unknown, or contradicts `config`; a setting is not supported by this version, or says what goes
        into files that no other setting asks for.
    TypeError
        An override is unknown.
    """
    resolved = unchecked_config(config, sorter, overrides)
    check_supported(resolved)
    _check_compiled_into(resolved)
    return resolved


def unchecked_config(
    config: SortingPipelineConfig | None, sorter: str | None, overrides: dict[str, Any]
) -> SortingPipelineConfig:
    """Return settings that more overrides may follow: what only fits together in the end is not looked at.

    Raises
    ------
    ValueError
        `sorter` is unknown, or contradicts `config`.
    TypeError
        An override is unknown.
    """
    chosen = SortingPipelineConfig.preset(sorter) if config is None or sorter is not None else config
    if config is not None:
        if config.sorter.sorter_name != chosen.sorter.sorter_name:
            msg = f"sorter={sorter!r} contradicts config, which says {config.sorter.sorter_name!r}; give one of them"
            raise ValueError(msg)
        chosen = config
    return _with_stim_times(_with_kilosort_layout(_with_kilosort_times(chosen.override(**overrides))))


def _check_compiled_into(config: SortingPipelineConfig) -> None:
    """Raise ValueError where something is to be compiled, and no file to compile it into.

    Here and not where the values are made: overrides may come one after the other.
    """
    options = config.compilation
    asked = [name for name in ("compile_waveforms", "include_failed_units") if getattr(options, name)]
    if asked and not (options.compile_to_npz or options.compile_to_mat):
        given = " and ".join(f"{name}=True" for name in asked)
        msg = f"{given}: for sorted.npz or sorted.mat, and neither is written; set compile_to_npz or compile_to_mat too"
        raise ValueError(msg)


def _with_stim_times(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Read the times of stimulation from their file: a changed file is another setting."""
    path = config.recording.stim_times_ms
    if not isinstance(path, str):
        return config
    from spikelab.stim_sorting.files import read_stim_times

    return config.override(stim_times_ms=read_stim_times(path))


def _with_kilosort_times(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Turn Kilosort's tmin and tmax into ours, so that every stage sees the same part of the recording."""
    params = dict(config.sorter.sorter_params)
    moved: dict[str, Any] = {}
    for theirs, ours in (("tmin", "start_time_s"), ("tmax", "end_time_s")):
        value = params.pop(theirs, None)
        if value is None or value in {0, float("inf")}:
            continue
        if getattr(config.recording, ours) is not None:
            msg = f"give {ours} or kilosort_params[{theirs!r}], not both"
            raise ValueError(msg)
        moved[ours] = value
    return config.override(kilosort_params=params, **moved)


def _with_kilosort_layout(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Read flat binary files as Kilosort's own settings say, where ours say nothing."""
    theirs = {"binary_fs": "fs", "binary_n_chan": "n_chan_bin"}
    params = config.sorter.sorter_params
    taken = {
        ours: params[name]
        for ours, name in theirs.items()
        if params.get(name) is not None and getattr(config.recording, ours) is None
    }
    return config.override(**taken)


# ----------------------------------------------------------------------------------------------- the batch


def run_jobs(
    jobs: Sequence[Job],
    *,
    on_error: OnError = "raise",
    max_parallel: int | None = None,
    out_report: SortRunReport | None = None,
    observer: Observer | None = None,
    on_outcome: Callable[[Job, Outcome], None] | None = None,
    on_findings: Callable[[list[Finding]], None] | None = None,
) -> list[Outcome]:
    """Check jobs, run them, and return one outcome each, in order.

    Parameters
    ----------
    jobs : sequence of Job
        From ``jobs.plan``.
    on_error : {"raise", "continue"}, default "raise"
        Whether the first failure ends the batch and is raised.
    max_parallel : int or None, default None
        Recordings in flight at once; None means 1.
    out_report : SortRunReport or None, default None
        Gets the records, for failures too.
    observer, on_outcome : callable or None, default None
        Told of progress, and of each outcome as it comes.
    on_findings : callable or None, default None
        Told what the checks before the start have found; None: the log is.
    """
    if on_error not in {"raise", "continue"}:
        msg = f"on_error must be 'raise' or 'continue', got {on_error!r}"
        raise ValueError(msg)
    if max_parallel is not None and max_parallel < 1:
        msg = f"max_parallel must be at least 1, got {max_parallel}"
        raise ValueError(msg)
    n_parallel = max_parallel or 1
    report = out_report if out_report is not None else SortRunReport()
    try:
        jobs = _checked(jobs, on_error, n_parallel, on_findings or _log_findings)
    except SpikeSortingClassifiedError as error:
        for job in jobs:
            report.add(_not_started(job, error))
        raise
    with stay_awake(any(job.config.execution.prevent_system_sleep for job in jobs)):
        outcomes = _run_all(jobs, on_error, n_parallel, observer, on_outcome)
    for outcome in outcomes:
        report.add(outcome.result)
    _report_batch(jobs, [outcome.result for outcome in outcomes])
    _raise_first(outcomes, on_error)
    return outcomes


def _checked(
    jobs: Sequence[Job], on_error: OnError, n_parallel: int, on_findings: Callable[[list[Finding]], None]
) -> list[Job]:
    """Return the jobs, those that cannot be sorted marked as such; raise what speaks against the whole batch."""
    for config in dict.fromkeys(job.config for job in jobs):
        backend = get_backend(config.sorter.sorter_name)
        backend.check_params(config)
        backend.check_installed(config.sorter)
    jobs = _with_dead_disks_marked(jobs)
    if on_error == "raise":
        for job in jobs:
            if job.problem is not None:
                raise job.problem
    wanted = [
        job for job in jobs if job.config.execution.preflight and not _is_on_dead_disk(job) and not is_finished(job)
    ]
    findings = run_preflight(wanted, n_parallel=n_parallel)
    on_findings(findings)
    strict = any(job.config.execution.preflight_strict for job in wanted)
    if on_error == "raise":
        raise_for(findings, strict=strict)
    raise_for(findings_for(findings, None), strict=strict)
    return [_with_findings(job, findings_for(findings, job), strict=strict) for job in jobs]


def _with_dead_disks_marked(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs, those of which a disk does not answer with that as their problem: nobody waits for it twice."""
    limit_s = max((job.config.execution.io_stall_s for job in jobs), default=0.0)
    dead = unanswered([partial(ask_disks, job.places) for job in jobs], limit_s)
    error = IOStallError(f"a disk does not answer within {limit_s:g} s", stall_s=limit_s)
    return [replace(job, problem=error) if number in dead else job for number, job in enumerate(jobs)]


def _is_on_dead_disk(job: Job) -> bool:
    return isinstance(job.problem, IOStallError)


def _with_findings(job: Job, findings: list[Finding], *, strict: bool) -> Job:
    """Return the job with what speaks against it, or else with what its report should mention."""
    problem = job.problem or error_from(findings, strict=strict)
    remarks = tuple(Remark(one.code, one.message, one.advice) for one in findings if one.level == "warning")
    return replace(job, problem=problem, remarks=remarks)


def _log_findings(findings: list[Finding]) -> None:
    levels = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}
    for finding in findings:
        _log.log(levels[finding.level], "%s: %s %s", finding.subject, finding.message, finding.advice)


def _run_all(
    jobs: Sequence[Job],
    on_error: OnError,
    n_parallel: int,
    observer: Observer | None,
    on_outcome: Callable[[Job, Outcome], None] | None,
) -> list[Outcome]:
    stop, ended, arbiter, devices = Event(), Event(), MemoryArbiter(), Devices()

    def one(job: Job) -> Outcome:
        if ended.is_set() or stop.is_set():
            return _skipped(job)
        outcome = run_recording(job, observer=observer, stop=stop, arbiter=arbiter, devices=devices)
        if outcome.error is not None and on_error == "raise":
            ended.set()
        if on_outcome is not None:
            on_outcome(job, outcome)
        return outcome

    with ThreadPoolExecutor(max_workers=n_parallel, thread_name_prefix="spikelab") as pool:
        futures: list[Future[Outcome]] = []
        try:
            futures += [pool.submit(one, job) for job in jobs]
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            # Workers are stopped by their own threads; what is finished stays finished.
            stop.set()
            return [_interrupted(future) for future in futures]
        except BaseException:
            # Something else ends this call, such as a signal that raises SystemExit: it does not wait for the night.
            stop.set()
            raise


def _interrupted(future: Future[Outcome]) -> Outcome:
    return replace(future.result(), error=KeyboardInterrupt())


def _skipped(job: Job) -> Outcome:
    return Outcome(_result_without_run(job, status=SKIPPED))


def _not_started(job: Job, error: SpikeSortingClassifiedError) -> RecordingResult:
    """Return the record of a job in a batch that `error` kept from starting: failed where it is the job's own."""
    if job.problem is not None:
        return _result_without_run(job, **describe_error(job.problem))
    if isinstance(error, BiologicalSortFailure):
        return _result_without_run(job, status=SKIPPED)
    return _result_without_run(job, **{**describe_error(error), "status": SKIPPED})


def _result_without_run(job: Job, **fields: Any) -> RecordingResult:
    return RecordingResult(rec_name=job.name, rec_path=job.path, results_folder=str(job.run.results), **fields)


def _report_batch(jobs: Sequence[Job], records: Sequence[RecordingResult]) -> None:
    """Write the report of the batch; one that cannot be written costs neither a result nor its error."""
    limit_s = max((job.config.execution.io_stall_s for job in jobs), default=0.0)
    if any(record.status == IOStallError.status for record in records):
        limit_s = min(limit_s, _GLANCE_S)  # a disk is known to be dead: nobody waits for it twice
    with_pages = any(job.config.execution.generate_sorting_report for job in jobs)
    try:
        Deadline("the disk of the batch's report", limit_s).call(
            partial(write_batch_report, records, with_pages=with_pages)
        )
    except Exception:  # noqa: BLE001 - told in the log
        _log.exception("the report of the batch could not be written")


def _raise_first(outcomes: Sequence[Outcome], on_error: OnError) -> None:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for error in errors:
        if on_error == "raise" or isinstance(error, KeyboardInterrupt):
            raise error


def _results_of(job: Job, outcome: Outcome) -> list[SpikeData | None]:
    if not outcome.result.succeeded:
        return [None] * job.n_results
    sd = load_results(job.run.results)
    if not job.source.splits:
        return [sd]
    epochs = zip(sd.split_epochs(), job.source.files, strict=True)
    return [epoch.replace(metadata={**epoch.metadata, "source_file": [file]}) for epoch, file in epochs]
