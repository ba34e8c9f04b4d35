"""Which recordings are sorted, from which streams, into which folders: decided before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import (
    Source,
    describe,
    described_path,
    described_stream,
    find_streams,
    is_recording_path,
    recordings_in,
)

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
    problem : RecordingUnreadableError or None
        Why it cannot be opened, known before the start.
    """

    name: str
    source: Source
    run: RunFolder
    config: SortingPipelineConfig
    in_memory: Any = field(default=None, compare=False)
    problem: RecordingUnreadableError | None = field(default=None, compare=False)

    @property
    def path(self) -> str:
        """The recording as a person would name it."""
        return ", ".join(self.source.files) or self.name

    @property
    def n_results(self) -> int:
        """How many SpikeData it contributes."""
        return len(self.source.files) if self.source.splits else 1

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


@dataclass(frozen=True)
class _Input:
    """A recording before its folders are known."""

    name: str
    source: Source
    beside: Path | None = None
    in_memory: Any = None
    problem: RecordingUnreadableError | None = None


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
        a folder that belongs to another recording.
    """
    items = _as_list(recording_files)
    inter = _folder_list("intermediate_folders", intermediate_folders, len(items))
    results = _folder_list("results_folders", results_folders, len(items))
    inputs = [_find_input(item, config.recording.stream_id) for item in items]
    jobs = tuple(
        Job(
            name=found.name,
            source=found.source,
            run=_folders(found, config.sorter.sorter_name, given_inter, given_results),
            config=config,
            in_memory=found.in_memory,
            problem=found.problem,
        )
        for found, given_inter, given_results in zip(inputs, inter, results, strict=True)
    )
    _check_folders(jobs)
    return jobs


def plan_streams(
    recording: str | Path,
    config: SortingPipelineConfig,
    stream_ids: Sequence[str] | None = None,
) -> dict[str, Job]:
    """Return one job per stream of the file `recording`; `stream_ids` None means all.

    Raises
    ------
    ValueError
        A stream is not in the file, which has those that the message lists.
    RecordingUnreadableError
        The file is missing or damaged.
    """
    present = find_streams(Path(recording))
    if not present:
        msg = f"{recording} has no streams; use sort_recording"
        raise ValueError(msg)
    wanted = list(stream_ids) if stream_ids is not None else present
    if len(set(wanted)) < len(wanted):
        msg = f"stream_ids names a stream twice: {wanted}"
        raise ValueError(msg)
    jobs = {}
    for stream in wanted:
        (jobs[stream],) = plan(recording, config.override(stream_id=stream))
    _check_folders(tuple(jobs.values()))
    return jobs


# ---------------------------------------------------------------------------------------------------- inputs


def _as_list(recording_files: Recordings) -> list[Any]:
    if isinstance(recording_files, (str, os.PathLike)) or _is_recording(recording_files):
        return [recording_files]
    if not isinstance(recording_files, Sequence):
        msg = f"recording_files must be a path, a recording or a list of those, got {type(recording_files).__name__}"
        raise TypeError(msg)
    items = list(recording_files)
    if not items:
        msg = "recording_files is empty: give at least one recording"
        raise ValueError(msg)
    return items


def _is_recording(item: Any) -> bool:
    return hasattr(item, "get_traces") and hasattr(item, "get_num_segments")


def _find_input(item: Any, stream_id: str | None) -> _Input:
    if _is_recording(item):
        return _from_object(item)
    if isinstance(item, (str, os.PathLike)):
        path = Path(item).expanduser().absolute()
        return _from_folder(path, stream_id) if _is_folder_of_recordings(path) else _from_file(path, stream_id)
    if isinstance(item, Sequence):
        return _from_files([Path(part).expanduser().absolute() for part in item], stream_id)
    msg = f"a recording must be a path, a list of paths or a SpikeInterface recording, got {type(item).__name__}"
    raise TypeError(msg)


def _is_folder_of_recordings(path: Path) -> bool:
    return path.is_dir() and not is_recording_path(path)


def _from_object(recording: Any) -> _Input:
    beside = described_path(recording)
    if beside is None and not recording.check_serializability("json"):
        return _Input(name="recording", source=Source(), in_memory=recording)
    description = describe(recording)
    stream = described_stream(description)
    parts = [beside.name if beside else "recording", stream]
    return _Input(name="_".join(filter(None, parts)), source=Source(description=description), beside=beside)


def _from_file(path: Path, stream_id: str | None) -> _Input:
    try:
        streams = find_streams(path)
    except RecordingUnreadableError as error:
        return _Input(name=path.name, source=Source((str(path),), stream_id), beside=path, problem=error)
    chosen = _choose_stream(path, streams, stream_id)
    name = f"{path.name}_{chosen}" if len(streams) > 1 else path.name
    return _Input(name=name, source=Source((str(path),), chosen), beside=path)


def _choose_stream(path: Path, streams: list[str], stream_id: str | None) -> str | None:
    if stream_id is None:
        if len(streams) > 1:
            msg = f"{path} has several streams: {streams}; use sort_multistream, or name one with stream_id"
            raise ValueError(msg)
        return None
    if streams and stream_id not in streams:
        msg = f"{path} has no stream {stream_id!r}; it has {streams}"
        raise ValueError(msg)
    return stream_id


def _from_folder(folder: Path, stream_id: str | None) -> _Input:
    paths = recordings_in(folder)
    if not paths:
        problem = RecordingUnreadableError(
            f"{folder} holds no recordings; expected .raw.h5 files or SpikeInterface folders",
            path=str(folder),
        )
        return _Input(name=folder.name, source=Source((str(folder),)), beside=folder, problem=problem)
    return replace(_from_files(paths, stream_id), name=folder.name, beside=folder)


def _from_files(paths: list[Path], stream_id: str | None) -> _Input:
    if not paths:
        msg = "a nested list of recordings is empty"
        raise ValueError(msg)
    parts = [_from_file(path, stream_id) for path in paths]
    problem = next((part.problem for part in parts if part.problem), None)
    source = Source(tuple(str(path) for path in paths), parts[0].source.stream_id, splits=True)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name}_and_{len(paths) - 1}_more"
    return _Input(name=name, source=source, beside=paths[0], problem=problem)


# --------------------------------------------------------------------------------------------------- folders


def _folder_list(name: str, folders: Any, n: int) -> list[Path | None]:
    if folders is None:
        return [None] * n
    listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    if len(listed) != n:
        msg = f"{name} and recording_files must have the same length, got {len(listed)} and {n}"
        raise ValueError(msg)
    return [Path(folder).expanduser().absolute() for folder in listed]


def _folders(found: _Input, sorter: str, inter: Path | None, results: Path | None) -> RunFolder:
    if found.beside is not None:
        parent = found.beside.parent
        default_results, default_inter = (
            parent / f"sorted_{sorter}" / found.name,
            parent / f"inter_{sorter}" / found.name,
        )
    elif results is not None:
        default_results, default_inter = results, results.with_name(f"{results.name}_inter")
    else:
        msg = "a recording that is not backed by a file has no folder of its own: give results_folders"
        raise ValueError(msg)
    return RunFolder(inter=inter or default_inter, results=results or default_results)


def _check_folders(jobs: Sequence[Job]) -> None:
    seen: dict[Path, Job] = {}
    for job in jobs:
        if job.run.inter == job.run.results:
            msg = f"{job.path}: intermediate and results folder must differ, got {job.run.results} for both"
            raise ValueError(msg)
        for folder in (job.run.inter, job.run.results):
            if folder in seen:
                msg = f"{seen[folder].path} and {job.path} would share the folder {folder}"
                raise ValueError(msg)
            seen[folder] = job
        _check_owner(job)


def _check_owner(job: Job) -> None:
    owner = job.run.owner()
    if owner is None or job.in_memory is not None or owner == job.source.owner_card():
        return
    there = ", ".join(owner.get("files", ())) or "another recording"
    stream = f" (stream {owner['stream_id']})" if owner.get("stream_id") else ""
    msg = f"{job.run.results} holds the results of {there}{stream}, not of {job.path}; choose another folder"
    raise ValueError(msg)
