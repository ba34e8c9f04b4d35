"""Signals to a script or to the command line while the sorter works: exit code, report, what is left, how long."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nemesis


def main(
    job: dict[str, Any],
    template: str,
    how: str,
    signals: list[str],
    config: str | None = None,
    patience: list[float] | None = None,
    stop_worker: bool = False,
) -> dict[str, Any]:
    inter, results = job["inter"], job["results"]
    nemesis.with_load_done(template, inter)
    if how == "script":
        process = nemesis.start_sort(jobs=[job], **({} if patience is None else {"patience": patience}))
    else:
        process = _command_line(job, config)
    nemesis.wait_until(lambda: nemesis.is_misbehaving(process, inter), 30, "misbehaviour")
    if stop_worker:
        worker = nemesis.worker_of(process)
        worker.send(signal.SIGSTOP)
        nemesis.wait_until(lambda: nemesis.state_of(worker.pid) == "T", 5, "the worker to stand still")
    started = time.monotonic()
    for number, name in enumerate(signals):
        if number:
            time.sleep(0.3)  # a person's second Ctrl-C, not a condition
        process.send_signal(signal.Signals[name])
    _, complained = process.communicate(timeout=60)
    seconds = time.monotonic() - started
    nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of everything")
    # Threads of a dead process may hold its files for some more milliseconds.
    nemesis.wait_until(lambda: nemesis.is_free(inter) and nemesis.is_free(results), 1, "free folders")
    report = Path(results, "recording_report.json")
    return {
        "seconds": seconds,
        "returncode": process.returncode,
        "complained": complained[-2000:],
        "report": json.loads(report.read_text()) if report.exists() else None,
        "log": Path(results, "sorting.log").read_text(errors="replace")[-4000:],
    }


def _command_line(job: dict[str, Any], config: str | None) -> subprocess.Popen[str]:
    """Start ``spikelab sort``; results/NAME is where it puts what the job calls results."""
    results, inter = Path(job["results"]), Path(job["inter"])
    command = [str(Path(sys.executable).with_name("spikelab")), "sort", job["file"], "--config", str(config)]
    command += ["--results", str(results.parent), "--intermediate", str(inter.parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


nemesis.run(main)
