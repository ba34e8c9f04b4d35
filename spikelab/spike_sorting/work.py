"""A job on its way: what it is, what it holds, what has happened to it, and its folders, which may stop to answer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

from spikelab.spike_sorting._exceptions import IOStallError
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Attempt
from spikelab.spike_sorting.stages.stage import Phase, Stage
from spikelab.spike_sorting.supervision.arbiter import MemoryArbiter
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.devices import Devices
from spikelab.spike_sorting.supervision.progress import Progress, read_progress

T = TypeVar("T")

Observer = Callable[[Job, Progress], None]
"""Told now and then how far a recording is."""

_log = logging.getLogger(__name__)


@dataclass
class Work:
    """A job on its way.

    Parameters
    ----------
    job : Job
        The recording, with the settings that were asked for.
    stages : tuple of Stage
        The whole sort.
    run_id : str
        Cookie of its processes.
    started_s : float
        When it began, on the monotonic clock.
    observer : callable or None
        Told of progress.
    stop : Event
        Set when the user wants to stop.
    locks : tuple of int
        Descriptors of the locks that it holds.
    keys : mapping of str to str
        Key of each stage.
    attempts : list of Attempt
        Workers so far.
    remarks : list of str
        What deserves a warning although it was overcome.
    peaks : dict
        The worst readings so far, by sensor.
    arbiter : MemoryArbiter or None
        Decides between the runs in flight when memory is short.
    devices : Devices
        GPUs that the batch no longer uses.
    n_threads : int
        Threads of each worker.
    """

    job: Job
    stages: tuple[Stage, ...]
    run_id: str
    started_s: float
    observer: Observer | None = None
    stop: Event = field(default_factory=Event)
    locks: tuple[int, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    arbiter: MemoryArbiter | None = None
    devices: Devices = field(default_factory=Devices)
    n_threads: int = 1

    def __post_init__(self) -> None:
        self._glance = Deadline(f"the disk of {self.job.run.results}")

    def keep_peaks(self, highest: Mapping[str, float]) -> None:
        """Take in the worst readings of a worker: the highest, and of free space, which falls, the lowest."""
        for name, value in highest.items():
            worst = min if name.startswith("disk_free") else max
            self.peaks[name] = worst(value, self.peaks.get(name, value))

    def seconds(self) -> float:
        """Return how long it has taken so far."""
        return round(time.monotonic() - self.started_s, 3)

    # ------------------------------------------------------------------- folders that may not answer any more

    def note(self, event: str, **fields: Any) -> None:
        """Append an event to the journal if the disk lets us.

        What the orchestrator has to tell must not cost what it has to do.
        """
        journal = self.job.run.journal
        try:
            self._glance.call(lambda: journal.write(event, **fields))
        except OSError as error:
            _log.warning("%s lacks the event %s %s: %s", journal.path, event, fields, error)

    def progress(self) -> Progress | None:
        """Return what the worker wrote last, or None before its first report and where the disk does not answer."""
        try:
            return self._glance.call(lambda: read_progress(self.job.run.progress))
        except TimeoutError:
            return None

    def patiently(self, function: Callable[[], T], at_least_s: float = 10.0) -> T:
        """Return what `function` returns, which works on the folders of the run.

        Parameters
        ----------
        function : callable
            What to do.
        at_least_s : float, default 10
            Time that it may take on busy disks, however short ``io_stall_s`` is (s).

        Raises
        ------
        IOStallError
            It takes longer than that and than ``io_stall_s``: a disk or share hangs, and nobody must wait for it all
            night.
        """
        limit_s = max(at_least_s, self.job.config.execution.io_stall_s)
        places = f"the recording, {self.job.run.inter} or {self.job.run.results}"
        try:
            return Deadline(f"the disk of {places}", limit_s).call(function)
        except TimeoutError as error:
            raise IOStallError(str(error), device=places, stall_s=limit_s) from error

    def check_disks(self) -> None:
        """Raise IOStallError unless the disks of the recording and of both folders answer."""
        self.patiently(lambda: [os.path.lexists(place) for place in self.job.places])

    def unfinished(self, phase: Phase) -> bool:
        """Return whether a stage of `phase` is still to be done."""
        stages = [stage.name for stage in self.stages if stage.phase == phase]
        return self.patiently(lambda: not all(self.job.run.is_done(name, self.keys[name]) for name in stages))
