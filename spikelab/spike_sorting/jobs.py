"""Which recordings are sorted, from which streams, into which folders: decided before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError, SpikeSortingClassifiedError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import (
    Source,
    describe,
    described_path,
    described_stream,
    find_streams,
    is_recording,
    is_recording_path,
    recordings_in,
)
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
    remarks : tuple of str
        What was found before the start and does not stand in its way.
    """

    name: str
    source: Source
    run: RunFolder
    config: SortingPipelineConfig
    in_memory: Any = field(default=None, compare=False)
    problem: SpikeSortingClassifiedError | None = field(default=None, compare=False)
    remarks: tuple[str, ...] = field(default=(), compare=False)

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
        a folder that belongs to another recording, or to something else altogether.
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
    *,
    intermediate_folders: Sequence[str | Path] | None = None,
    results_folders: Sequence[str | Path] | None = None,
) -> dict[str, Job]:
    """Return one job per stream of the file `recording`; `stream_ids` None means all.

    Folders are given one per stream, or lie beside the file.

    Raises
    ------
    ValueError
        A stream is not in the file, which has those that the message lists.
    RecordingUnreadableError
        The file is missing or damaged.
    """
    present = find_streams(_absolute(recording))
    if not present:
        msg = f"{recording} has no streams; use sort_recording"
        raise ValueError(msg)
    wanted = _wanted_streams(stream_ids, present)
    inter = _folder_list("intermediate_folders", intermediate_folders, len(wanted))
    results = _folder_list("results_folders", results_folders, len(wanted))
    jobs = {}
    for stream, given_inter, given_results in zip(wanted, inter, results, strict=True):
        found = _find_input(recording, stream)
        run = _folders(found, config.sorter.sorter_name, given_inter, given_results)
        jobs[stream] = Job(found.name, found.source, run, config.override(stream_id=stream), problem=found.problem)
    _check_folders(tuple(jobs.values()))
    return jobs


def _wanted_streams(stream_ids: Sequence[str] | None, present: Sequence[str]) -> Sequence[str]:
    if stream_ids is None:
        return present
    wanted = [stream_ids] if isinstance(stream_ids, str) else list(stream_ids)
    if not wanted or len(set(wanted)) < len(wanted):
        msg = f"stream_ids must name each stream once, out of {list(present)}, got {wanted}"
        raise ValueError(msg)
    return wanted


# ---------------------------------------------------------------------------------------------------- inputs


def _as_list(recording_files: Recordings) -> list[Any]:
    if isinstance(recording_files, (str, os.PathLike)) or is_recording(recording_files):
        return [recording_files]
    if not isinstance(recording_files, Sequence):
        msg = f"recording_files must be a path, a recording or a list of those, got {type(recording_files).__name__}"
        raise TypeError(msg)
    items = list(recording_files)
    if not items:
        msg = "recording_files is empty: give at least one recording"
        raise ValueError(msg)
    return items


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser().absolute()


def _find_input(item: Any, stream_id: str | None) -> _Input:
    if is_recording(item):
        return _from_object(item)
    if isinstance(item, (str, os.PathLike)):
        path = _absolute(item)
        return _from_folder(path, stream_id) if _is_folder_of_recordings(path) else _from_file(path, stream_id)
    if isinstance(item, Sequence):
        return _from_nested(item, stream_id)
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
    name = _name_of(beside.name if beside else "recording", stream)
    return _Input(name=name, source=Source(description=description), beside=beside)


def _name_of(file: str, stream: str | None) -> str:
    return f"{file}_{stream}" if stream else file


def _from_file(path: Path, stream_id: str | None) -> _Input:
    try:
        streams = find_streams(path)
    except RecordingUnreadableError as error:
        return _Input(name=path.name, source=Source((str(path),), stream_id), beside=path, problem=error)
    chosen = _choose_stream(path, streams, stream_id)
    name = _name_of(path.name, chosen if len(streams) > 1 else None)
    return _Input(name=name, source=Source((str(path),), chosen), beside=path)


def _choose_stream(path: Path, streams: list[str], stream_id: str | None) -> str | None:
    if stream_id is None:
        if len(streams) > 1:
            msg = f"{path} has several streams: {streams}; use sort_multistream, or name one with stream_id"
            raise ValueError(msg)
        return streams[0] if streams else None
    if stream_id not in streams:
        msg = f"{path} has no stream {stream_id!r}; it has {streams or 'no streams'}"
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
    return replace(_from_files(paths, stream_id, folder.name), beside=folder)


def _from_nested(items: Sequence[Any], stream_id: str | None) -> _Input:
    if not items:
        msg = "a nested list of recordings is empty"
        raise ValueError(msg)
    for item in items:
        if not isinstance(item, (str, os.PathLike)):
            msg = (
                f"a nested list must hold paths, got {type(item).__name__}; join recordings "
                "with spikeinterface.concatenate_recordings"
            )
            raise TypeError(msg)
    paths = [_absolute(item) for item in items]
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name}_and_{len(paths) - 1}_more"
    return _from_files(paths, stream_id, name)


def _from_files(paths: list[Path], stream_id: str | None, name: str) -> _Input:
    """Return the files as one recording; one file alone has nothing to be split back."""
    parts = [_from_file(path, stream_id) for path in paths]
    first = parts[0]
    stream = first.source.stream_id if first.name != paths[0].name else None
    return _Input(
        name=_name_of(name, stream),
        source=Source(tuple(map(str, paths)), first.source.stream_id, splits=len(paths) > 1),
        beside=paths[0],
        problem=next((part.problem for part in parts if part.problem), None),
    )


# --------------------------------------------------------------------------------------------------- folders


def _folder_list(name: str, folders: Any, n: int) -> list[Path | None]:
    if folders is None:
        return [None] * n
    listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    if len(listed) != n:
        msg = f"{name} and the recordings must have the same length, got {len(listed)} and {n}"
        raise ValueError(msg)
    return [_absolute(folder) for folder in listed]


def _folders(found: _Input, sorter: str, inter: Path | None, results: Path | None) -> RunFolder:
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
                msg = f"{seen[folder].path} and {job.path} would share the folder {folder}; give each its own"
                raise ValueError(msg)
            seen[folder] = job
        _check_ours(job)
        _check_owner(job)
    _check_results_are_safe(jobs)


def _check_results_are_safe(jobs: Sequence[Job]) -> None:
    """Refuse results in an intermediate folder, which is emptied when its sort has succeeded."""
    emptied = {job.run.inter.resolve(): job for job in jobs}
    for job in jobs:
        for folder in job.run.results.resolve().parents:
            if folder in emptied:
                msg = (
                    f"the results folder {job.run.results} of {job.path} lies in {folder}, the intermediate folder "
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
    if owner is None or owner == ours or _was_moved(owner, ours):
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


def _describe_owner(card: Mapping[str, Any], otherwise: str) -> str:
    stream = f" (stream {card['stream_id']})" if card.get("stream_id") else ""
    return (", ".join(card.get("files", ())) or otherwise) + stream
