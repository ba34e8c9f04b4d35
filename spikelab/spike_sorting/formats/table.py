"""The table of formats, and what it says of a path: of which format it is, with which streams, and how it is read."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from spikelab.spike_sorting._exceptions import RecordingUnreadableError
from spikelab.spike_sorting.formats.amplifiers import AMPLIFIER_FORMATS
from spikelab.spike_sorting.formats.folders import FLAT_BINARY, FOLDER_FORMATS
from spikelab.spike_sorting.formats.format import BinaryLayout, Format, Stream
from spikelab.spike_sorting.formats.hdf5 import HDF5_FORMATS, is_hdf5

FORMATS: tuple[Format, ...] = (*FOLDER_FORMATS, *HDF5_FORMATS, *AMPLIFIER_FORMATS, FLAT_BINARY)
"""In the order in which they are tried: what says most about itself first, flat binary files last."""
_NOT_READ = {
    ".pl2": "Plexon's library, which SpikeInterface would fetch from the network: export to .plx or NWB",
    ".nev": "spikes and events alone: give the .ns5 or .ns6 file beside it",
    ".meta": "the description of a SpikeGLX file: give the .bin file beside it",
    ".ncs": "one channel of a Neuralynx recording: give its folder",
    ".oebin": "the description of an Open Ephys recording: give its folder",
    ".continuous": "one channel of an Open Ephys recording: give its folder",
    ".mcd": "the older format of Multi Channel Systems: export it with MC_DataTool or the DataManager",
}
"""Endings that people try, with what to give instead."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """Of which format a path is.

    Parameters
    ----------
    format : Format or None
        The first that does not refuse it at first sight.
    refused : tuple of (str, str)
        Those before it that its ending or its kind speaks for: name, and why not.
    """

    format: Format | None = None
    refused: tuple[tuple[str, str], ...] = ()


def find_format(path: Path) -> Found:
    """Return of which format the file or folder `path` is; nothing is parsed."""
    refused: list[tuple[str, str]] = []
    for format_, problem in _claims(path) if path.exists() else ():
        if problem is None:
            return Found(format_, tuple(refused))
        refused.append((format_.name, problem))
    return Found(None, tuple(refused))


def _claims(path: Path) -> Iterator[tuple[Format, str | None]]:
    """Yield each format that may be concerned, with what speaks against it."""
    if path.is_dir():
        for format_ in FORMATS:
            if format_.folder_problem is not None:
                yield format_, _problem(format_.folder_problem, path)
        return
    name = path.name.lower()
    holds_hdf5 = _problem(_hdf5_problem, path) is None
    for format_ in FORMATS:
        by_content = holds_hdf5 and format_ in HDF5_FORMATS
        if by_content or name.endswith(format_.suffixes):
            yield format_, _problem(format_.file_problem, path)


def _hdf5_problem(path: Path) -> str | None:
    return None if path.is_file() and is_hdf5(path) else "it is no HDF5 file"


def _problem(look: Callable[[Path], str | None], path: Path) -> str | None:
    """Return what a format has against `path`, which may not even be open to a look."""
    try:
        return look(path)
    except OSError as error:
        return f"it cannot be looked at ({error})"


def is_recording_path(path: Path) -> bool:
    """Return whether `path` is one recording rather than a folder of recordings, by ending or signature.

    A damaged file counts: who names a folder of recordings wants to hear of each.
    """
    if path.is_dir():
        return find_format(path).format is not None
    return any(
        format_.in_folders and (problem is None or format_ in HDF5_FORMATS) for format_, problem in _claims(path)
    )


def is_flat_binary(path: Path) -> bool:
    """Return whether the file `path` may be a flat binary one."""
    return not path.is_dir() and find_format(path).format is FLAT_BINARY


# ------------------------------------------------------------------------------------------- asking a recording


def streams_of(path: Path) -> list[Stream]:
    """Return the streams of the file or folder `path`; empty where its format has no streams.

    Raises
    ------
    RecordingUnreadableError
        It is missing, damaged, or of no known format; lists what was tried, and why each refused.
    """
    return _ask(path, lambda format_: format_.streams(path))


def open_recording(path: Path, stream_id: str | None = None, layout: BinaryLayout | None = None) -> Any:
    """Return the SpikeInterface recording of the file or folder `path`.

    Parameters
    ----------
    path : Path
        File or folder.
    stream_id : str or None, default None
        Stream to read where there are several.
    layout : BinaryLayout or None, default None
        How a flat binary file is laid out.

    Raises
    ------
    RecordingUnreadableError
        It is missing, damaged, or of no known format; lists what was tried, and why each refused.
    """
    return _ask(path, lambda format_: format_.read(path, stream_id, layout))


def files_of(path: Path) -> list[Path]:
    """Return the files and folders that are read for the recording `path`."""
    format_ = find_format(path).format
    return format_.files(path) if format_ else [path]


def cut_of(path: Path) -> str | None:
    """Return what shows that a copy of the recording `path` was cut short, although it can be read, or None."""
    format_ = find_format(path).format
    return format_.cut(path) if format_ else None


def _ask(path: Path, ask: Callable[[Format], _T]) -> _T:
    """Return what the format of `path` answers."""
    _check_exists(path)
    found = find_format(path)
    if found.format is None:
        raise RecordingUnreadableError(_told_unknown(path, found), path=str(path))
    try:
        with _quiet(path):
            return ask(found.format)
    except MemoryError:
        raise
    except Exception as error:
        # Readers of others raise anything for damaged files.
        said = _told_damaged(path, found, found.format, error)
        raise RecordingUnreadableError(said, path=str(path)) from error


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Keep what readers warn of out of the way of a person, and in the log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(_one_line(warning.message) for warning in caught):
        _log.info("%s: %s", path, text)


def _check_exists(path: Path) -> None:
    if path.is_file() or path.is_dir():
        return
    msg = f"no such recording: {path}"
    if path.is_symlink():
        msg = f"{path} is a link to {path.readlink()}, which is not there"
    elif path.exists():
        msg = f"{path} is neither a file nor a folder"
    raise RecordingUnreadableError(msg, path=str(path))


# --------------------------------------------------------------------------------------------- what is told then


def _told_damaged(path: Path, found: Found, format_: Format, error: Exception) -> str:
    problem = f"{type(error).__name__}: {_one_line(error)}"
    if format_ is FLAT_BINARY and found.refused:
        return _told_tried(path, [*found.refused, (format_.name, problem)])
    return f"{path} cannot be read as {format_.name} ({problem}); expected {format_.expects}"


def _told_tried(path: Path, refused: Sequence[tuple[str, str]]) -> str:
    return f"{path} cannot be read. Tried {'; '.join(_reasons(refused))}"


def _told_unknown(path: Path, found: Found) -> str:
    if found.refused:
        return _told_tried(path, found.refused)
    suffix = path.suffix.lower()
    if suffix in _NOT_READ:
        return f"{path} cannot be sorted: {suffix} is {_NOT_READ[suffix]}"
    known = "; ".join(f"{format_.name} ({', '.join(format_.suffixes) or 'a folder'})" for format_ in FORMATS)
    return (
        f"{path} is of no known format: nothing is read that ends in {suffix or 'nothing'}. Known are {known}. Open "
        "others with SpikeInterface, and give the recording itself"
    )


def _reasons(refused: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield each reason once, after the names of the formats that gave it."""
    for reason in dict.fromkeys(reason for _, reason in refused):
        yield f"{', '.join(name for name, own in refused if own == reason)}: {reason}"


def why_no_recording(folder: Path) -> str:
    """Return why a folder is neither a recording nor holds any."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    held = f"it holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "it is empty"
    as_file = [format_ for format_ in FORMATS if folder.name.lower().endswith(format_.suffixes)]
    hint = f"; {as_file[0].name} expects {as_file[0].expects}" if as_file else ""
    tried = "; ".join(_reasons(find_format(folder).refused))
    return f"{folder} is a folder that holds no recordings ({held}){hint}. Tried as one recording: {tried}"


def has_own_probe(path: Path) -> bool:
    """Return whether the format of `path` keeps the positions of its channels itself."""
    format_ = find_format(path).format
    return format_ is not None and format_.has_probe


def _one_line(message: object) -> str:
    text = re.sub(r"\s+", " ", str(message)).strip()
    return text if len(text) <= 300 else f"{text[:297]}..."
