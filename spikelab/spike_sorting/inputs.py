"""What a call names as recordings: each with its name, what it is read from, and why it cannot be.

Which stream of a file is meant is decided here; where its results go is not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.descriptions import describe, described_path, described_stream, is_recording
from spikelab.spike_sorting.sources import Source, find_streams, is_recording_path, recordings_in


@dataclass(frozen=True)
class Input:
    """A recording before its folders are known.

    Parameters
    ----------
    name : str
        Name for people, and of its folders.
    source : Source
        Where it comes from.
    beside : Path or None
        The file or folder that results lie beside; None where there is no file.
    in_memory : BaseRecording or None
        A recording that only this process has.
    problem : RecordingUnreadableError or None
        Why it cannot be read, where that shows already.
    """

    name: str
    source: Source
    beside: Path | None = None
    in_memory: Any = None
    problem: RecordingUnreadableError | None = None


def as_list(recording_files: Any) -> list[Any]:
    """Return what stands for one recording each: a single one is a list of one.

    Raises
    ------
    TypeError
        It is neither a path, nor a recording, nor a list.
    ValueError
        The list is empty.
    """
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


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return `path` as it stays true when the current folder changes; links are kept."""
    return Path(path).expanduser().absolute()


def find_input(item: Any, stream_id: str | None) -> Input:
    """Return the recording that `item` stands for; what cannot be read is an input with a problem.

    Parameters
    ----------
    item : path, recording or list of paths
        A list, like a folder of recordings, is one recording of several files.
    stream_id : str or None
        Stream to read; None where a file has only one.

    Raises
    ------
    TypeError
        The item, or one of a list, is of another kind.
    ValueError
        A list is empty; a file has several streams and none is chosen, or lacks the one that is.
    """
    if is_recording(item):
        return _from_object(item)
    if isinstance(item, (str, os.PathLike)):
        path = absolute(item)
        return _from_folder(path, stream_id) if _is_folder_of_recordings(path) else _from_file(path, stream_id)
    if isinstance(item, Sequence):
        return _from_nested(item, stream_id)
    msg = f"a recording must be a path, a list of paths or a SpikeInterface recording, got {type(item).__name__}"
    raise TypeError(msg)


def _is_folder_of_recordings(path: Path) -> bool:
    return path.is_dir() and not is_recording_path(path)


def _from_object(recording: Any) -> Input:
    beside = described_path(recording)
    if beside is None and not recording.check_serializability("json"):
        return Input(name="recording", source=Source(), in_memory=recording)
    description = describe(recording)
    stream = described_stream(description)
    name = _name_of(beside.name if beside else "recording", stream)
    return Input(name=name, source=Source(description=description), beside=beside)


def _name_of(file: str, stream: str | None) -> str:
    return f"{file}_{stream}" if stream else file


def _from_file(path: Path, stream_id: str | None) -> Input:
    try:
        streams = find_streams(path)
    except RecordingUnreadableError as error:
        return Input(name=path.name, source=Source((str(path),), stream_id), beside=path, problem=error)
    chosen = _choose_stream(path, streams, stream_id)
    name = _name_of(path.name, chosen if len(streams) > 1 else None)
    return Input(name=name, source=Source((str(path),), chosen), beside=path)


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


def _from_folder(folder: Path, stream_id: str | None) -> Input:
    paths = recordings_in(folder)
    if not paths:
        problem = RecordingUnreadableError(
            f"{folder} holds no recordings; expected .raw.h5 files or SpikeInterface folders",
            path=str(folder),
        )
        return Input(name=folder.name, source=Source((str(folder),)), beside=folder, problem=problem)
    return replace(_from_files(paths, stream_id, folder.name), beside=folder)


def _from_nested(items: Sequence[Any], stream_id: str | None) -> Input:
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
    paths = [absolute(item) for item in items]
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name}_and_{len(paths) - 1}_more"
    return _from_files(paths, stream_id, name)


def _from_files(paths: list[Path], stream_id: str | None, name: str) -> Input:
    """Return the files as one recording; one file alone has nothing to be split back."""
    parts = [_from_file(path, stream_id) for path in paths]
    first = parts[0]
    stream = first.source.stream_id if first.name != paths[0].name else None
    return Input(
        name=_name_of(name, stream),
        source=Source(tuple(map(str, paths)), first.source.stream_id, splits=len(paths) > 1),
        beside=paths[0],
        problem=next((part.problem for part in parts if part.problem), None),
    )
