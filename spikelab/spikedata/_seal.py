"""A checksum at the end of a file, so that damage is found before HDF5 meets it.

libhdf5 may crash, hang or quietly give other numbers when bytes of a file are wrong. It ignores what follows its
own data, so a file with a seal is an HDF5 file like any other: ``head -c -92 FILE | sha256sum`` gives the number in
``tail -c 92 FILE``.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_MARK = b"\nspikelab-spikedata sha256 "
_SIZE = len(_MARK) + hashlib.sha256().digest_size * 2 + 1
_PIECE_BYTES = 2**20


def seal(path: Path) -> None:
    """Append the checksum of all bytes of the file."""
    with path.open("rb+") as file:
        digest = _digest(file, path.stat().st_size)
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest + b"\n")


def check_seal(path: Path) -> None:
    """Raise ValueError when the file has no seal, or its bytes are not those that were sealed."""
    n_bytes = path.stat().st_size - _SIZE
    with path.open("rb") as file:
        digest = _digest(file, max(n_bytes, 0))
        end = file.read()
    if not end.startswith(_MARK):
        msg = "there is no checksum at its end"
        raise ValueError(msg)
    if end != _MARK + digest + b"\n":
        msg = "its bytes do not match the checksum at its end"
        raise ValueError(msg)


def _digest(file: BinaryIO, n_bytes: int) -> bytes:
    checksum = hashlib.sha256(usedforsecurity=False)
    while n_bytes and (piece := file.read(min(_PIECE_BYTES, n_bytes))):
        checksum.update(piece)
        n_bytes -= len(piece)
    return checksum.hexdigest().encode()
