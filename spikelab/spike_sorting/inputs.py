"""What a call names as recordings: each with its name, what it is read from, and why it cannot be.

Which stream of a file is meant is decided here; where its results go is not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.descriptions import describe, described_path, described_stream, is_recording
from spikelab.spike_sorting.formats.format import BinaryLayout, Stream
from spikelab.spike_sorting.formats.table import (
    has_own_probe,
    is_flat_binary,
    is_recording_path,
    streams_of,
    why_no_recording,
)
from spikelab.spike_sorting.probes.attach import attach_probe, probe_beside
from spikelab.spike_sorting.shanks import join_shank, split_shank
from spikelab.spike_sorting.sources import Source, recordings_in

_NOT_IN_NAMES = re.compile(r"[^-\w.#+=@~ ]+")


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


def find_input(item: Any, options: RecordingConfig) -> Input:
    """Return the recording that `item` stands for; what cannot be read is an input with a problem.

    Parameters
    ----------
    item : path, recording or list of paths
        A list, like a folder of recordings, is one recording of several files.
    options : RecordingConfig
        Which stream is read, with which probe, and how flat binary files are laid out.

    Raises
    ------
    TypeError
        The item, or one of a list, is of another kind.
    ValueError
        A list is empty; a file has several streams and none is chosen, or lacks the one that is.
    """
    if is_recording(item):
        return _from_object(item, options)
    if isinstance(item, (str, os.PathLike)):
        path = absolute(item)
        return _from_folder(path, options) if _is_folder_of_recordings(path) else _from_file(path, options)
    if isinstance(item, Sequence):
        return _from_nested(item, options)
    msg = f"a recording must be a path, a list of paths or a SpikeInterface recording, got {type(item).__name__}"
    raise TypeError(msg)


def _is_folder_of_recordings(path: Path) -> bool:
    return path.is_dir() and not is_recording_path(path)


def _from_object(recording: Any, options: RecordingConfig) -> Input:
    beside = described_path(recording)
    problem = None
    try:
        recording = _with_given_probe(recording, options)
    except RecordingUnreadableError as error:
        problem = error
    if beside is None and not recording.check_serializability("json"):
        return Input(name="recording", source=Source(), in_memory=recording, problem=problem)
    description = describe(recording)
    name = _name_of(beside.name if beside else "recording", described_stream(description))
    return Input(name=name, source=Source(description=description), beside=beside, problem=problem)


def _with_given_probe(recording: Any, options: RecordingConfig) -> Any:
    return recording if options.probe_path is None else attach_probe(recording, absolute(options.probe_path))[0]


def _name_of(file: str, stream: str | None) -> str:
    """Return the name of a recording, and of its folders: streams may have names that no folder can have."""
    return f"{file}_{_NOT_IN_NAMES.sub('_', stream)}" if stream else file


def _from_file(path: Path, options: RecordingConfig) -> Input:
    try:
        streams = streams_of(path)
        source = Source((str(path),), options.stream_id, **_reading(path, options))
    except RecordingUnreadableError as error:
        return Input(name=path.name, source=Source((str(path),), options.stream_id), beside=path, problem=error)
    chosen = _choose_stream(path, streams, options.stream_id)
    name = _name_of(path.name, chosen if len(streams) > 1 else split_shank(chosen)[1])
    return Input(name=name, source=replace(source, stream_id=chosen), beside=path)


def _reading(path: Path, options: RecordingConfig) -> dict[str, Any]:
    """Return what a source must know to read `path` besides the path: its probe, and the layout of a flat file."""
    reading: dict[str, Any] = {}
    if options.probe_path is not None:
        reading = {"probe": str(absolute(options.probe_path)), "probe_replaces": True}
    elif not has_own_probe(path) and (beside := probe_beside(path)) is not None:
        reading = {"probe": str(beside)}
    if is_flat_binary(path):
        reading["layout"] = BinaryLayout(
            options.binary_fs, options.binary_n_chan, options.binary_dtype, options.binary_offset
        )
    return reading


def _choose_stream(path: Path, streams: Sequence[Stream], stream_id: str | None) -> str | None:
    """Return the id of the stream that is meant, by its id or its name; of several, the only one that has spikes."""
    if stream_id is not None:
        by_name = {name: stream.id for stream in streams for name in (stream.name, stream.id)}
        if stream_id not in by_name:
            stream, shank = split_shank(stream_id)
            if shank is not None:
                return join_shank(_choose_stream(path, streams, stream), shank)
            msg = f"{path} has no stream {stream_id!r}; it has {_listed(streams) or 'no streams'}"
            raise ValueError(msg)
        return by_name[stream_id]
    sortable = [stream for stream in streams if stream.has_spikes] or list(streams)
    if len(sortable) > 1:
        msg = f"{path} has several streams: {_listed(sortable)}; use sort_multistream, or name one with stream_id"
        raise ValueError(msg)
    return sortable[0].id if sortable else None


def _listed(streams: Sequence[Stream]) -> list[str]:
    return [str(stream) for stream in streams]


def _from_folder(folder: Path, options: RecordingConfig) -> Input:
    paths = recordings_in(folder)
    if not paths:
        problem = RecordingUnreadableError(why_no_recording(folder), path=str(folder))
        return Input(name=folder.name, source=Source((str(folder),)), beside=folder, problem=problem)
    return replace(_from_files(paths, options, folder.name), beside=folder)


def _from_nested(items: Sequence[Any], options: RecordingConfig) -> Input:
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
    return _from_files(paths, options, name)


def _from_files(paths: list[Path], options: RecordingConfig, name: str) -> Input:
    """Return the files as one recording; one file alone has nothing to be split back."""
    parts = [_from_file(path, options) for path in paths]
    first = parts[0]
    stream = first.source.stream_id if first.name != paths[0].name else None
    return Input(
        name=_name_of(name, stream),
        source=replace(first.source, files=tuple(map(str, paths)), splits=len(paths) > 1),
        beside=paths[0],
        problem=next((part.problem for part in parts if part.problem), None),
    )
