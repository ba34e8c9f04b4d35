"""From the files and folders of a command to jobs, and what is wrong with them in the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.cli.output import UsageProblem
from spikelab.spike_sorting import jobs
from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.inputs import find_input
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.sources import find_streams


@dataclass(frozen=True)
class Places:
    """Folders under which each recording gets one of its own; None means beside the recording.

    Parameters
    ----------
    results, inter : Path or None
        For results, and for intermediate files.
    """

    results: Path | None = None
    inter: Path | None = None

    def of(self, name: str) -> dict[str, list[Path] | None]:
        """Return the folders of the recording `name` as ``jobs.plan`` takes them."""
        return {
            "results_folders": None if self.results is None else [self.results / name],
            "intermediate_folders": None if self.inter is None else [self.inter / name],
        }


def plan_files(files: Sequence[Path], config: SortingPipelineConfig, places: Places) -> tuple[Job, ...]:
    """Return one job for each of `files`."""
    _check_no_settings(files)
    _check_streams(files, config)
    if places == Places():
        return jobs.plan(list(files), config)
    return _checked([_plan_one(file, config, places) for file in files])


def plan_streams(
    file: Path, streams: Sequence[str] | None, config: SortingPipelineConfig, places: Places
) -> tuple[Job, ...]:
    """Return one job for each of `streams` of `file`, which may be shanks; None means all."""
    configs = jobs.stream_configs(file, config, streams).values()
    return _checked([_plan_one(file, one, places) for one in configs])


def plan_all_streams(files: Sequence[Path], config: SortingPipelineConfig, places: Places) -> tuple[Job, ...]:
    """Return the job of each of `files`, or one for each of its streams where several are there and none is chosen."""
    return _checked([job for file in files for job in _plan_any(file, config, places)])


def _plan_any(file: Path, config: SortingPipelineConfig, places: Places) -> tuple[Job, ...]:
    several = config.recording.stream_id is None and len(_streams_or_none(file)) > 1
    return plan_streams(file, None, config, places) if several else plan_files([file], config, places)


def _plan_one(file: Path, config: SortingPipelineConfig, places: Places) -> Job:
    name = find_input(file, config.recording).name
    (job,) = jobs.plan(file, config, **places.of(name))
    return job


def _checked(planned: Sequence[Job]) -> tuple[Job, ...]:
    seen: dict[Path, Job] = {}
    for job in planned:
        for folder in (job.run.results, job.run.inter):
            if folder in seen:
                first = seen[folder]
                msg = f"{first.path} and {job.path} would share the folder {folder}"
                is_same = first.source == job.source
                advice = "Sort them with two commands that name two folders."
                raise UsageProblem(msg, "It is given twice: leave one out." if is_same else advice)
            seen[folder] = job
    jobs.check_stim_times(planned)
    return tuple(planned)


def _check_no_settings(files: Sequence[Path]) -> None:
    """Refuse a file of settings among the recordings, where an option is missing before it."""
    for file in files:
        if file.suffix == ".toml":
            msg = f"{file} is a file of settings, and no recording"
            raise UsageProblem(msg, f"Give it as --config {file}")


def _check_streams(files: Sequence[Path], config: SortingPipelineConfig) -> None:
    """Refuse a file with several streams in the words of the command line."""
    if config.recording.stream_id is not None:
        return
    for file in files:
        if len(streams := _streams_or_none(file)) > 1:
            msg = f"{file} has several streams: {', '.join(streams)}"
            advice = f"spikelab multistream {file} sorts all of them; --set stream_id={streams[0]} chooses one."
            raise UsageProblem(msg, advice)


def _streams_or_none(file: Path) -> list[str]:
    """Return the streams of `file`; one that cannot be read fails later, as a recording of its own."""
    try:
        return find_streams(file)
    except RecordingUnreadableError:
        return []
