"""What a recording is read from: files and their streams, or a SpikeInterface object.

A source is a value that travels as JSON; opening it gives SpikeInterface recordings, one per file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.descriptions import (
    READ_ERRORS,
    described_paths,
    described_stream,
    is_recording,
    load_description,
    without_downloads,
)
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX, publish_folder, publish_text

_DIGEST_BLOCK_BYTES = 1 << 16
_RECORDING_SUFFIXES = (".h5", ".zarr")


@dataclass(frozen=True)
class Source:
    """Where one recording comes from.

    Parameters
    ----------
    files : tuple of str
        Absolute paths of files or folders, in order; several are concatenated.
    stream_id : str or None
        Stream to read where a file has several.
    description : str or None
        A SpikeInterface recording as JSON, instead of files to open.
    splits : bool
        Whether results are split back into one per file.
    content : str or None
        Digest of every sample, where the files are the run's own copy of a recording that lived in memory.
    """

    files: tuple[str, ...] = ()
    stream_id: str | None = None
    description: str | None = None
    splits: bool = False
    content: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each file, for epochs and messages."""
        return tuple(Path(file).name for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "files": list(self.files)}

    def owner_card(self) -> dict[str, Any]:
        """Return which recording this is, whatever is done to it: its files and its stream, where it has any."""
        if self.description is not None:
            paths = sorted(str(path) for path in described_paths(self.description))
            return {"files": paths, "stream_id": described_stream(self.description)}
        files = list(self.files) if self.content is None else []
        return {"files": files, "stream_id": self.stream_id}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Source:
        """Return the source that `values` (from ``to_dict``) describes."""
        return cls(**{**values, "files": tuple(values["files"])})


# --------------------------------------------------------------------------------------------- what is there


def is_recording_path(path: Path) -> bool:
    """Return whether `path` looks like one recording, rather than a folder of recordings."""
    return path.suffix in _RECORDING_SUFFIXES or _is_spikeinterface_folder(path)


def recordings_in(folder: Path) -> list[Path]:
    """Return the recordings in `folder` in natural order: 2 before 10. Hidden ones are left out."""
    found = (path for path in folder.iterdir() if is_recording_path(path) and not path.name.startswith("."))
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key in which numbers within a name count as numbers, and no two names are equal."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part], path.name


def find_streams(path: Path) -> list[str]:
    """Return the ids of the streams (wells) of the file `path`; empty where its format has no streams.

    Raises
    ------
    RecordingUnreadableError
        The file is missing, or not what its name says.
    """
    _check_exists(path)
    return _maxwell_wells(path) if _is_maxwell(path) else []


def _is_spikeinterface_folder(path: Path) -> bool:
    names = ("binary.json", "si_folder.json", "provenance.json", "cached.json", "spikeinterface_info.json")
    return path.is_dir() and any((path / name).is_file() for name in names)


def _is_maxwell(path: Path) -> bool:
    if path.suffix != ".h5" or not path.is_file():
        return False
    with _open_hdf5(path) as file:
        return "version" in file and ("wells" in file or "sig" in file)


def _maxwell_wells(path: Path) -> list[str]:
    with _open_hdf5(path) as file:
        return sorted(file["wells"]) if "wells" in file else ["well000"]


