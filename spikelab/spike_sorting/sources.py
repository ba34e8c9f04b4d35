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

from spikelab.spike_sorting._exceptions import ProbeMisfitError, RecordingUnreadableError
from spikelab.spike_sorting.descriptions import (
    described_paths,
    described_stream,
    load_description,
    without_downloads,
)
from spikelab.spike_sorting.formats.format import BinaryLayout
from spikelab.spike_sorting.formats.table import (
    cut_of,
    files_of,
    is_flat_binary,
    is_recording_path,
    open_recording,
    streams_of,
)
from spikelab.spike_sorting.probes.attach import attach_probe
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.shanks import of_shank, split_shank
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX, publish_folder, publish_text

_DIGEST_BLOCK_BYTES = 1 << 16


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
    probe : str or None
        Absolute path of a probe file.
    probe_replaces : bool
        Whether it takes the place of the recording's own probe, rather than of a missing one.
    layout : BinaryLayout or None
        How flat binary files are laid out.
    """

    files: tuple[str, ...] = ()
    stream_id: str | None = None
    description: str | None = None
    splits: bool = False
    content: str | None = None
    probe: str | None = None
    probe_replaces: bool = False
    layout: BinaryLayout | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each file, for epochs and messages."""
        return tuple(Path(file).name for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        layout = self.layout.to_dict() if self.layout else None
        return {**asdict(self), "files": list(self.files), "layout": layout}

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
        layout = BinaryLayout.from_dict(values["layout"]) if values["layout"] else None
        return cls(**{**values, "files": tuple(values["files"]), "layout": layout})


# --------------------------------------------------------------------------------------------- what is there


def recordings_in(folder: Path) -> list[Path]:
    """Return the recordings in `folder` in natural order: 2 before 10. Hidden ones are left out.

    Flat binary files count where there is nothing else: many programs leave some beside their recordings.
    """
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = [path for path in visible if is_recording_path(path)] or [path for path in visible if is_flat_binary(path)]
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key in which numbers within a name count as numbers, and no two names are equal."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part], path.name


def find_streams(path: Path) -> list[str]:
    """Return the ids of the streams of `path` in which there are spikes (all where none says so).

    Empty where its format has no streams. A plate has its wells; of the probe of a Neuropixels run it is the wide
    band, without LFP, synchronisation and auxiliary inputs, which ``stream_id`` may still choose.

    Raises
    ------
    RecordingUnreadableError
        The file is missing, damaged, or of no known format.
    """
    streams = streams_of(path)
    return [stream.id for stream in streams if stream.has_spikes] or [stream.id for stream in streams]


# ------------------------------------------------------------------------------------------------- opening it


@dataclass(frozen=True)
class Opened:
    """A file of a source, opened.

    Parameters
    ----------
    recording : BaseRecording
        What is in it, with the probe that belongs to it.
    remarks : tuple of Remark
        Where the probe comes from, and which channels it leaves out.
    """

    recording: Any
    remarks: tuple[Remark, ...] = ()


def open_source(source: Source) -> list[Any]:
    """Return one SpikeInterface recording per file of `source`.

    Raises
    ------
    RecordingUnreadableError
        A file is missing, damaged, or of an unknown format; lists what was tried.
    ProbeMisfitError
        The probe file does not fit the recording.
    """
    return [opened.recording for opened in open_files(source)]


def open_files(source: Source) -> list[Opened]:
    """Return what `open_source` does, with what deserves a note."""
    if source.description is not None:
        return [Opened(load_description(source.description))]
    return [_opened(Path(file), source) for file in source.files]


def _opened(path: Path, source: Source) -> Opened:
    stream_id, shank = split_shank(source.stream_id)
    found = _with_probe(without_downloads(open_recording(path, stream_id, source.layout)), source)
    remarks = (*_cut_remarks(path), *found.remarks)
    return Opened(of_shank(found.recording, shank, str(path)), remarks)


def _cut_remarks(path: Path) -> list[Remark]:
    cut = cut_of(path)
    advice = "Compare the file with its original, and copy it again if their sizes differ."
    return [] if cut is None else [remark("file-cut", cut, advice)]


def _with_probe(recording: Any, source: Source) -> Opened:
    if source.probe is None or (recording.has_probe() and not source.probe_replaces):
        return Opened(recording)
    wired, left_out = attach_probe(recording, source.probe)
    remarks = [remark("channels-without-contact", text) for text in left_out]
    if not source.probe_replaces:
        remarks.append(remark("probe-beside", f"the probe is {source.probe}, which lies beside the recording"))
    return Opened(wired, tuple(remarks))


# ----------------------------------------------------------------------------------------------- its identity


def identity(source: Source) -> dict[str, Any]:
    """Return what tells this input from another: for each file its size, time and sampled content.

    Raises
    ------
    RecordingUnreadableError
        A file is missing.
    """
    if source.content is not None:
        return {"content": source.content}
    paths = [path for file in source.files for path in files_of(Path(file))]
    paths += sorted(described_paths(source.description))
    read: dict[str, Any] = {"stream_id": source.stream_id, "splits": source.splits, "description": source.description}
    if source.layout is not None:
        read["layout"] = source.layout.to_dict()
    if source.probe is not None:
        read["probe"] = {"replaces": source.probe_replaces, "digest": _digest(Path(source.probe))}
    return {"read": read, "files": [_file_identity(path) for path in paths]}


def content(identity: Mapping[str, Any]) -> Any:
    """Return what of an `identity` is content: a file that was only touched has the same."""
    return _without_times(identity)


def _without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_times(item) for key, item in value.items() if key != "mtime_ns"}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _file_identity(path: Path) -> dict[str, Any]:
    if not path.exists():
        msg = f"no such recording: {path}"
        raise RecordingUnreadableError(msg, path=str(path))
    if path.is_dir():
        return {"name": path.name, "content": [_file_identity(file) for file in _files_below(path)]}
    stat = path.stat()
    return {
        "name": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "digest": _sampled_digest(path, stat.st_size),
    }


def _digest(path: Path) -> str:
    if not path.is_file():
        msg = f"no such probe file: {path}"
        raise ProbeMisfitError(msg, path=str(path))
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


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
    folders = [*plugin_folders(hdf5_plugin_path), *plugin_folders(os.environ.get("HDF5_PLUGIN_PATH"))]
    return {"HDF5_PLUGIN_PATH": os.pathsep.join(map(str, folders))} if folders else {}


def plugin_folders(joined: str | None) -> list[Path]:
    """Return the folders in a list that is joined by the path separator, as they stay true elsewhere."""
    return [Path(part).expanduser().absolute() for part in (joined or "").split(os.pathsep) if part]
