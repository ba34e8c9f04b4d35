"""A process that the guardian may not kill, as one started by ``sudo``: it must not spare the others.

This needs real users: the program runs as root in a PID namespace, without a user namespace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting.supervision import guardian

_WORKER = """
import subprocess, time
foreign = subprocess.Popen(["sleep", "600"], user=65534)
own = subprocess.Popen(["sleep", "601"])
print(foreign.pid, own.pid, flush=True)
time.sleep(600)
"""


def main(folder: str) -> dict[str, Any]:
    status = Path(folder, "status.json")
    # Root may kill everybody, unless it gives up that right.
    command = ["setpriv", "--bounding-set", "-kill", sys.executable, "-I", guardian.__file__, str(status)]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    foreign, own = map(int, process.stdout.readline().split())
    (worker,) = nemesis.children(process.pid)
    os.close(process.stdin.fileno())
    return {
        "worker_gone": _is_gone_soon(worker),
        "own_gone": _is_gone_soon(own),
        "foreign_lives": not _is_gone(foreign),
    }


def _is_gone_soon(pid: int) -> bool:
    try:
        nemesis.wait_until(lambda: _is_gone(pid), 5, f"the end of {pid}")
    except TimeoutError:
        return False
    return True


def _is_gone(pid: int) -> bool:
    return nemesis.state_of(pid) in {None, "Z"}


nemesis.run(main)
