"""What the checks of the machine look at: all recordings at once, and readings that are taken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.facts import RecordingFacts, reckoning_with
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Machine, Torch
from spikelab.spike_sorting.preflight.projection import Projection, project
from spikelab.spike_sorting.supervision.gpu_locks import lock_name


@dataclass(frozen=True, eq=False)
class Batch:
    """The recordings of one call and the machine that sorts them.

    Parameters
    ----------
    recordings : sequence of RecordingFacts
        All recordings, in order.
    machine : Machine
        Where readings come from.
    n_parallel : int, default 1
        Recordings in flight at once.
    """

    recordings: Sequence[RecordingFacts]
    machine: Machine
    n_parallel: int = 1

    @property
    def jobs(self) -> list[Job]:
        """The job of each recording."""
        return [facts.job for facts in self.recordings]

    @cached_property
    def projections(self) -> Mapping[Path, Projection]:
        """What each job will take, by its results folder; without recordings that cannot be opened."""
        known = [(facts, facts.header) for facts in self.recordings if facts.header is not None]
        free_bytes = self.machine.available_ram_bytes()
        # What is seen of a recording may raise what is reckoned with, and never lower it: a few seconds may be quiet.
        wary = [
            (facts.job, reckoning_with(header, max(header.spikes_per_channel_s, facts.spikes_per_channel_s or 0.0)))
            for facts, header in known
        ]
        return {job.run.results: project(job, header, free_bytes) for job, header in wary}

    @cached_property
    def driver(self) -> Driver | None:
        """The NVIDIA driver."""
        return self.machine.driver()

    @cached_property
    def torch(self) -> Torch | None:
        """What torch says of itself; not asked, which takes seconds, where no sort uses it or there is no GPU."""
        has_gpu = self.driver is not None and bool(self.driver.gpus)
        return self.machine.torch() if has_gpu and any(uses_torch_here(job.config) for job in self.jobs) else None

    def device_of(self, job: Job) -> str:
        """Return what `job` will compute on, "cuda" or "cpu", as far as that is known before the start."""
        wanted = wanted_device(job.config)
        if wanted == "auto":
            usable = self.torch is None or self.torch.usable
            return "cuda" if self.used_gpus and usable else "cpu"
        return "cpu" if wanted == "cpu" else "cuda"

    @cached_property
    def devices(self) -> frozenset[str]:
        """Devices that the sorts ask for: "auto", "cuda", "cuda:1", "cpu"; "gpu" where MATLAB takes one."""
        return frozenset(map(wanted_device, dict.fromkeys(job.config for job in self.jobs)))

    @property
    def is_gpu_hidden(self) -> bool:
        """Whether the environment hides all GPUs from programs."""
        visible = self.machine.environment.get("CUDA_VISIBLE_DEVICES")
        return visible is not None and visible.strip() in {"", "-1", "NoDevFiles"}

    @cached_property
    def used_gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that the sorts will use, as far as that is known."""
        if self.driver is None or self.is_gpu_hidden:
            return ()
        numbers = {cuda_number(device) or 0 for device in self.devices if device != "cpu"}
        found = (self._gpu(number) for number in sorted(numbers))
        return tuple(gpu for gpu in found if gpu is not None)

    @cached_property
    def first_gpus(self) -> tuple[Gpu, ...]:
        """The GPU that a sort takes first of those that it may have, for each device that the settings ask for.

        Of several that is the one with most free memory of those on which nobody sorts, see ``supervision.slots``.
        """
        if self.driver is None or self.is_gpu_hidden:
            return ()
        found = (self._first_gpu(config) for config in dict.fromkeys(job.config for job in self.jobs))
        return tuple(dict.fromkeys(gpu for gpu in found if gpu is not None))

    def _first_gpu(self, config: SortingPipelineConfig) -> Gpu | None:
        device = wanted_device(config)
        if device == "cpu":
            return None
        number = cuda_number(device)
        if number is not None or config.execution.runner == "inline":
            return self._gpu(number or 0)
        n_gpus = len(self.torch.uuids if self.torch is not None else ()) or len(self.driver.gpus if self.driver else ())
        gpus = [gpu for gpu in map(self._gpu, range(n_gpus)) if gpu is not None]
        return max(gpus, key=lambda gpu: (self.holder_of(gpu) is None, gpu.free_bytes), default=None)

    def holder_of(self, gpu: Gpu) -> str | None:
        """Return who sorts on `gpu` now, or None when nobody does: this batch has not begun."""
        return self._held_gpus.get(lock_name(gpu.uuid))

    @cached_property
    def _held_gpus(self) -> Mapping[str, str]:
        return self.machine.held_gpus()

    def _gpu(self, number: int) -> Gpu | None:
        """Return the GPU that torch calls `number`: CUDA and the driver may count in different orders."""
        gpus = self.driver.gpus if self.driver is not None else ()
        uuids = self.torch.uuids if self.torch is not None else ()
        if number < len(uuids) and uuids[number]:
            same = (gpu for gpu in gpus if gpu.uuid.removeprefix("GPU-") == uuids[number].removeprefix("GPU-"))
            return next(same, None)
        return gpus[number] if number < len(gpus) else None


def wanted_device(config: SortingPipelineConfig) -> str:
    """Return the device that the settings ask for; "auto" takes a GPU where there is one, "gpu" is MATLAB's."""
    return get_backend(config.sorter.sorter_name).device(config)


def uses_torch_here(config: SortingPipelineConfig) -> bool:
    """Return whether the sort runs with this interpreter's torch: not in a container, nor in another one."""
    name, here = config.sorter.sorter_name, not config.sorter.use_docker
    return here and (name == "kilosort4" or (name == "rt_sort" and config.rt_sort.python is None))


def cuda_number(device: str) -> int | None:
    """Return the number of the GPU in the name of a device, as in "cuda:1"; None where it names none."""
    _, _, number = device.partition(":")
    return int(number) if number.isdigit() else None
