"""The folders that results go to: writable, and on a file system that keeps locks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, Level, about
from spikelab.spike_sorting.preflight.machine import Mount
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX

_NETWORK = frozenset({
    "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "panfs", "pvfs2", "smb2", "smb3", "smbfs", "webdav",
})
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.lxcfs"})


def nearest_folder(folder: Path) -> Path:
    """Return `folder`, or the nearest of the folders above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path(folder.anchor or "."))


def check_writable(batch: Batch) -> list[Finding]:
    """Find folders that nothing can be written to, by writing a file and removing it."""
    wanted = [(job, folder) for job in batch.jobs for folder in (job.run.inter, job.run.results)]
    problems = {folder: _write_problem(folder) for folder in {nearest_folder(folder) for _, folder in wanted}}
    advice = "Name folders that this user may write to in intermediate_folders and results_folders."
    return [
        about(job, "folder-not-writable", "error", f"{folder} cannot be written: {problem}", advice)
        for job, folder in wanted
        if (problem := problems[nearest_folder(folder)])
    ]


def _write_problem(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"{folder} is a file"
    path = folder / f".spikelab-preflight.{os.getpid()}{PARTIAL_SUFFIX}"
    try:
        try:
            path.write_bytes(b"spikelab\n" * 100)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"{error.strerror or error} ({folder})"
    return None
