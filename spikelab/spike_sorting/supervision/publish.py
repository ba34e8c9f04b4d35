"""Replace a file or a folder by a complete, durable new one, or raise.

A reader sees the old content or the new, never a part, also after a power cut. What raises leaves the old one, but
for the last step: where only the flush of the folder around it fails, the new one is there, not yet durable. An error
of fsync is final: the kernel may have dropped the pages, and a second fsync would succeed without them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PARTIAL_SUFFIX = ".partial"


def publish(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`, durably, or raise OSError as `publish_with` does."""
    publish_with(path, lambda partial: _write_all(partial, data))


def publish_text(path: Path, text: str) -> None:
    """Replace the file `path` by `text` in UTF-8."""
    publish(path, text.encode("utf-8"))


def publish_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace the file `path` by `value` as strict JSON."""
    publish_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def publish_with(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the file `path`, durably, by what `write` puts into the path it is given, or raise.

    Parameters
    ----------
    path : Path
        File to replace; its folder must exist.
    write : callable
        Gets a path beside `path`, with the same ending, and writes the whole content there.

    Raises
    ------
    OSError
        It could not be written: the old file is there. Or it is there, and its folder could not be flushed: it is not
        yet durable. Names the file.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}{PARTIAL_SUFFIX}{path.suffix}")
    try:
        write(partial)
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk or a failed fsync does not say of which file
        raise


def publish_folder(partial: Path, final: Path, check: Callable[[], None] | None = None) -> None:
    """Put the folder `partial`, synced file by file, in the place of `final`, or raise, as `publish_with` does.

    Parameters
    ----------
    partial, final : Path
        The folder, and its place.
    check : callable or None, default None
        Called when all is synced, which may take long; what it raises leaves `final` alone.
    """
    for folder, _, names in os.walk(partial):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))
    if check is not None:
        check()
    if final.exists():
        # A folder that is not empty cannot be replaced by a rename.
        old = final.with_name(f"{final.name}.old{PARTIAL_SUFFIX}")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        try:
            partial.rename(final)
        except OSError:
            old.rename(final)
            raise
        sync_folder(final.parent)
        shutil.rmtree(old)
    else:
        partial.rename(final)
        sync_folder(final.parent)


def sync_file(path: Path) -> None:
    """Force the content of the file `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force the names in the folder `path` to the disk, where the platform can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(folder: Path, *, hidden_only: bool = False) -> None:
    """Remove what an earlier run left half-written in `folder`; only for the holder of its lock.

    Parameters
    ----------
    folder : Path
        Where to look; not below.
    hidden_only : bool, default False
        Whether to leave names without a leading dot alone, in a folder that holds other people's files too.
    """
    for leftover in folder.glob(f"{'.' if hidden_only else ''}*{PARTIAL_SUFFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _write_all(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
