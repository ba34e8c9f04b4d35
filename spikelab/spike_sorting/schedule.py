"""When a phase begins, and what of the machine is its own until it ends.

Recordings are in flight together, phase by phase: while one is sorted, others are loaded, measured and reported. A
phase waits for what it needs, in this order, and gives it back when its worker has ended:

========  ===========================================  =================================  ====================
phase     GPU                                          cores                              memory
========  ===========================================  =================================  ====================
prepare   none                                         one                                little
sort      one of its own, before all other programs    one beside a GPU; else its share   as projected
          of ours on this machine
finish    none                                         n_jobs, or its share               as estimated
========  ===========================================  =================================  ====================

A GPU comes first and is never waited for with anything else in hand, so that no two recordings wait for each other.
Of the phases that wait for cores and memory, a sort comes first: it has a GPU that others wait for. Then comes what
ends a recording, and last what begins one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from spikelab.spike_sorting._exceptions import GpuLostError, SpikeSortingClassifiedError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch, cuda_number, wanted_device
from spikelab.spike_sorting.preflight.gpu_choice import left_out
from spikelab.spike_sorting.preflight.machine import Machine
from spikelab.spike_sorting.preflight.projection import GB
from spikelab.spike_sorting.preflight.run import look_at_batch
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.supervision.budget import Need
from spikelab.spike_sorting.supervision.devices import Device
from spikelab.spike_sorting.supervision.slots import GpuSlots, Slot
from spikelab.spike_sorting.work import Work

_RANK: Mapping[Phase, int] = {"sort": 0, "finish": 1, "scan": 2, "prepare": 2}
"""Who comes first of those that wait for cores and memory."""
_LITTLE_GB = 0.6
"""A worker that looks at windows of a recording of 1,024 channels, never at the whole (GB)."""
_FINISH_GB = 1.0
"""A worker with SpikeInterface and matplotlib, and a process that reads waveforms (GB)."""


@contextmanager
def turn(work: Work, phase: Phase, config: SortingPipelineConfig) -> Iterator[Slot | None]:
    """Wait until `phase` may begin, and keep what it needs for the ``with`` block; yield its GPU, if it has one.

    Raises
    ------
    KeyboardInterrupt
        The user stopped the batch meanwhile.
    SpikeSortingClassifiedError
        No GPU can be used any more.
    """
    devices = devices_for(work.resources.slots, phase, config)
    asked_s = time.monotonic()
    with _slot(work, phase, devices) as slot, _share(work, phase, config, slot):
        work.waits_s.append(time.monotonic() - asked_s)
        yield slot


@dataclass(frozen=True)
class Flight:
    """What of a batch goes on at once.

    Parameters
    ----------
    n_parallel : int
        Recordings in flight.
    n_gpus : int
        GPUs on which they are sorted, one on each at a time; 0 where sorts run on the CPU.
    """

    n_parallel: int
    n_gpus: int = 0

    def together_s(self, times_s: Sequence[float], on_gpus_s: float) -> float:
        """Return what recordings take together (s): the longest alone, all shared, or all sorts on the GPUs.

        Parameters
        ----------
        times_s : sequence of float
            What each takes; not empty.
        on_gpus_s : float
            What their sorts take on GPUs, all added up; without GPUs it sets no limit.
        """
        on_each_s = on_gpus_s / self.n_gpus if self.n_gpus else 0.0
        return max(*times_s, sum(times_s) / self.n_parallel, on_each_s)


def flight_of(jobs: Sequence[Job], asked: int | None, slots: GpuSlots) -> Flight:
    """Return how many recordings are in flight at once, in a batch and in all that is reckoned before it.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be sorted.
    asked : int or None
        What the user wants; None: one more than there are GPUs for them, so that each GPU has a sort while another
        recording is loaded or measured. For those that are sorted in this process, for a debugger, that is one.
    slots : GpuSlots
        The GPUs.
    """
    devices = {config: devices_for(slots, "sort", config) for config in dict.fromkeys(job.config for job in jobs)}
    if asked is None:
        asked = 1 + _n_different(found for config, found in devices.items() if config.execution.runner != "inline")
    return Flight(max(1, min(asked, len(jobs))), _n_different(devices.values()))


def look_ahead(
    jobs: Sequence[Job],
    asked: int | None,
    slots: GpuSlots | None = None,
    *,
    looked_at: Sequence[Job] | None = None,
    machine: Machine | None = None,
    probe_s: float = 0.0,
) -> tuple[Flight, Batch]:
    """Return how many recordings are in flight at once, and what the checks look at.

    Until the next look, `slots` offers no GPU that none of the sorts can use.

    Parameters
    ----------
    jobs, asked
        As in `flight_of`.
    slots : GpuSlots or None, default None
        The GPUs; None for those of this machine.
    looked_at : sequence of Job or None, default None
        Those of `jobs` that the checks look at; None for all.
    machine, probe_s
        As in ``preflight.run.look_at_batch``.
    """
    if slots is None:
        slots = GpuSlots()
        with closing(slots.driver):
            return look_ahead(jobs, asked, slots, looked_at=looked_at, machine=machine, probe_s=probe_s)
    batch = look_at_batch(jobs if looked_at is None else looked_at, machine=machine, probe_s=probe_s)
    if batch.jobs:  # else nothing is known of the GPUs that was not known before
        slots.leave_out(left_out(batch))
    flight = flight_of(jobs, asked, slots)
    return flight, replace(batch, n_parallel=flight.n_parallel)


def _n_different(found: Iterable[Sequence[Device]]) -> int:
    return len({device for devices in found for device in devices})


def fitted(work: Work) -> SortingPipelineConfig:
    """Return the settings of the workers: processes and memory are shared, where the user does not say how many."""
    config, resources = work.job.config, work.resources
    if resources.n_parallel == 1:
        return config
    given: dict[str, int] = {}
    if config.execution.n_jobs is None:
        given["n_jobs"] = resources.cores_each
    if config.execution.total_memory is None:
        # Alone, a recording takes half of what is free.
        ours = max(resources.ram_bytes_each, _sort_bytes(work))
        given["total_memory"] = max(1, int(min(ours, resources.budget.ram_bytes) / 2))
    return config.override(**given)


def devices_for(slots: GpuSlots, phase: Phase, config: SortingPipelineConfig) -> tuple[Device, ...]:
    """Return the GPUs of which `phase` needs one; none where it runs on the CPU."""
    device = wanted_device(config)
    if phase != "sort" or device == "cpu":
        return ()
    number = cuda_number(device)
    if number is not None:
        return slots.visible(number)
    # A sort in this process takes the first, which torch may have opened already.
    return slots.free_choice(slots.visible(0 if config.execution.runner == "inline" else None))


def has_another_gpu(work: Work, phase: Phase, config: SortingPipelineConfig, error: BaseException) -> bool:
    """Return whether a phase that lost its GPU, as `error` says, may have another one."""
    if not isinstance(error, GpuLostError):
        return False
    try:
        return bool(work.resources.slots.usable(devices_for(work.resources.slots, phase, config)))
    except SpikeSortingClassifiedError:  # none is left
        return False


def gpu_environment(config: SortingPipelineConfig, slot: Slot | None) -> dict[str, str]:
    """Return what makes the GPU of a worker the only one that it sees: that it uses the one that is watched.

    Where the user has said which one, its number must stay what it is.
    """
    chosen = slot is not None and cuda_number(wanted_device(config)) is None
    return {"CUDA_VISIBLE_DEVICES": slot.device.key} if slot is not None and chosen else {}


@contextmanager
def _slot(work: Work, phase: Phase, devices: Sequence[Device]) -> Iterator[Slot | None]:
    if not devices:
        yield None
        return
    with work.resources.slots.hold(
        devices, work.run_id, work.stop, lambda held: work.say_waiting(phase, f"waiting for a GPU ({held})")
    ) as slot:
        yield slot


@contextmanager
def _share(work: Work, phase: Phase, config: SortingPipelineConfig, slot: Slot | None) -> Iterator[None]:
    resources = work.resources
    if resources.n_parallel == 1:
        yield
        return
    need = need_of(work, phase, config, on_gpu=slot is not None)
    with resources.budget.hold(
        need, _RANK[phase], work.stop, lambda: work.say_waiting(phase, "waiting for cores and memory")
    ):
        yield


def need_of(work: Work, phase: Phase, config: SortingPipelineConfig, *, on_gpu: bool) -> Need:
    """Return what `phase` takes of cores and memory; without an estimate that is an equal share of the memory."""
    estimate, resources = work.job.estimate, work.resources
    cores = {"finish": config.execution.n_jobs or resources.cores_each, "sort": 1 if on_gpu else work.n_threads}
    ram_gb = {"prepare": _LITTLE_GB, "scan": _LITTLE_GB}
    if estimate is not None:
        # What is written to the results is held in memory before, above all the templates.
        ram_gb.update(sort=estimate.ram_gb.likely, finish=_FINISH_GB + estimate.disk_results_gb.likely)
    ram_bytes = ram_gb[phase] * GB if phase in ram_gb else resources.ram_bytes_each
    if phase == "sort":
        # One that is tried again has shown what it takes.
        ram_bytes = max(ram_bytes, work.peaks.get("run_ram_gb", 0.0) * GB)
    return Need(cores.get(phase, 1), ram_bytes)


def _sort_bytes(work: Work) -> float:
    return 0.0 if work.job.estimate is None else work.job.estimate.ram_gb.likely * GB
