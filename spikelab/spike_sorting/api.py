"""What users call: recordings in, one result per recording out, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.batch import OnError, run_jobs
from spikelab.spike_sorting.call_settings import resolve_config, resolve_stim_config
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.costs import Estimate
from spikelab.spike_sorting.forecast.estimates import PROBE_S, estimates_of
from spikelab.spike_sorting.forecast.history import runs_of_this_machine
from spikelab.spike_sorting.jobs import Job, Recordings, plan, plan_streams
from spikelab.spike_sorting.outcome import Outcome, SortRunReport
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.schedule import look_ahead

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData
    from spikelab.stim_sorting.aligned import StimSorting

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
    """Sort recordings, several at once where that helps, and return their curated units in order.

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
        Recordings in flight at once, as far as cores and memory allow; each GPU has one sort at a time. None: one more
        than there are GPUs, so that each sorts while another recording is loaded or measured; on the CPU 1.
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
    return [sd for job, outcome in zip(jobs, outcomes, strict=True) for sd in results_of(job, outcome)]


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
    return {stream: results_of(job, outcome) for (stream, job), outcome in zip(jobs.items(), outcomes, strict=True)}


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
        The call is wrong, such as a window without a length or a folder of several recordings; nothing has run.
    FileNotFoundError
        There is no file of times; nothing has run.
    SpikeSortingClassifiedError
        The sort failed.

    Examples
    --------
    >>> done = sort_stim_recording("session1.raw.h5", "pulses.csv", 20, 100, peak_mode="down_edge")  # doctest: +SKIP
    >>> done.spikedata.N, len(done.aligned)  # doctest: +SKIP
    (12, 290)
    """
    from spikelab.stim_sorting.aligned import StimSorting, align_to_events, check_window

    check_window(pre_ms, post_ms)
    settings = resolve_stim_config(config, sorter, stim_times_ms, overrides)
    jobs = plan([recording], settings, intermediate_folders=intermediate_folders, results_folders=results_folders)
    if (n_results := jobs[0].n_results) != 1:
        msg = f"sort_stim_recording takes one recording, and {recording} is {n_results}: sort each by itself"
        raise ValueError(msg)
    run_jobs(jobs, out_report=out_report)
    sd = load_results(jobs[0].run.results)
    aligned = align_to_events(sd, sd.metadata.get("stim_times_ms", ()), pre_ms, post_ms)
    return StimSorting(sd, aligned, dict(sd.metadata.get("stimulation", {})))


def estimate(
    recording_files: Recordings,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    *,
    max_parallel: int | None = None,
    **overrides: Any,
) -> list[Estimate]:
    """Return what sorts will take on this machine, each with its uncertainty; nothing is sorted or written.

    Time goes by channels, sampling rate, duration, settings and the rate at which the channels fall below five times
    their noise, which is counted in 30 s of each recording; and by what former sorts took on this machine, where there
    were any. Disk and memory are those that the checks before a start compare with what is free.

    Parameters
    ----------
    recording_files, config, sorter, max_parallel, **overrides
        As in `sort_recording`.

    Returns
    -------
    list of Estimate
        One per recording, in order; a folder of k recordings, which are sorted as one, has one.

    Raises
    ------
    ValueError, TypeError
        The call is wrong.
    SpikeSortingClassifiedError
        A recording cannot be read.

    Examples
    --------
    >>> estimate("session1.raw.h5")[0].wall_time_s.as_time()  # doctest: +SKIP
    '12 min (8 to 18)'
    """
    jobs = plan(recording_files, resolve_config(config, sorter, overrides))
    _, batch = look_ahead(jobs, max_parallel, probe_s=PROBE_S)
    for facts in batch.recordings:
        if facts.error is not None:
            raise facts.error
    estimates = estimates_of(batch, runs_of_this_machine())
    empty = [job.path for job in jobs if job.run.results not in estimates]
    if empty:
        msg = f"{empty[0]} has no samples to sort"
        raise RecordingUnreadableError(msg, path=empty[0])
    return [estimates[job.run.results] for job in jobs]


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


def results_of(job: Job, outcome: Outcome) -> list[SpikeData | None]:
    """Return what the job contributes to the results of a call; None where there is none."""
    if not outcome.result.succeeded:
        return [None] * job.n_results
    sd = load_results(job.run.results)
    if not job.source.splits:
        return [sd]
    epochs = zip(sd.split_epochs(), job.source.files, strict=True)
    return [epoch.replace(metadata={**epoch.metadata, "source_file": [file]}) for epoch, file in epochs]
