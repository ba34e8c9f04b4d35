"""The holder of a folder dies while a child that inherited the lock lives on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision.lock import hold

_HOLDER = """
import os, subprocess, sys
from pathlib import Path
from spikelab.spike_sorting.supervision.lock import hold
with hold([Path(sys.argv[1])], "old run") as locks:
    cookie = {"SPIKELAB_RUN_ID": "old run"} if sys.argv[2] == "ours" else {}
    environment = {name: value for name, value in os.environ.items() if name != "SPIKELAB_RUN_ID"}
    child = subprocess.Popen(["sleep", "600"], env={**environment, **cookie}, pass_fds=locks)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def main(folder: str, child: str) -> dict[str, Any]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, folder, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    handle = nemesis.Handle(int(holder.stdout.readline()))
    if child == "ours":
        refused_while_alive = _is_refused(folder)
    holder.kill()
    holder.wait()
    if child == "ours":
        with hold([Path(folder)], f"run {os.getpid()}"):
            return {"refused": refused_while_alive, "child_ended_before": handle.has_ended()}
    refused = _is_refused(folder)
    spared = not handle.has_ended()
    handle.send()
    started = time.monotonic()
    nemesis.wait_until(lambda: nemesis.is_free(folder), 5, "a free folder")
    return {"refused": refused, "spared": spared, "free_s": time.monotonic() - started}


def _is_refused(folder: str) -> bool:
    try:
        with hold([Path(folder)], "new run"):
            return False
    except ConcurrentSortError:
        return True


nemesis.run(main)
