"""Free memory of the machine, and of the GPU that will be used."""

from __future__ import annotations

from collections.abc import Sequence

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, Level
from spikelab.spike_sorting.preflight.gpu_choice import first_gpus
from spikelab.spike_sorting.preflight.machine import Gpu
from spikelab.spike_sorting.preflight.projection import GB, MOST_RAM_GB, MOST_VRAM_GB, least_gb


def check_ram(batch: Batch) -> list[Finding]:
    """Compare the memory that is free with what the recordings in flight at once will take."""
    given = [job.config.execution.preflight_min_available_ram_gb for job in batch.jobs]
    asked_gb = max((value for value in given if value is not None), default=None)
    projected = sorted((one.ram_gb for one in batch.projections.values()), reverse=True)[: batch.n_parallel]
    free_gb = batch.machine.available_ram_bytes() / GB
    judged = _judged(free_gb, asked_gb, projected, MOST_RAM_GB)
    if judged is None:
        return []
    level, why = judged
    advice = "Close other programs, lower n_jobs or max_parallel, or set preflight_min_available_ram_gb."
    return [Finding("ram-low", level, f"{free_gb:.1f} GB of memory are free; {why}", advice)]


def check_vram(batch: Batch) -> list[Finding]:
    """Compare the free memory of the GPU that a sort takes first with what it needs there."""
    found = (_on_gpu(batch, gpu) for gpu in first_gpus(batch))
    return [finding for finding in found if finding is not None]


def _on_gpu(batch: Batch, gpu: Gpu) -> Finding | None:
    holder = batch.holder_of(gpu)
    if holder is not None:
        # What is free there now says nothing of what will be.
        message = f"the {gpu.name} is held by {holder}: this batch waits for it"
        return Finding("gpu-busy", "info", message, "Nothing: the next sort begins when that one has ended.")
    if gpu.free_bytes is None or gpu.memory_bytes is None:
        return None  # that of the machine, which is checked by itself
    judged = _judged(gpu.free_bytes / GB, batch.vram_asked_gb, [batch.vram_projected_gb], MOST_VRAM_GB)
    if judged is None:
        return None
    free = f"{gpu.free_bytes / GB:.1f} of {gpu.memory_bytes / GB:.1f} GB of the {gpu.name} are free"
    advice = "End other programs on this GPU (nvidia-smi lists them), or set preflight_min_free_vram_gb."
    return Finding("vram-low", judged[0], f"{free}; {judged[1]}", advice)


def _judged(
    free_gb: float, asked_gb: float | None, projected_gb: Sequence[float], most_gb: float
) -> tuple[Level, str] | None:
    """Return how bad it is that so little is free, and why; None when it is enough."""
    wanted_gb = least_gb(asked_gb, projected_gb, most_gb)
    if free_gb >= wanted_gb:
        return None
    if asked_gb is not None:
        return "error", f"the settings ask for {asked_gb:g} GB"
    taken = f"the sort is expected to take {sum(projected_gb):.1f} GB"
    return "warning", f"at least {wanted_gb:.1f} GB should be, as {taken}"
