"""Results with one file damaged at a time, as a crash, a full disk or a sorter with a fault leaves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

NEWLINE_ONLY = "without its last byte"
"""Of a text this may be a line's end alone, which nobody can miss."""
CUTS: Mapping[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _content: None,
    "empty": lambda _content: b"",
    "half of it": lambda content: content[: len(content) // 2],
    NEWLINE_ONLY: lambda content: content[:-1],
}
"""What may be left of a file."""


@contextmanager
def cut(file: Path, how: str) -> Iterator[None]:
    """Have only a part of `file` there, as `CUTS` says; afterwards it is what it was."""
    content = file.read_bytes()
    left = CUTS[how](content)
    with _restored(file, content):
        file.unlink()
        if left is not None:
            file.write_bytes(left)
        yield


@contextmanager
def one_row_less(file: Path) -> Iterator[None]:
    """Have an array there without its last row, whole but for that; what is none, or has no row, stays."""
    content = file.read_bytes()
    array = _array(file)
    with _restored(file, content):
        if array is not None and array.ndim and len(array):
            np.save(file, array[:-1])
        yield


def _array(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except ValueError:  # Python objects: nothing that we would read
        return None


@contextmanager
def _restored(file: Path, content: bytes) -> Iterator[None]:
    try:
        yield
    finally:
        file.write_bytes(content)
