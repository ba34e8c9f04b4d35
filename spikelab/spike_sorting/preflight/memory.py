"""Free memory of the machine, and of the GPU that will be used."""

from __future__ import annotations

from spikelab.spike_sorting.preflight.batch import Batch, wanted_device
from spikelab.spike_sorting.preflight.findings import Finding, Level
from spikelab.spike_sorting.preflight.machine import Gpu
from spikelab.spike_sorting.preflight.projection import GB

MARGIN = 1.5
MOST_RAM_GB, MOST_VRAM_GB = 4.0, 2.0
"""No estimate asks for more than this: memory comes and goes, and running out of it is retried."""


def check_ram(batch: Batch) -> list[Finding]:
    """Compare the memory that is free with what the recordings in flight at once will take."""
    given = [job.config.execution.preflight_min_available_ram_gb for job in batch.jobs]
    projected = sorted((one.ram_gb for one in batch.projections.values()), reverse=True)[: batch.n_parallel]
    free_gb = batch.machine.available_ram_bytes() / GB
    judged = _judged(free_gb, given, projected, MOST_RAM_GB)
    if judged is None:
        return []
    level, why = judged
    advice = "Close other programs, lower n_jobs or max_parallel, or set preflight_min_available_ram_gb."
    return [Finding("ram-low", level, f"{free_gb:.1f} GB of memory are free; {why}", advice)]


def check_vram(batch: Batch) -> list[Finding]:
    """Compare the free memory of the GPU that a sort takes first with what it needs there."""
    jobs = [job for job in batch.jobs if wanted_device(job.config) != "cpu"]
    given = [job.config.execution.preflight_min_free_vram_gb for job in jobs]
    projected = [batch.projections[job.run.results].vram_gb for job in jobs if job.run.results in batch.projections]
    findings = []
    for gpu in batch.first_gpus:
        if (holder := batch.holder_of(gpu)) is not None:
            findings.append(_waits(gpu, holder))
            continue
        judged = _judged(gpu.free_bytes / GB, given, sorted(projected)[-1:], MOST_VRAM_GB)
        if judged is not None:
            free = f"{gpu.free_bytes / GB:.1f} of {gpu.memory_bytes / GB:.1f} GB of the {gpu.name} are free"
            advice = "End other programs on this GPU (nvidia-smi lists them), or set preflight_min_free_vram_gb."
            findings.append(Finding("vram-low", judged[0], f"{free}; {judged[1]}", advice))
    return findings


def _waits(gpu: Gpu, holder: str) -> Finding:
    """Return that somebody sorts on `gpu`: what is free there now says nothing of what will be."""
    message = f"the {gpu.name} is held by {holder}: this batch waits for it"
    return Finding("gpu-busy", "info", message, "Nothing: the next sort begins when that one has ended.")


def _judged(
    free_gb: float, given: list[float | None], projected_gb: list[float], most_gb: float
) -> tuple[Level, str] | None:
    """Return how bad it is that so little is free, and why; None when it is enough."""
    asked = max((value for value in given if value is not None), default=None)
    if asked is not None:
        return ("error", f"the settings ask for {asked:g} GB") if free_gb < asked else None
    wanted_gb = sum(min(MARGIN * one, most_gb) for one in projected_gb)
    if free_gb >= wanted_gb:
        return None
    return (
        "warning",
        f"at least {wanted_gb:.1f} GB should be, as the sort is expected to take {sum(projected_gb):.1f} GB",
    )
