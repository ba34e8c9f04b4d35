"""Look at recordings in a process of its own, which may crash or hang without harm to the one that asked.

As a program, ``python -m spikelab.spike_sorting.preflight.elsewhere FOLDER PROBE_S`` is that process: it looks at each
job of ``jobs.json`` in FOLDER, in order, and leaves what it knows of it in ``0.json``, ``1.json`` and so on.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from spikelab.spike_sorting._exceptions import (
    EnvironmentSortFailure,
    HostOutOfMemoryError,
    IOStallError,
    RecordingUnreadableError,
    SpikeSortingClassifiedError,
    UnkillableProcessError,
)
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.facts import RecordingFacts, look
from spikelab.spike_sorting.sources import plugin_environment
from spikelab.spike_sorting.supervision.cgroup import memory_group
from spikelab.spike_sorting.supervision.process import WorkerProcess
from spikelab.spike_sorting.supervision.publish import publish
from spikelab.spike_sorting.supervision.readings import has_killed, oom_kills
from spikelab.spike_sorting.supervision.tree import Tree

_LONGEST_S = 3600.0
"""Even one that reads and reads is given up after this."""
_KILL_S = 5.0
_POLL_S = 0.02
_LOOK_S = 1.0
_READY = "ready"
_KILL = "SIGKILL"

Count = Callable[[], int | None]


def _kernel_kills() -> int | None:
    """Return how often the kernel has killed around this process for lack of memory, where it counts."""
    return oom_kills(memory_group())


def look_at_all(jobs: Sequence[Job], probe_s: float = 0.0, *, kills: Count = _kernel_kills) -> list[RecordingFacts]:
    """Return what there is to know of the recording of each job; what is wrong with one is in there, not raised.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be sorted. A recording that only this process has is looked at here. One that moves no byte and
        takes no processor time for ``io_stall_s`` is given up.
    probe_s : float, default 0.0
        Seconds of each by which its activity is judged; 0 for those that are read anyway.
    kills : callable, optional
        Returns how often the kernel has killed for lack of memory so far, or None where it does not count.
    """
    facts: list[RecordingFacts] = []
    # HDF5 looks for plugins when its library starts: one process for each search path.
    for (here, plugins), group in groupby(jobs, key=lambda job: (_is_known_here(job), _plugins(job))):
        members = list(group)
        looked = (look(job, probe_s) for job in members)
        facts += looked if here else _look_elsewhere(members, plugins, probe_s, kills)
    return facts


def _is_known_here(job: Job) -> bool:
    return job.problem is not None or job.in_memory is not None


def _plugins(job: Job) -> str | None:
    return job.config.recording.hdf5_plugin_path


def _look_elsewhere(jobs: Sequence[Job], plugins: str | None, probe_s: float, kills: Count) -> list[RecordingFacts]:
    """Ask one process after the other: one that fails over a recording has a successor for the recordings after it."""
    facts: list[RecordingFacts] = []
    while len(facts) < len(jobs):
        rest = jobs[len(facts) :]
        try:
            facts += _look_until_it_fails(rest, plugins, probe_s, kills)
        except (OSError, EnvironmentSortFailure) as error:
            msg = f"recordings cannot be looked at: the process for that does not start ({error})"
            facts += [RecordingFacts(job, error=EnvironmentSortFailure(msg)) for job in rest]
    return facts


def _look_until_it_fails(
    jobs: Sequence[Job], plugins: str | None, probe_s: float, kills: Count
) -> list[RecordingFacts]:
    """Return the facts of these jobs, up to the first at which the process that looks ended or hung."""
    with tempfile.TemporaryDirectory(prefix="spikelab-preflight-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        before = kills()
        (folder / "jobs.json").write_text(json.dumps([job.to_dict() for job in jobs]), encoding="utf-8")
        with (folder / "log").open("ab") as log:
            process = WorkerProcess(
                [sys.executable, "-m", "spikelab.spike_sorting.preflight.elsewhere", name, str(probe_s)],
                environment={**os.environ, **plugin_environment(plugins)},
                log=log,
                status_path=folder / "status.json",
            )
        facts: list[RecordingFacts] = []
        with process:
            for number, job in enumerate(jobs):
                error = _wait_for(process, folder / f"{number}.json", job, lambda: has_killed(before, kills()))
                if error is not None:
                    return [*facts, RecordingFacts(job, error=error)]
                facts.append(_read_facts(folder / f"{number}.json", job))
        return facts


def _wait_for(
    process: WorkerProcess, path: Path, job: Job, ran_out: Callable[[], bool]
) -> SpikeSortingClassifiedError | None:
    """Return None once `path` is there, or why it will not come."""
    life, exited = _Life(process.pid, job.config.execution.io_stall_s), None
    while not path.exists():
        if exited is not None:
            return _crashed(job, exited.name, path.parent, ran_out)
        if (silence_s := life.too_silent_s()) is not None:
            with suppress(UnkillableProcessError):  # a dead share: that is what is told
                process.kill(_KILL_S)
            return IOStallError(f"{job.path} does not answer within {silence_s:g} s", stall_s=silence_s)
        exited = process.wait(_POLL_S)
    return None


class _Life:
    """Whether a process still does something: a slow disk is not a dead one."""

    def __init__(self, pid: int, limit_s: float) -> None:
        self._tree = Tree(pid, tuple, time.monotonic)
        self._limit_s = limit_s
        self._began_s = self._moved_s = self._looked_s = time.monotonic()
        self._last: object = None

    def too_silent_s(self) -> float | None:
        """Return the limit that it has passed (s), or None while it is within."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            with suppress(OSError):
                use = self._tree.use()
                self._moved_s = now_s if (use.cpu_s, use.io_bytes) != self._last else self._moved_s
                self._last = (use.cpu_s, use.io_bytes)
        if now_s - self._began_s > _LONGEST_S:
            return _LONGEST_S
        return self._limit_s if now_s - self._moved_s > self._limit_s else None


def _crashed(job: Job, exit_name: str, folder: Path, ran_out: Callable[[], bool]) -> SpikeSortingClassifiedError:
    log = folder / "log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    said = f": {lines[-1]}" if lines else ""
    if not (folder / _READY).exists():
        msg = f"{exit_name}{said}"
        raise EnvironmentSortFailure(msg)
    if exit_name == _KILL:
        # Damage makes a process die of itself, never so: nothing is known of the recording.
        if ran_out():
            return HostOutOfMemoryError(f"{job.path}: the kernel killed what looked at it, for lack of memory{said}")
        return EnvironmentSortFailure(f"{job.path}: the process that looked at it was killed from outside{said}")
    msg = f"{job.path}: reading it ends the process that tries to ({exit_name}){said}"
    return RecordingUnreadableError(msg, path=job.path)


def _read_facts(path: Path, job: Job) -> RecordingFacts:
    return RecordingFacts.from_dict(json.loads(path.read_text(encoding="utf-8")), job)


def main(arguments: Sequence[str]) -> int:
    """Look at the jobs in the folder and leave what is known of each."""
    faulthandler.enable()
    folder, probe_s = Path(arguments[0]), float(arguments[1])
    (folder / _READY).touch()
    for number, described in enumerate(json.loads((folder / "jobs.json").read_text(encoding="utf-8"))):
        facts = look(Job.from_dict(described), probe_s)
        publish(folder / f"{number}.json", json.dumps(facts.to_dict()).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
