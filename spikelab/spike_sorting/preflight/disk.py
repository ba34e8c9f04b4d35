"""Free disk, and free inodes, on the volumes that the jobs write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, Level, about
from spikelab.spike_sorting.preflight.folders import nearest_folder
from spikelab.spike_sorting.preflight.machine import Disk
from spikelab.spike_sorting.preflight.projection import GB, Projection

MARGIN = 1.5
MOST_INTER_GB, MOST_RESULTS_GB = 20.0, 2.0
"""No estimate asks for more than this; copies of the recording, whose size is known, may."""
_FILES_PER_JOB = 300
"""A sort of Kilosort4 leaves about 130 files, and makes some more on its way."""


@dataclass(frozen=True)
class Demand:
    """What one job wants of the volume of one of its folders.

    Parameters
    ----------
    job : Job
        The job.
    folder : Path
        The nearest folder that exists.
    what : str
        Which of its folders: "intermediate" or "results".
    disk : Disk
        Room on its volume.
    needed_gb, wanted_gb : float
        Without which it fails, and with which it is safe (GB).
    transient_gb : float
        Part of it that is free again for the next job (GB).
    is_given : bool
        Whether the user gave the number, which then never scales.
    """

    job: Job
    folder: Path
    what: str
    disk: Disk
    needed_gb: float
    wanted_gb: float
    transient_gb: float
    is_given: bool


def check_space(batch: Batch) -> list[Finding]:
    """Find jobs that do not fit on a disk: by themselves, or all together."""
    demands = _demands(batch)
    findings = [finding for demand in demands for finding in _alone(demand)]
    too_big = {finding.results_folder for finding in findings if finding.level == "error"}
    fitting = [one for one in demands if not one.is_given and str(one.job.run.results) not in too_big]
    volumes = {one.disk.volume: [other for other in fitting if other.disk.volume == one.disk.volume] for one in fitting}
    return findings + [finding for group in volumes.values() for finding in _together(group, batch.n_parallel)]


def check_inodes(batch: Batch) -> list[Finding]:
    """Find volumes on which so few files may be made that the jobs would run into the limit."""
    folders = {_disk_of(batch, folder).volume: folder for job in batch.jobs for folder in _existing(job)}
    findings = []
    for folder in folders.values():
        free, needed = _disk_of(batch, folder).free_inodes, _FILES_PER_JOB * len(batch.jobs)
        if free is not None and free < needed:
            level: Level = "error" if free < _FILES_PER_JOB else "warning"
            message = f"{free} more files can be made on the volume of {folder}; {needed} are expected"
            advice = "Delete files that are not needed there (df -i shows the count), or use another volume."
            findings.append(Finding("inodes-low", level, message, advice))
    return findings


# --------------------------------------------------------------------------------------------- what is wanted


def _demands(batch: Batch) -> list[Demand]:
    pairs = [(job, batch.projections.get(job.run.results)) for job in batch.jobs]
    wanted = [(job, projected, what) for job, projected in pairs if projected for what in ("intermediate", "results")]
    return [_demand(batch, job, projected, what) for job, projected, what in wanted]


def _demand(batch: Batch, job: Job, projected: Projection, what: str) -> Demand:
    execution = job.config.execution
    if what == "intermediate":
        folder, given, most = job.run.inter, execution.preflight_min_free_inter_gb, MOST_INTER_GB
        need, certain, transient = projected.disk_inter_gb, projected.copies_gb, projected.transient_gb
    else:
        folder, given, most = job.run.results, execution.preflight_min_free_results_gb, MOST_RESULTS_GB
        need, certain, transient = projected.disk_results_gb, 0.0, 0.0
    existing = nearest_folder(folder)
    disk = _disk_of(batch, existing)
    if given is not None:
        return Demand(job, existing, what, disk, given, given, 0.0, is_given=True)
    written = _written_bytes(folder) / GB
    needed, wanted = (max(certain, min(factor * need, most)) - written for factor in (1.0, MARGIN))
    needed, wanted = max(needed, 0.0), max(wanted, 0.0)
    return Demand(job, existing, what, disk, needed, wanted, min(transient, needed), is_given=False)


def _disk_of(batch: Batch, folder: Path) -> Disk:
    return batch.machine.disk(folder)


def _existing(job: Job) -> tuple[Path, Path]:
    return nearest_folder(job.run.inter), nearest_folder(job.run.results)


def _written_bytes(folder: Path) -> int:
    """Return what an earlier call left there, which need not be written again; holes in files do not count."""
    stats = (os.lstat(Path(below, name)) for below, _, names in os.walk(folder) for name in names)
    return sum(stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size for stat in stats)


# ------------------------------------------------------------------------------------------------ what is there


def _alone(demand: Demand) -> list[Finding]:
    """Compare a job with the disk as if it were the only one."""
    free_gb = demand.disk.free_bytes / GB
    if free_gb >= demand.wanted_gb:
        return []
    level: Level = "error" if free_gb < demand.needed_gb else "warning"
    limit_gb = demand.needed_gb if level == "error" else demand.wanted_gb
    message = f"{demand.folder} has {free_gb:.2f} GB free; {_why(demand)} {limit_gb:.2f} GB"
    return [about(demand.job, f"disk-{demand.what}", level, message, _advice(demand))]


def _why(demand: Demand) -> str:
    if demand.is_given:
        return f"{_setting(demand)} asks for"
    return f"the {demand.what} files of this job are expected to take, with some margin,"


def _setting(demand: Demand) -> str:
    return f"preflight_min_free_{'inter' if demand.what == 'intermediate' else 'results'}_gb"


def _advice(demand: Demand) -> str:
    return f"Free space there, name {demand.what}_folders on another disk, or lower {_setting(demand)}."


def _together(group: Sequence[Demand], n_parallel: int) -> list[Finding]:
    """Compare the jobs on one volume, one after another, with the disk."""
    free_gb, folder = group[0].disk.free_bytes / GB, group[0].folder
    n_jobs = len({demand.job.run.results for demand in group})
    if n_jobs < 2:
        return _both_folders(group, free_gb)
    needed_gb, wanted_gb = _peak(group, n_parallel)
    all_gb = sum(demand.needed_gb for demand in group)
    if free_gb >= wanted_gb:
        return _left_by_failures(group, free_gb, all_gb)
    level: Level = "error" if free_gb < needed_gb else "warning"
    limit_gb = needed_gb if level == "error" else wanted_gb
    message = f"{folder} has {free_gb:.2f} GB free; {n_jobs} recordings together are expected to take {limit_gb:.2f} GB"
    return [Finding("disk-together", level, message, _SPREAD)]


_SPREAD = "Free space, spread the recordings over several calls, or set delete_inter=True."


def _both_folders(group: Sequence[Demand], free_gb: float) -> list[Finding]:
    """Compare the two folders of one job, where they share a volume."""
    needed_gb, wanted_gb = (sum(getattr(one, name) for one in group) for name in ("needed_gb", "wanted_gb"))
    if free_gb >= wanted_gb or any(free_gb < demand.wanted_gb for demand in group):
        return []
    level: Level = "error" if free_gb < needed_gb else "warning"
    limit_gb = needed_gb if level == "error" else wanted_gb
    message = f"{group[0].folder} has {free_gb:.2f} GB free; both folders of this job are expected to take {limit_gb:.2f} GB"
    return [about(group[0].job, "disk-together", level, message, _advice(group[0]))]


def _peak(group: Sequence[Demand], n_parallel: int) -> tuple[float, float]:
    """Return what is needed and wanted at most at one time: what goes after success counts for those in flight."""
    transient = sorted((demand.transient_gb for demand in group), reverse=True)
    freed_gb = sum(transient[n_parallel:])
    return sum(one.needed_gb for one in group) - freed_gb, sum(one.wanted_gb for one in group) - freed_gb


def _left_by_failures(group: Sequence[Demand], free_gb: float, all_gb: float) -> list[Finding]:
    if free_gb >= all_gb:
        return []
    message = (
        f"{group[0].folder} has {free_gb:.2f} GB free, enough while each recording succeeds; copies that failed ones "
        f"leave behind would come to {all_gb:.2f} GB in all"
    )
    return [Finding("disk-together", "info", message, _SPREAD)]
