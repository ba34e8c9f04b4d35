"""Replace a file by a whole one that is on the disk, or raise; for those below ``supervision.publish``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a path beside the given one; what was written there takes its place when it is on the disk.

    After an error the file is what it was, and nothing is left beside it; only where the flush of its folder fails is
    it the new one, whole and not yet durable.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        _flush_to_disk(partial)
        partial.replace(path)
        _flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut after the rename may leave an empty file under the final name.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and needs no flush of it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
