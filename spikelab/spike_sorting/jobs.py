"""Which recordings are sorted, from which streams, into which folders: decided before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.costs import Estimate
from spikelab.spike_sorting.inputs import Input, absolute, as_list, find_input
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.shanks import shanks_of, split_shank
from spikelab.spike_sorting.sources import Source, find_streams, in_memory_source, open_source
from spikelab.spike_sorting.supervision.lock import LOCK_NAME

Recordings = Any
"""A path, a SpikeInterface recording, or a list of those and of nested lists of paths."""


@dataclass(frozen=True)
class Job:
    """One recording to sort.

    Parameters
    ----------
    name : str
        Name for people, and of its folders.
    source : Source
        Where it comes from.
    run : RunFolder
        Where everything goes.
    config : SortingPipelineConfig
        How it is sorted.
    in_memory : BaseRecording or None
        A recording that only this process has; the run copies it first.
    problem : SpikeSortingClassifiedError or None
        Why it cannot be sorted, known before the start.
    remarks : tuple of Remark
        What was found before the start and does not stand in its way.
    estimate : Estimate or None
        What it is expected to take, where that was asked before the start.
    """

    name: str
    source: Source
    run: RunFolder
    config: SortingPipelineConfig
    in_memory: Any = field(default=None, compare=False)
    problem: SpikeSortingClassifiedError | None = field(default=None, compare=False)
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    estimate: Estimate | None = field(default=None, compare=False)

    @property
    def path(self) -> str:
        """The recording as a person would name it."""
        return ", ".join(self.source.files) or self.name

    @property
    def places(self) -> tuple[Path, ...]:
        """What it reads and writes."""
        return (*map(Path, self.source.owner_card()["files"]), self.run.inter, self.run.results)

    @property
    def n_results(self) -> int:
        """How many SpikeData it contributes."""
        return len(self.source.files) if self.source.splits else 1

    def on_disk(self) -> Job:
        """Return the job as its workers see it: a recording in memory is the copy that the run makes of it."""
        if self.in_memory is None:
            return self
        return replace(self, source=in_memory_source(self.in_memory, self.run.input_copy))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without what only this process has."""
        return {
            "name": self.name,
            "source": self.source.to_dict(),
            "inter": str(self.run.inter),
            "results": str(self.run.results),
            "config": self.config.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        """Return the job that `values` (from ``to_dict``) describes."""
        return cls(
            name=values["name"],
            source=Source.from_dict(values["source"]),
            run=RunFolder(Path(values["inter"]), Path(values["results"])),
            config=SortingPipelineConfig.from_dict(values["config"]),
        )


def plan(
    recording_files: Recordings,
    config: SortingPipelineConfig,
    *,
    intermediate_folders: Sequence[str | Path] | str | Path | None = None,
    results_folders: Sequence[str | Path] | str | Path | None = None,
) -> tuple[Job, ...]:
    """Return one job per recording, in order.

    Parameters
    ----------
    recording_files : path, recording or list of those
        A nested list of paths, like a folder of recordings, is one recording: they are concatenated.
    config : SortingPipelineConfig
        Settings of all jobs.
    intermediate_folders, results_folders : list of paths or None
        One folder per recording; by default beside each recording.

    Raises
    ------
    ValueError
        Lists of unequal length; a file with several streams and no ``stream_id``; two jobs with one folder;
        a folder that belongs to another recording, or to something else altogether; times of stimulation for
        several files.
    """
    items = as_list(recording_files)
    inter = _folder_list("intermediate_folders", intermediate_folders, len(items))
    results = _folder_list("results_folders", results_folders, len(items))
    inputs = [find_input(item, config.recording) for item in items]
    jobs = tuple(_job(found, config, *folders) for found, *folders in zip(inputs, inter, results, strict=True))
    check_stim_times(jobs)
    _check_folders(jobs)
    return jobs


def check_stim_times(jobs: Sequence[Job]) -> None:
    """Refuse one list of stimulation times for several recordings, unless they are streams of the same files.

    Raises
    ------
    ValueError
        Recordings with clocks of their own would be cleaned at the same times.
    """
    stimulated = [job for job in jobs if job.config.recording.stim_times_ms]
    files = [job.source.owner_card()["files"] for job in stimulated]
    for job, its in zip(stimulated[1:], files[1:], strict=True):
        if its != files[0] or not its:
            msg = (
                f"stim_times_ms are the times of one recording, and {stimulated[0].path} and {job.path} are two: "
                "sort each in a call of its own, with its own times"
            )
            raise ValueError(msg)


def plan_streams(
    recording: str | Path,
    config: SortingPipelineConfig,
    stream_ids: Sequence[str] | None = None,
    *,
    intermediate_folders: Sequence[str | Path] | None = None,
    results_folders: Sequence[str | Path] | None = None,
) -> dict[str, Job]:
    """Return one job per stream of the file `recording`; `stream_ids` None means all.

    Folders are given one per stream, or lie beside the file.

    Raises
    ------
    ValueError
        As in `stream_configs`; lists of unequal length; two jobs with one folder, or one with a folder of others.
    RecordingUnreadableError
        The file is missing or damaged.
    """
    configs = stream_configs(recording, config, stream_ids)
    inter = _folder_list("intermediate_folders", intermediate_folders, len(configs))
    results = _folder_list("results_folders", results_folders, len(configs))
    jobs = {
        stream: _job(find_input(recording, chosen.recording), chosen, *folders)
        for (stream, chosen), *folders in zip(configs.items(), inter, results, strict=True)
    }
    _check_folders(tuple(jobs.values()))
    return jobs


def stream_configs(
    recording: str | Path, config: SortingPipelineConfig, stream_ids: Sequence[str] | None = None
) -> dict[str, SortingPipelineConfig]:
    """Return the settings with which each stream of the file `recording` is sorted; `stream_ids` None means all.

    Where there is one stream, or none, the shanks of its probe are the streams.

    Raises
    ------
    ValueError
        A stream is not in the file, which has those that the message lists.
    RecordingUnreadableError
        The file is missing or damaged.
    """
    present = _streams_or_shanks(absolute(recording), config)
    if not present:
        msg = f"{recording} has no streams, and no shanks; use sort_recording, or spikelab sort"
        raise ValueError(msg)
    wanted = _wanted_streams(stream_ids, present)
    _check_shanks(recording, wanted, present)
    return {stream: config.override(stream_id=stream) for stream in wanted}


def _streams_or_shanks(path: Path, config: SortingPipelineConfig) -> list[str]:
    streams = find_streams(path)
    if len(streams) > 1:
        return streams
    found = find_input(path, config.override(stream_id=None).recording)
    if found.problem is not None:
        raise found.problem
    return shanks_of(open_source(found.source)[0]) or streams


def _check_shanks(recording: str | Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    """Refuse shanks that are not there, where it is known which are."""
    shanks = {split_shank(stream)[1] for stream in present} - {None}
    unknown = [one for one in wanted if shanks and split_shank(one)[1] not in {None, *shanks}]
    if unknown:
        msg = f"{recording} has no stream {unknown[0]!r}; it has {list(present)}"
        raise ValueError(msg)


def _job(found: Input, config: SortingPipelineConfig, inter: Path | None, results: Path | None) -> Job:
    run = _folders(found, config.sorter.sorter_name, inter, results)
    return Job(found.name, found.source, run, config, in_memory=found.in_memory, problem=found.problem)


def _wanted_streams(stream_ids: Sequence[str] | None, present: Sequence[str]) -> Sequence[str]:
    if stream_ids is None:
        return present
    wanted = [stream_ids] if isinstance(stream_ids, str) else list(stream_ids)
    if not wanted or len(set(wanted)) < len(wanted):
        msg = f"stream_ids must name each stream once, out of {list(present)}, got {wanted}"
        raise ValueError(msg)
    return wanted


# --------------------------------------------------------------------------------------------------- folders


def _folder_list(name: str, folders: Any, n: int) -> list[Path | None]:
    if folders is None:
        return [None] * n
    listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    if len(listed) != n:
        msg = f"{name} and the recordings must have the same length, got {len(listed)} and {n}"
        raise ValueError(msg)
    return [absolute(folder) for folder in listed]


def _folders(found: Input, sorter: str, inter: Path | None, results: Path | None) -> RunFolder:
    if found.beside is not None:
        parent = found.beside.parent
        default_results = parent / f"sorted_{sorter}" / found.name
        default_inter = parent / f"inter_{sorter}" / found.name
    elif results is not None:
        default_results, default_inter = results, results.with_name(f"{results.name}_inter")
    else:
        msg = "a recording that is not backed by a file has no folder of its own: give results_folders"
        raise ValueError(msg)
    return RunFolder(inter=inter or default_inter, results=results or default_results)


def _check_folders(jobs: Sequence[Job]) -> None:
    seen: dict[Path, Job] = {}
    for job in jobs:
        for folder in (job.run.inter.resolve(), job.run.results.resolve()):
            if folder in seen:
                first = seen[folder]
                is_same = first is not job and not job.in_memory and first.source == job.source
                advice = "it is given twice, leave one out" if is_same else "give each its own"
                msg = f"{first.path} and {job.path} would share the folder {folder}; {advice}"
                raise ValueError(msg)
            seen[folder] = job
        _check_ours(job)
        _check_owner(job)
    _check_none_is_emptied(jobs)


def _check_none_is_emptied(jobs: Sequence[Job]) -> None:
    """Refuse folders in an intermediate folder, which is emptied when its sort has succeeded."""
    emptied = {job.run.inter.resolve(): job for job in jobs}
    for job in jobs:
        for kind, place in (("results", job.run.results), ("intermediate", job.run.inter)):
            for folder in place.resolve().parents:
                if folder in emptied:
                    msg = (
                        f"the {kind} folder {place} of {job.path} lies in {folder}, the intermediate folder "
                        f"of {emptied[folder].path}, which may be deleted; give another one"
                    )
                    raise ValueError(msg)


def _check_ours(job: Job) -> None:
    """Refuse a folder of something else as intermediate folder: what lies there is replaced and deleted."""
    inter = job.run.inter
    if inter.is_dir() and any(inter.iterdir()) and not (inter / LOCK_NAME).exists():
        msg = f"the intermediate folder {inter} of {job.path} holds files of something else; give a new or empty one"
        raise ValueError(msg)


def _check_owner(job: Job) -> None:
    owner, ours = job.run.owner(), job.source.owner_card()
    if owner is None or owner == ours or _was_moved(owner, ours) or _was_unreadable(owner, ours):
        return
    there = _describe_owner(owner, "another recording")
    msg = (
        f"{job.run.results} holds the results of {there}, not of {_describe_owner(ours, job.path)}; "
        "choose another folder, or delete it"
    )
    raise ValueError(msg)


def _was_moved(owner: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether `owner` is our recording at an earlier place: same names, and nothing is there any more."""
    before, now = [[Path(file) for file in card.get("files", ())] for card in (owner, ours)]
    same_names = [path.name for path in before] == [path.name for path in now]
    return same_names and owner.get("stream_id") == ours["stream_id"] and not any(path.exists() for path in before)


def _was_unreadable(owner: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether both are one file which, then or now, could not be read, so that its stream is not known."""
    return owner.get("files") == ours["files"] and None in (owner.get("stream_id"), ours["stream_id"])


def _describe_owner(card: Mapping[str, Any], otherwise: str) -> str:
    stream = f" (stream {card['stream_id']})" if card.get("stream_id") else ""
    return (", ".join(card.get("files", ())) or otherwise) + stream
