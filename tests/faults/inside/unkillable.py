"""A process that survives SIGKILL: frozen by the kernel's freezer (cgroup v1), where nothing reaches it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting._exceptions import UnkillableProcessError
from spikelab.spike_sorting.supervision.process import Patience, WorkerProcess

_FREEZER = Path("/sys/fs/cgroup/freezer")
_WORKER = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
print("ready", flush=True)
time.sleep(600)
"""


def main(folder: str, frozen: str, kill_s: float) -> dict[str, Any]:
    log = Path(folder, "log")
    try:
        freezer = _freezer()
    except OSError as error:
        return {"skip": f"no freezer to make a process unkillable with: {error}"}
    with freezer as freeze:
        worker = WorkerProcess(
            [sys.executable, "-c", _WORKER], environment=os.environ, log_path=log, status_path=Path(folder, "status")
        )
        nemesis.wait_until(lambda: log.exists() and "ready" in log.read_text(), 10, "the worker")
        ours, child = nemesis.descendants(worker.pid)
        victim = ours if frozen == "worker" else child
        freeze(victim)
        started = time.monotonic()
        raised: UnkillableProcessError | None = None
        try:
            with worker:
                worker.stop(Patience(0.2, 0.2, kill_s))
        except UnkillableProcessError as error:
            raised = error
        seconds = time.monotonic() - started
        still_there = nemesis.state_of(victim) not in {None, "Z"}
    return {
        "seconds": seconds,
        "still_there": still_there,
        "named": raised is not None and raised.pid == victim,
        "message": str(raised),
    }


def _freezer() -> Any:
    place = _FREEZER / f"spikelab-faults-{time.monotonic_ns()}"
    place.mkdir()
    return _frozen(place)


@contextmanager
def _frozen(place: Path) -> Iterator[Callable[[int], None]]:
    """Yield a function that freezes a process; what is frozen is thawed, and so ends, in the end."""

    def freeze(pid: int) -> None:
        (place / "cgroup.procs").write_text(str(pid))
        (place / "freezer.state").write_text("FROZEN")
        nemesis.wait_until(lambda: (place / "freezer.state").read_text() == "FROZEN\n", 5, "the frost")

    try:
        yield freeze
    finally:
        (place / "freezer.state").write_text("THAWED")
        nemesis.kill_the_rest()
        nemesis.wait_until(lambda: not (place / "cgroup.procs").read_text(), 5, "an empty freezer")
        place.rmdir()


nemesis.run(main)
