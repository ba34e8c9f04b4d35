"""What a format is: how its files are known, which streams they have, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stream:
    """Channels of a file that were recorded together.

    Parameters
    ----------
    id : str
        What ``stream_id`` chooses it by.
    name : str
        What a person knows it by; the same as `id` where the format has no names.
    has_spikes : bool
        Whether spikes can be seen in it, unlike in an LFP band, a synchronisation channel or an auxiliary input.
    """

    id: str
    name: str
    has_spikes: bool = True

    def __str__(self) -> str:
        return self.id if self.name == self.id else f"{self.id} ({self.name})"


@dataclass(frozen=True)
class BinaryLayout:
    """What a flat binary file does not say of itself.

    Parameters
    ----------
    fs_Hz : float or None
        Sampling rate.
    n_channels : int or None
        Channels in the file, those without electrodes included.
    dtype : str
        Type of a sample.
    offset_bytes : int
        Length of a header, which is skipped.
    """

    fs_Hz: float | None = None
    n_channels: int | None = None
    dtype: str = "int16"
    offset_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BinaryLayout:
        """Return the layout that `values` (from ``to_dict``) describes."""
        return cls(**values)


def _never(_path: Path) -> str | None:
    return None


def _itself(path: Path) -> list[Path]:
    return [path]


def _no_streams(_path: Path) -> list[Stream]:
    return []


Reader = Callable[[Path, "str | None", "BinaryLayout | None"], Any]


@dataclass(frozen=True)
class Format:
    """One row of the table of formats.

    Parameters
    ----------
    name : str
        What people call it.
    expects : str
        Which path to give.
    read : callable
        Takes path, stream and layout, and returns a SpikeInterface recording.
    suffixes : tuple of str, default ()
        Endings of its files, in small letters.
    file_problem : callable
        Returns why a file with such an ending is not of this format, or None. It looks, and parses nothing.
    folder_problem : callable or None, default None
        The same of a folder; None: the format has no folders.
    streams : callable
        Returns the streams of a file or folder; none where the format has no notion of them.
    files : callable
        Returns the files and folders that are read, beside the path itself where there are others.
    cut : callable
        Returns by how much a file is shorter than it says of itself, where it says anything, or None.
    in_folders : bool, default True
        Whether such a file in a folder of recordings counts as one of them.
    has_probe : bool, default False
        Whether it always keeps the positions of its channels: no probe file is looked for beside it.
    """

    name: str
    expects: str
    read: Reader
    suffixes: tuple[str, ...] = ()
    file_problem: Callable[[Path], str | None] = _never
    folder_problem: Callable[[Path], str | None] | None = None
    streams: Callable[[Path], list[Stream]] = _no_streams
    files: Callable[[Path], list[Path]] = _itself
    cut: Callable[[Path], str | None] = _never
    in_folders: bool = True
    has_probe: bool = False
