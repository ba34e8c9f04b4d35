"""A process that survives SIGKILL: frozen by the kernel's freezer (cgroup v1), where nothing reaches it."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import groups
import nemesis

from spikelab.spike_sorting._exceptions import UnkillableProcessError
from spikelab.spike_sorting.supervision.process import Patience, WorkerProcess

_WORKER = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
print("ready", flush=True)
time.sleep(600)
"""


def main(folder: str, frozen: str, kill_s: float) -> dict[str, Any]:
    log = Path(folder, "log")
    with ExitStack() as stack:
        try:
            freeze = stack.enter_context(groups.freezer())
        except OSError as error:
            return {"skip": f"nothing here makes a process unkillable: {error}"}
        with log.open("ab") as file:
            worker = WorkerProcess(
                [sys.executable, "-c", _WORKER], environment=os.environ, log=file, status_path=Path(folder, "status")
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


nemesis.run(main)
