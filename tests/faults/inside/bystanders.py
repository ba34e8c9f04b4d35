"""Processes that look like ours but are not: a similar name, a cookie of another run, a number of ours used again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting.supervision import guardian, sweep
from spikelab.spike_sorting.supervision.lock import hold

_HOLDER = """
import os, subprocess, sys
from pathlib import Path
from spikelab.spike_sorting.supervision.lock import hold
with hold([Path(sys.argv[1])], "old run") as locks:
    child = subprocess.Popen(["sleep", "600"], env={**os.environ, "SPIKELAB_RUN_ID": "old run"}, pass_fds=locks)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def main(folder: str) -> dict[str, Any]:
    similar = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", "-m", "spikelab.spike_sorting.worker", folder],
        env={**os.environ, sweep.RUN_COOKIE: "old run 2"},
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = nemesis.Handle(int(holder.stdout.readline()))
    holder.kill()
    holder.wait()
    with_number_of_holder = _start_with_number(holder.pid)
    with hold([Path(folder)], "new run"):
        child_ended = child.has_ended()
    victim = subprocess.Popen(["sleep", "600"])
    ours = next(process for process in guardian.living_processes() if process.pid == victim.pid)
    victim.kill()
    victim.wait()
    # The kernel tells starts apart by ticks of 10 ms: no number comes round so fast but here.
    nemesis.wait_until(lambda: _ticks() > int(ours.started) + 1, 5, "the next tick")
    with_number_of_victim = _start_with_number(victim.pid)
    guardian.kill_exactly(ours)
    bystanders = {
        "similar": similar,
        "holder's number": with_number_of_holder,
        "victim's number": with_number_of_victim,
    }
    until = time.monotonic() + 0.3  # long enough for a signal to arrive
    while time.monotonic() < until and all(process.poll() is None for process in bystanders.values()):
        time.sleep(nemesis.POLL_S)
    return {
        "child_ended": child_ended,
        "numbers_used_again": with_number_of_holder.pid == holder.pid and with_number_of_victim.pid == victim.pid,
        "survived": {name: process.poll() is None for name, process in bystanders.items()},
    }


def _ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _start_with_number(pid: int) -> subprocess.Popen[bytes]:
    """Start a process that gets the number of one that is gone."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    return subprocess.Popen(["sleep", "600"])


nemesis.run(main)
