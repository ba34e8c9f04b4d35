"""Look at recordings in a process of its own, which may crash or hang without harm to the one that asked.

As a program, ``python -m spikelab.spike_sorting.preflight.elsewhere FOLDER`` is that process: it looks at each job of
``jobs.json`` in FOLDER, in order, and leaves what it knows of it in ``0.json``, ``1.json`` and so on.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from spikelab.spike_sorting._exceptions import (
    IOStallError,
    RecordingUnreadableError,
    SpikeSortingClassifiedError,
    UnkillableProcessError,
)
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.facts import RecordingFacts, look
from spikelab.spike_sorting.sources import plugin_environment
from spikelab.spike_sorting.supervision.process import WorkerProcess
from spikelab.spike_sorting.supervision.publish import publish

_PATIENCE_S = 60.0
"""A recording that shows neither header nor data for so long is not to be had."""
_KILL_S = 5.0
_POLL_S = 0.02


def look_at_all(jobs: Sequence[Job], *, patience_s: float = _PATIENCE_S) -> list[RecordingFacts]:
    """Return what there is to know of the recording of each job; what is wrong with one is in there, not raised.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be sorted. A recording that only this process has is looked at here.
    patience_s : float, default 60
        How long one may take (s).
    """
    facts: list[RecordingFacts] = []
    # HDF5 looks for plugins when its library starts: one process for each search path.
    for (here, plugins), group in groupby(jobs, key=lambda job: (_is_known_here(job), _plugins(job))):
        members = list(group)
        facts += map(look, members) if here else _look_elsewhere(members, plugins, patience_s)
    return facts


def _is_known_here(job: Job) -> bool:
    return job.problem is not None or job.in_memory is not None


def _plugins(job: Job) -> str | None:
    return job.config.recording.hdf5_plugin_path


def _look_elsewhere(jobs: Sequence[Job], plugins: str | None, patience_s: float) -> list[RecordingFacts]:
    """Ask one process after the other: one that fails over a recording has a successor for the recordings after it."""
    facts: list[RecordingFacts] = []
    while len(facts) < len(jobs):
        facts += _look_until_it_fails(jobs[len(facts) :], plugins, patience_s)
    return facts


def _look_until_it_fails(jobs: Sequence[Job], plugins: str | None, patience_s: float) -> list[RecordingFacts]:
    """Return the facts of these jobs, up to the first at which the process that looks ended or hung."""
    with tempfile.TemporaryDirectory(prefix="spikelab-preflight-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "jobs.json").write_text(json.dumps([job.to_dict() for job in jobs]), encoding="utf-8")
        process = WorkerProcess(
            [sys.executable, "-m", "spikelab.spike_sorting.preflight.elsewhere", name],
            environment={**os.environ, **plugin_environment(plugins)},
            log_path=folder / "log",
            status_path=folder / "status.json",
        )
        facts: list[RecordingFacts] = []
        with process:
            for number, job in enumerate(jobs):
                error = _wait_for(process, folder / f"{number}.json", job, patience_s)
                if error is not None:
                    return [*facts, RecordingFacts(job, error=error)]
                facts.append(_read_facts(folder / f"{number}.json", job))
        return facts


def _wait_for(process: WorkerProcess, path: Path, job: Job, patience_s: float) -> SpikeSortingClassifiedError | None:
    """Return None once `path` is there, or why it will not come."""
    give_up_s = time.monotonic() + patience_s
    exited = None
    while not path.exists():
        if exited is not None:
            return _crashed(job, exited.name, path.with_name("log"))
        if time.monotonic() > give_up_s:
            with suppress(UnkillableProcessError):  # a dead share: that is what is told
                process.kill(_KILL_S)
            return IOStallError(f"{job.path} does not answer within {patience_s:g} s", stall_s=patience_s)
        exited = process.wait(_POLL_S)
    return None


def _crashed(job: Job, exit_name: str, log: Path) -> RecordingUnreadableError:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    said = f": {lines[-1]}" if lines else ""
    msg = f"{job.path}: reading it ends the process that tries to ({exit_name}){said}"
    return RecordingUnreadableError(msg, path=job.path)


def _read_facts(path: Path, job: Job) -> RecordingFacts:
    return RecordingFacts.from_dict(json.loads(path.read_text(encoding="utf-8")), job)


def main(arguments: Sequence[str]) -> int:
    """Look at the jobs in the folder and leave what is known of each."""
    faulthandler.enable()
    folder = Path(arguments[0])
    for number, described in enumerate(json.loads((folder / "jobs.json").read_text(encoding="utf-8"))):
        facts = look(Job.from_dict(described))
        publish(folder / f"{number}.json", json.dumps(facts.to_dict()).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
