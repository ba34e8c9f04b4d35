"""A job on its way: what it is, what it holds, what has happened to it, and its folders, which may stop to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from spikelab.spike_sorting._exceptions import IOStallError
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Attempt
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.stages.stage import Phase, Stage
from spikelab.spike_sorting.supervision import forks
from spikelab.spike_sorting.supervision.deadline import Deadline, NoAnswerError
from spikelab.spike_sorting.supervision.disk import stalls
from spikelab.spike_sorting.supervision.notes import Notes
from spikelab.spike_sorting.supervision.progress import Progress, ProgressFile, read_progress
from spikelab.spike_sorting.supervision.resources import Resources

T = TypeVar("T")


@dataclass(frozen=True)
class Use:
    """What a recording has of the machine at the moment; None where that is not known.

    Parameters
    ----------
    gpu : str or None
        Its GPU.
    ram_gb, vram_gb : float or None
        Memory of its processes, and on the GPU (GB).
    disk_free_gb : float or None
        What is left where it writes (GB).
    """

    gpu: str | None = None
    ram_gb: float | None = None
    vram_gb: float | None = None
    disk_free_gb: float | None = None


Observer = Callable[[Job, Progress, Use], None]
"""Told now and then how far a recording is, and what it takes."""

_LEAST_S = 10.0
"""A busy disk may take so long, however short ``io_stall_s`` is."""


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
    identity : mapping
        What told the recording from others when the run began.
    attempts : list of Attempt
        Workers so far.
    remarks : list of Remark
        What deserves a warning although it was overcome.
    peaks : dict
        The worst readings so far, by sensor.
    waits_s : list of float
        How long each phase waited for its turn (s).
    resources : Resources
        What it shares with other recordings in flight.
    n_threads : int
        Threads of each worker.
    stalled : Event
        Set when a disk of the run did not answer, until one does.
    """

    job: Job
    stages: tuple[Stage, ...]
    run_id: str
    started_s: float
    observer: Observer | None = None
    stop: Event = field(default_factory=Event)
    locks: tuple[int, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    waits_s: list[float] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    n_threads: int = 1
    stalled: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._notes = Notes(self.job.run.journal.append)
        self._glance = Deadline(f"the disk of {self.job.run.inter}")

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
        """Append an event to the journal; what the orchestrator has to tell must not cost what it has to do."""
        self._notes.add(event, **fields)

    def all_noted(self) -> bool:
        """Wait for the journal, which a slow disk may lag behind with; return whether it is complete."""
        return self._notes.flush(self.patience_s)

    def progress(self) -> Progress | None:
        """Return what the worker wrote last, or None before its first report and where that cannot be read now."""
        return self._glanced(lambda: read_progress(self.job.run.progress))

    def marker(self, name: str) -> dict[str, Any] | None:
        """Return the marker of the stage `name`, or None where there is none, or it cannot be read now."""
        return self._glanced(lambda: self.job.run.read_marker(name))

    def _glanced(self, read: Callable[[], T | None]) -> T | None:
        try:
            return self._glance.call(read)
        except OSError:
            return None

    def say_waiting(self, phase: Phase, text: str) -> None:
        """Tell those who watch that `phase` cannot begin yet, and what it waits for."""
        self.note("waiting", phase=phase, reason=text)
        stage = next((stage.name for stage in self.stages if stage.phase == phase), phase)
        with suppress(OSError):
            self.patiently(lambda: ProgressFile(self.job.run.progress, stage).report(text))
        if self.observer is not None:
            self.observer(self.job, Progress(stage, text), Use())

    @property
    def patience_s(self) -> float:
        """How long a disk may take to answer (s); one that is known to be dead is not waited for again."""
        return _LEAST_S if self.stalled.is_set() else max(_LEAST_S, self.job.config.execution.io_stall_s)

    def patiently(self, function: Callable[[], T], limit_s: float | None = None) -> T:
        """Return what `function` returns, which works on the folders of the run.

        Parameters
        ----------
        function : callable
            What to do.
        limit_s : float or None, default None
            How long that may take (s); None means ``io_stall_s``, and less after what did not answer, until
            something has.

        Raises
        ------
        IOStallError
            It takes longer: a disk or share hangs, and nobody must wait for it all night. The locks of the run stay
            held until `function` returns at last, so that what it still does is done to this run and no later one.
        """
        limit_s = limit_s or self.patience_s
        places = f"the recording, {self.job.run.inter} or {self.job.run.results}"
        try:
            done = Deadline(f"the disk of {places}", limit_s).call(function)
        except NoAnswerError as error:
            self.stalled.set()
            self._stay_locked_until(error.late)
            raise IOStallError(str(error), device=places, stall_s=limit_s) from error
        self.stalled.clear()
        return done

    def _stay_locked_until(self, late: Future[Any] | None) -> None:
        if late is not None:
            for descriptor in self.locks:
                kept = os.dup(descriptor)
                forks.keep_from_forks(kept)
                late.add_done_callback(partial(_close, kept))

    def stall(self, *places: Path) -> IOStallError | None:
        """Return the failure of the disk of one of `places` that does not answer, or None; they need not be there."""
        silent = stalls([places], self.patience_s).get(0)
        if silent is not None:
            self.stalled.set()
        return silent

    def unfinished(self, phase: Phase) -> bool:
        """Return whether a stage of `phase` is still to be done."""
        stages = [stage.name for stage in self.stages if stage.phase == phase]
        return self.patiently(lambda: not all(self.job.run.is_done(name, self.keys[name]) for name in stages))


def _close(descriptor: int, _late: object) -> None:
    forks.close(descriptor)
