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
from spikelab.spike_sorting.preflight.projection import MOST_VRAM_GB, Projection, least_gb, project
from spikelab.spike_sorting.supervision.devices import listed_names
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
        return self.machine.torch() if has_gpu and any(map(uses_torch_here, self.configs)) else None

    @cached_property
    def configs(self) -> tuple[SortingPipelineConfig, ...]:
        """The different settings of the jobs."""
        return tuple(dict.fromkeys(job.config for job in self.jobs))

    @cached_property
    def devices(self) -> frozenset[str]:
        """Devices that the sorts ask for: "auto", "cuda", "cuda:1", "cpu"; "gpu" where MATLAB takes one."""
        return frozenset(map(wanted_device, self.configs))

    @property
    def is_gpu_hidden(self) -> bool:
        """Whether the environment hides all GPUs from programs."""
        listed = self.machine.environment.get("CUDA_VISIBLE_DEVICES")
        return listed is not None and not listed_names(listed)

    @cached_property
    def vram_asked_gb(self) -> float | None:
        """GPU memory that the settings want to be free before the start; None where they do not say."""
        configs = [config for config in self.configs if wanted_device(config) != "cpu"]
        asked = (config.execution.preflight_min_free_vram_gb for config in configs)
        return max((value for value in asked if value is not None), default=None)

    @cached_property
    def vram_projected_gb(self) -> float:
        """GPU memory of the sort that takes most of it; 0 where no recording could be opened."""
        jobs = [job for job in self.jobs if wanted_device(job.config) != "cpu"]
        projected = (self.projections[job.run.results].vram_gb for job in jobs if job.run.results in self.projections)
        return max(projected, default=0.0)

    @property
    def least_vram_gb(self) -> float:
        """GPU memory that should be free before the start."""
        return least_gb(self.vram_asked_gb, [self.vram_projected_gb], MOST_VRAM_GB)

    def holder_of(self, gpu: Gpu) -> str | None:
        """Return who sorts on `gpu` now, or None when nobody does: this batch has not begun."""
        return self._held_gpus.get(lock_name(gpu.uuid))

    @cached_property
    def _held_gpus(self) -> Mapping[str, str]:
        return self.machine.held_gpus()


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
