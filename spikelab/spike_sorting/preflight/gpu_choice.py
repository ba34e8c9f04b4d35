"""Which GPUs the sorts of a batch take: of those that they may have, those that they can use, and the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch, cuda_number, uses_torch_here, wanted_device
from spikelab.spike_sorting.preflight.builds import why_foreign
from spikelab.spike_sorting.preflight.machine import Gpu
from spikelab.spike_sorting.preflight.projection import GB
from spikelab.spike_sorting.supervision.devices import listed_names


def offered_gpus(gpus: Sequence[Gpu], listed: str | None) -> tuple[Gpu | None, ...]:
    """Return those of `gpus`, which are all of the driver's, that programs may use, in CUDA's order.

    Parameters
    ----------
    gpus : sequence of Gpu
        In the order of the driver.
    listed : str or None
        ``CUDA_VISIBLE_DEVICES``.

    Returns
    -------
    tuple of Gpu or None
        None for a part of a GPU, and for what the driver does not know.
    """
    return tuple(gpus) if listed is None else tuple(_named(gpus, name) for name in listed_names(listed))


def _named(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    if name.isdigit():
        return gpus[int(name)] if int(name) < len(gpus) else None
    return next((gpu for gpu in gpus if gpu.uuid.startswith(name)), None)


def device_of(batch: Batch, job: Job) -> str:
    """Return what `job` will compute on, "cuda" or "cpu", as far as that is known before the start."""
    wanted = wanted_device(job.config)
    if wanted != "auto":
        return "cpu" if wanted == "cpu" else "cuda"
    can_be_part = None in _visible(batch) and _has_cuda(batch)
    return "cuda" if can_be_part or fit_gpus(batch, job.config) else "cpu"


def used_gpus(batch: Batch) -> tuple[Gpu, ...]:
    """Return the GPUs that sorts will use; where they can use none, those on which they would fail."""
    return tuple(dict.fromkeys(gpu for config in batch.configs for gpu in _used(batch, config)))


def first_gpus(batch: Batch) -> tuple[Gpu, ...]:
    """Return the GPU that a sort takes first of those that it may have, for each device that the settings ask for.

    Of several that is the one with most free memory of those on which nobody sorts, see ``supervision.slots``.
    """
    choices = [gpus for config in batch.configs if (gpus := _used(batch, config))]
    return tuple(dict.fromkeys(max(gpus, key=lambda gpu: _comes_first(batch, gpu)) for gpus in choices))


def _used(batch: Batch, config: SortingPipelineConfig) -> tuple[Gpu, ...]:
    return fit_gpus(batch, config) or gpus_for(batch, config)


def _comes_first(batch: Batch, gpu: Gpu) -> tuple[bool, int]:
    return batch.holder_of(gpu) is None, -1 if gpu.free_bytes is None else gpu.free_bytes


# ------------------------------------------------------------------------------------------------ what can be used


def gpus_for(batch: Batch, config: SortingPipelineConfig) -> tuple[Gpu, ...]:
    """Return the GPUs of which a sort with `config` may have one, whether or not it can use it; none on the CPU."""
    if wanted_device(config) == "cpu":
        return ()
    gpus, number = _visible(batch), cuda_number(wanted_device(config))
    if number is None and config.execution.runner == "inline":
        number = 0
    chosen = gpus if number is None else gpus[number : number + 1]
    return tuple(gpu for gpu in chosen if gpu is not None)


def fit_gpus(batch: Batch, config: SortingPipelineConfig) -> tuple[Gpu, ...]:
    """Return those of `gpus_for` that the sort can use."""
    gpus = gpus_for(batch, config)
    if not gpus or not _may_use_gpus(batch, config):
        return ()
    unfit = unfit_gpus(batch, config)
    return tuple(gpu for gpu in gpus if gpu not in unfit)


def unfit_gpus(batch: Batch, config: SortingPipelineConfig) -> Mapping[Gpu, str]:
    """Return the GPUs that a sort with `config` may have and cannot use, though others might be, with the reason."""
    gpus = gpus_for(batch, config)
    torch = batch.torch if gpus and uses_torch_here(config) else None
    reasons = {gpu: gpu.problem if torch is None else why_foreign(gpu, torch) for gpu in gpus}
    unfit = {gpu: why for gpu, why in reasons.items() if why is not None}
    if not _takes_any(config):
        return unfit
    return {**unfit, **_unseen(batch, config), **_too_small(batch, [gpu for gpu in gpus if gpu not in unfit])}


def left_out(batch: Batch) -> frozenset[str]:
    """Return the identities of the GPUs that no sort of the batch can use, of those that take whichever is free.

    None where torch could not say which it can use.
    """
    configs = [config for config in batch.configs if _takes_any(config)]
    gpus = {gpu for gpu in _offered(batch) if gpu is not None} if configs else set()
    if not gpus or (batch.torch is not None and batch.torch.error is not None):
        return frozenset()
    for config in configs:
        if _may_use_gpus(batch, config):
            gpus &= unfit_gpus(batch, config).keys()
    return frozenset(gpu.uuid for gpu in gpus)


def _takes_any(config: SortingPipelineConfig) -> bool:
    device = wanted_device(config)
    return device != "cpu" and cuda_number(device) is None


def _unseen(batch: Batch, config: SortingPipelineConfig) -> dict[Gpu, str]:
    """Return what torch does not see, where all that it sees is known: it may have parts of a GPU in its place."""
    seen = _visible(batch)
    if not uses_torch_here(config) or not _has_cuda(batch) or None in seen:
        return {}
    unseen = (gpu for gpu in _offered(batch) if gpu is not None and gpu not in seen)
    return {gpu: gpu.problem or "torch does not see it" for gpu in unseen}


def _too_small(batch: Batch, gpus: Sequence[Gpu]) -> dict[Gpu, str]:
    """Return those of `gpus` that have less memory than should be free, unless that is all of them."""
    if len(gpus) < 2:
        return {}
    sizes_gb = {gpu: gpu.memory_bytes / GB for gpu in gpus if gpu.memory_bytes is not None}
    small_gb = {gpu: size_gb for gpu, size_gb in sizes_gb.items() if size_gb < batch.least_vram_gb}
    if len(small_gb) == len(gpus):
        return {}
    least = f"{batch.least_vram_gb:.1f} should be free"
    return {gpu: f"it has {size_gb:.1f} GB, and {least}" for gpu, size_gb in small_gb.items()}


def _may_use_gpus(batch: Batch, config: SortingPipelineConfig) -> bool:
    return _has_cuda(batch) or not uses_torch_here(config)


def _has_cuda(batch: Batch) -> bool:
    torch = batch.torch
    return torch is None or (torch.error is None and torch.cuda_build is not None and bool(torch.usable))


def _visible(batch: Batch) -> tuple[Gpu | None, ...]:
    """Return the GPUs in CUDA's order, by what torch sees where it was asked and tells them apart."""
    gpus = _offered(batch)
    uuids = batch.torch.uuids if gpus and batch.torch is not None else ()
    if not uuids or not all(uuids):
        return gpus
    by_uuid = {gpu.uuid.removeprefix("GPU-"): gpu for gpu in gpus if gpu is not None}
    return tuple(by_uuid.get(uuid.removeprefix("GPU-")) for uuid in uuids)


def _offered(batch: Batch) -> tuple[Gpu | None, ...]:
    gpus = batch.driver.gpus if batch.driver is not None else ()
    return offered_gpus(gpus, batch.machine.environment.get("CUDA_VISIBLE_DEVICES"))