def _open_hdf5(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        msg = f"{path} cannot be opened as HDF5 ({error}); expected a Maxwell .raw.h5 file"
        raise RecordingUnreadableError(msg, path=str(path)) from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        msg = f"no such recording: {path}"
        raise RecordingUnreadableError(msg, path=str(path))


# ------------------------------------------------------------------------------------------------- opening it


def open_source(source: Source) -> list[Any]:
    """Return one SpikeInterface recording per file of `source`.

    Raises
    ------
    RecordingUnreadableError
        A file is missing, damaged, or of an unknown format; lists what was tried.
    """
    if source.description is not None:
        return [load_description(source.description)]
    return [without_downloads(_open_file(Path(file), source.stream_id)) for file in source.files]


def _open_file(path: Path, stream_id: str | None) -> Any:
    _check_exists(path)
    if _is_maxwell(path):
        return _read_maxwell(path, stream_id)
    if _is_spikeinterface_folder(path) or path.suffix == ".zarr":
        return _load_spikeinterface(path)
    msg = f"{path} is of no known format; tried Maxwell .raw.h5, SpikeInterface folder, SpikeInterface zarr"
    raise RecordingUnreadableError(msg, path=str(path))


def _read_maxwell(path: Path, stream_id: str | None) -> Any:
    from spikeinterface.extractors import read_maxwell

    try:
        return read_maxwell(path, stream_id=stream_id, install_maxwell_plugin=False)
    except READ_ERRORS as error:
        msg = f"{path} cannot be read as a Maxwell file ({type(error).__name__}: {error})"
        raise RecordingUnreadableError(msg, path=str(path)) from error


def _load_spikeinterface(path: Path) -> Any:
    import spikeinterface

    try:
        loaded = spikeinterface.load(path)
    except READ_ERRORS as error:
        msg = f"{path} is not a complete SpikeInterface recording ({type(error).__name__}: {error})"
        raise RecordingUnreadableError(msg, path=str(path)) from error
    if not is_recording(loaded):
        msg = f"{path} holds a {type(loaded).__name__}; expected a recording"
        raise RecordingUnreadableError(msg, path=str(path))
    return loaded


# ----------------------------------------------------------------------------------------------- its identity


def identity(source: Source) -> dict[str, Any]:
    """Return what tells this input from another: for each file its size, time and sampled content."""
    if source.content is not None:
        return {"content": source.content}
    paths = [Path(file) for file in source.files] or sorted(described_paths(source.description))
    read = {"stream_id": source.stream_id, "splits": source.splits, "description": source.description}
    return {"read": read, "files": [_file_identity(path) for path in paths]}


def _file_identity(path: Path) -> dict[str, Any]:
    _check_exists(path)
    if path.is_dir():
        return {"name": path.name, "content": [_file_identity(file) for file in _files_below(path)]}
    stat = path.stat()
    return {
        "name": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "digest": _sampled_digest(path, stat.st_size),
    }


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sampled_digest(path: Path, size: int) -> str:
    """Digest 16 blocks spread over the file.

    It takes milliseconds for any size, and no change of a header, an end, or a whole recording goes unseen.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for k in range(16):
            file.seek(max(0, (size - _DIGEST_BLOCK_BYTES) * k // 15))
            digest.update(file.read(_DIGEST_BLOCK_BYTES))
    return digest.hexdigest()


# -------------------------------------------------------------------------------- recordings only in memory


def in_memory_source(recording: Any, folder: Path) -> Source:
    """Return the source that `save_in_memory` makes of `recording` in `folder`: it is known by its content."""
    return Source(files=(str(folder),), content=_traces_digest(recording))


def save_in_memory(recording: Any, source: Source) -> None:
    """Stream a recording that lives in this process to where `source` says, unless it is there already."""
    folder, digest = Path(source.files[0]), source.content or ""
    stamp = folder.with_name(f"{folder.name}.digest")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest and folder.is_dir():
        return
    stamp.unlink(missing_ok=True)
    partial = folder.with_name(f"{folder.name}{PARTIAL_SUFFIX}")
    shutil.rmtree(partial, ignore_errors=True)
    recording.save(folder=partial, format="binary", n_jobs=1, verbose=False, progress_bar=False)
    publish_folder(partial, folder)
    publish_text(stamp, digest)


def _traces_digest(recording: Any) -> str:
    """Digest every sample and what gives it meaning, a second at a time."""
    digest = hashlib.blake2b(digest_size=16)
    meaning = [recording.sampling_frequency, recording.channel_ids.tolist(), str(recording.dtype)]
    scales = (recording.get_channel_gains(), recording.get_channel_offsets())
    meaning += [None if values is None else values.tolist() for values in scales]
    meaning.append(recording.get_channel_locations().tolist() if recording.has_probe() else None)
    digest.update(json.dumps(meaning).encode())
    step = int(recording.sampling_frequency)
    for segment in range(recording.get_num_segments()):
        n_samples = recording.get_num_samples(segment)
        for start in range(0, n_samples, step):
            end = min(start + step, n_samples)
            traces = recording.get_traces(segment_index=segment, start_frame=start, end_frame=end)
            digest.update(traces.tobytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------ plugins of HDF5


def plugin_environment(hdf5_plugin_path: str | None) -> dict[str, str]:
    """Return the variables with which a new process finds the HDF5 plugins of the settings, and those of this one.

    HDF5 looks for them when its library starts: in a process that has it loaded, it is too late.
    """
    folders = [hdf5_plugin_path, os.environ.get("HDF5_PLUGIN_PATH")]
    return {"HDF5_PLUGIN_PATH": os.pathsep.join(filter(None, folders))} if any(folders) else {}
