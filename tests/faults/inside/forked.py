"""A script that sorts has forked a process, as by ``multiprocessing``, which lives on when the script is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nemesis

_SCRIPT = """
import os, sys, time
from pathlib import Path
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.process import WorkerProcess
folder = Path(sys.argv[1])
with hold([folder], "a run") as locks, (folder / "log").open("ab") as log:
    command = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
    worker = WorkerProcess(command, environment=os.environ, log=log, status_path=folder / "status", inherit=locks)
    fork = os.fork()
    if fork == 0:
        time.sleep(600)
    print(fork, worker.pid, flush=True)
    time.sleep(600)
"""


def main(folder: str) -> dict[str, Any]:
    log = Path(folder, "log")
    script = subprocess.Popen([sys.executable, "-c", _SCRIPT, folder], stdout=subprocess.PIPE, text=True)
    fork, guardian = map(int, script.stdout.readline().split())
    nemesis.wait_until(lambda: "ready" in log.read_text(), 10, "the worker")
    (worker,) = nemesis.children(guardian)
    script.kill()
    script.wait()
    try:
        gone_s = nemesis.wait_until(
            lambda: not {guardian, worker} & nemesis.living().keys(), 5, "the end of the worker"
        )
    except TimeoutError:
        gone_s = None
    return {"gone_s": gone_s, "is_free": nemesis.is_free(folder), "fork_lives": fork in nemesis.living()}


nemesis.run(main)
