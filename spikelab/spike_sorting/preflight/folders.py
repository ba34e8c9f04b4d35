"""The folders that results go to: writable, and on a file system that keeps locks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, about
from spikelab.spike_sorting.preflight.machine import Mount
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX

_NETWORK_KINDS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "panfs", "smb2", "smb3", "smbfs"}
)
_LOCAL_FUSE_KINDS = frozenset({"fuse.fuse-overlayfs", "fuse.ntfs-3g"})


def nearest_folder(folder: Path) -> Path:
    """Return `folder`, or the nearest path above it that exists."""
    return next((path for path in (folder, *folder.parents) if _exists(path)), Path(folder.anchor))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # below a folder that may not be entered, which then is the nearest one
        return False


def check_writable(batch: Batch) -> list[Finding]:
    """Find folders that nothing can be written to, by writing a file and removing it."""
    wanted = [(job, folder) for job in batch.jobs for folder in (job.run.inter, job.run.results)]
    problems = {folder: _write_problem(folder) for folder in {nearest_folder(folder) for _, folder in wanted}}
    advice = "Name folders that this user can write to in intermediate_folders and results_folders."
    return [
        about(job, "folder-not-writable", "error", f"{folder} cannot be written: {problem}", advice)
        for job, folder in wanted
        if (problem := problems[nearest_folder(folder)])
    ]


def _write_problem(folder: Path) -> str | None:
    """Return why a file cannot be written into `folder`; leave nothing there."""
    path = folder / f".spikelab-preflight.{os.getpid()}{PARTIAL_SUFFIX}"
    try:
        try:
            path.write_bytes(b"spikelab\n" * 500)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"{error.strerror} ({folder})"
    return None


def check_file_system(batch: Batch) -> list[Finding]:
    """Find folders on shares, where two machines do not see each other's locks."""
    mounts = batch.machine.mounts()
    findings = []
    for job in batch.jobs:
        for folder in (job.run.inter, job.run.results):
            kind = kind_of(folder, mounts)
            if _is_shared(kind):
                findings.append(about(job, "network-file-system", "warning", *_no_locks(folder, kind)))
    return findings


def kind_of(folder: Path, mounts: Sequence[Mount]) -> str:
    """Return the type of the file system that `folder` lies on, or will; empty where that is not known."""
    resolved = folder.resolve()
    above: Iterable[Mount] = (mount for mount in mounts if resolved.is_relative_to(mount.folder))
    # max keeps the first of equals, and of two file systems on one folder the later one is seen.
    nearest = max(reversed(list(above)), key=lambda mount: len(Path(mount.folder).parts), default=None)
    return nearest.kind if nearest is not None else ""


def _is_shared(kind: str) -> bool:
    return kind in _NETWORK_KINDS or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE_KINDS)


def _no_locks(folder: Path, kind: str) -> tuple[str, str]:
    message = f"{folder} lies on {kind}, where locks are not kept between machines and files may appear late"
    advice = (
        "Put intermediate_folders and results_folders on a local disk and copy the results afterwards; until then "
        "never sort this recording on two machines at a time."
    )
    return message, advice
