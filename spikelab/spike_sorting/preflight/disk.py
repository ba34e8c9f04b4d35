"""Free disk, and free inodes, on the volumes that the jobs write to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import MACHINE, Finding, Level, about
from spikelab.spike_sorting.preflight.folders import nearest_folder
from spikelab.spike_sorting.preflight.projection import GB, Projection
from spikelab.spike_sorting.supervision.disk import sizes_below

MARGIN = 1.5
MOST_INTER_GB, MOST_RESULTS_GB = 20.0, 2.0
"""No estimate asks for more than this; copies of the recording, whose size is known, may."""
_FILES_PER_JOB = 300
_SPREAD = "Free space there, spread the recordings over several calls, or set delete_inter=True."


@dataclass(frozen=True)
class Demand:
    """What one job wants of the volume of one of its folders.

    Parameters
    ----------
    job : Job
        The job.
    folder : Path
        The folder, or the nearest above it that exists.
    setting : str
        The setting that replaces the estimate.
    volume : int
        The volume that it lies on.
    free_gb : float
        Room there (GB).
    needed_gb, wanted_gb : float
        Without which the job fails, and with which it is safe (GB).
    transient_frac : float
        Share of it that is free again for the next job.
    is_given : bool
        Whether the user gave the number, which then never scales.
    """

    job: Job
    folder: Path
    setting: str
    volume: int
    free_gb: float
    needed_gb: float
    wanted_gb: float
    transient_frac: float
    is_given: bool


def check_space(batch: Batch) -> list[Finding]:
    """Find jobs that do not fit on a disk: by themselves, or all together."""
    demands = [demand for job in batch.jobs for demand in _demands(batch, job)]
    findings = [finding for demand in demands if demand.is_given for finding in _as_given(demand)]
    estimated = [demand for demand in demands if not demand.is_given]
    for on_volume in _grouped(estimated, lambda demand: demand.volume):
        findings += _on_volume(on_volume, batch.n_parallel)
    return findings


def check_inodes(batch: Batch) -> list[Finding]:
    """Find volumes on which fewer files can be made than the jobs will make."""
    folders = [nearest_folder(folder) for job in batch.jobs for folder in (job.run.inter, job.run.results)]
    disks = {disk.volume: (folder, disk) for folder in folders for disk in [batch.machine.disk(folder)]}
    needed = _FILES_PER_JOB * len(batch.jobs)
    findings = []
    for folder, disk in disks.values():
        if disk.free_inodes is not None and disk.free_inodes < needed:
            level: Level = "error" if disk.free_inodes < _FILES_PER_JOB else "warning"
            message = f"{disk.free_inodes} more files can be made on the volume of {folder}; {needed} are expected"
            advice = "Delete files there that are not needed (df -i shows the count), or use another volume."
            findings.append(Finding("inodes-low", level, message, advice))
    return findings


# --------------------------------------------------------------------------------------------- what is wanted


def _demands(batch: Batch, job: Job) -> Iterator[Demand]:
    execution, projected = job.config.execution, batch.projections.get(job.run.results)
    if projected is None:
        return
    inter, results = execution.preflight_min_free_inter_gb, execution.preflight_min_free_results_gb
    yield _demand(batch, job, job.run.inter, "preflight_min_free_inter_gb", inter, _inter_need(projected))
    yield _demand(batch, job, job.run.results, "preflight_min_free_results_gb", results, _results_need(projected))


def _inter_need(projected: Projection) -> tuple[float, float, float]:
    """Return what is needed and wanted (GB), and the share of it that is free again afterwards."""
    needed, wanted = (min(factor * projected.disk_inter_gb, MOST_INTER_GB) for factor in (1.0, MARGIN))
    return (
        max(needed, projected.copies_gb),
        max(wanted, projected.copies_gb),
        projected.transient_gb / projected.disk_inter_gb,
    )


def _results_need(projected: Projection) -> tuple[float, float, float]:
    needed, wanted = (min(factor * projected.disk_results_gb, MOST_RESULTS_GB) for factor in (1.0, MARGIN))
    return needed, wanted, 0.0


def _demand(
    batch: Batch, job: Job, folder: Path, setting: str, given: float | None, estimate: tuple[float, float, float]
) -> Demand:
    written_gb = _written_bytes(folder) / GB
    needed, wanted = (max(0.0, size_gb - written_gb) for size_gb in estimate[:2])
    existing = nearest_folder(folder)
    disk = batch.machine.disk(existing)
    return Demand(
        job=job,
        folder=existing,
        setting=setting,
        volume=disk.volume,
        free_gb=disk.free_bytes / GB,
        needed_gb=needed if given is None else given,
        wanted_gb=wanted if given is None else given,
        transient_frac=estimate[2],
        is_given=given is not None,
    )


def _written_bytes(folder: Path) -> int:
    """Return what an earlier call left there, which need not be written again; holes in files do not count."""
    return sum(sizes_below(folder.resolve()))


# ----------------------------------------------------------------------------------------------- what is there


def _as_given(demand: Demand) -> list[Finding]:
    if demand.free_gb >= demand.needed_gb:
        return []
    message = f"{_free(demand)}; {demand.setting} asks for {demand.needed_gb:g} GB"
    advice = f"Free space there, choose a folder on another disk, or lower {demand.setting}."
    return [about(demand.job, "disk-space", "error", message, advice)]


def _on_volume(demands: Sequence[Demand], n_parallel: int) -> list[Finding]:
    """Compare each job, then those that fit together, with one volume."""
    findings, fitting = [], []
    for own in _grouped(demands, lambda demand: demand.job.run.results):
        found = _alone(own)
        findings += found
        if all(finding.level != "error" for finding in found):
            fitting.append(own)
    if len(fitting) > 1:
        findings += _together([demand for own in fitting for demand in own], len(fitting), n_parallel)
    return findings


def _alone(own: Sequence[Demand]) -> list[Finding]:
    """Compare the folders of one job that lie on a volume with it, as if no other job were there."""
    judged = _judged(own[0].free_gb, sum(one.needed_gb for one in own), sum(one.wanted_gb for one in own))
    if judged is None:
        return []
    level, limit = judged
    message = f"{_free(own[0])}; this job is expected to take {limit}"
    settings = " and ".join(demand.setting for demand in own)
    advice = f"Free space there, choose folders on another disk, or set {settings} if you know better."
    return [about(own[0].job, "disk-space", level, message, advice)]


def _together(demands: Sequence[Demand], n_jobs: int, n_parallel: int) -> list[Finding]:
    """Compare jobs that run one after another with the volume that they share."""
    needed_gb = _peak([(one.needed_gb, one.transient_frac) for one in demands], n_parallel)
    wanted_gb = _peak([(one.wanted_gb, one.transient_frac) for one in demands], n_parallel)
    judged = _judged(demands[0].free_gb, needed_gb, wanted_gb)
    if judged is not None:
        level, limit = judged
        message = f"{_free(demands[0])}; {n_jobs} recordings together are expected to take {limit}"
        return [Finding("disk-space-together", level, message, _SPREAD, MACHINE)]
    if demands[0].free_gb >= (all_gb := sum(one.needed_gb for one in demands)):
        return []
    message = (
        f"{_free(demands[0])}, enough while every recording succeeds; what failed ones leave could bring the "
        f"{n_jobs} of them to {all_gb:.3g} GB"
    )
    return [Finding("disk-space-together", "info", message, _SPREAD)]


def _peak(sizes: Sequence[tuple[float, float]], n_parallel: int) -> float:
    """Return the most that is there at one time: what goes after success counts for the jobs in flight alone."""
    kept = sum(size_gb * (1 - frac) for size_gb, frac in sizes)
    return kept + sum(sorted((size_gb * frac for size_gb, frac in sizes), reverse=True)[:n_parallel])


def _judged(free_gb: float, needed_gb: float, wanted_gb: float) -> tuple[Level, str] | None:
    """Return how bad it is that so little is free, and which limit is crossed; None when it is enough."""
    if free_gb < needed_gb:
        return "error", f"{needed_gb:.3g} GB"
    if free_gb < wanted_gb:
        return "warning", f"{needed_gb:.3g} GB, {wanted_gb:.3g} GB to be safe"
    return None


def _free(demand: Demand) -> str:
    return f"{demand.folder} has {demand.free_gb:.3g} GB free"


def _grouped(demands: Iterable[Demand], key: Callable[[Demand], Hashable]) -> list[list[Demand]]:
    groups: dict[Hashable, list[Demand]] = {}
    for demand in demands:
        groups.setdefault(key(demand), []).append(demand)
    return list(groups.values())
