"""Crash, or fail, one piece of work at every file system call that it makes; do it again; compare.

Heavy imports are done once, here; each trial is a fork of this process that strace attaches to before it begins, so
that calls are counted from the beginning of the work.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nemesis
import works

CALLS = (
    "openat,write,pwrite64,writev,pwritev,ftruncate,fallocate,mkdir,mkdirat,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,symlink,close,unlink,unlinkat,rmdir,flock"
)
FAILING = ("openat", "write", "pwrite64", "writev", "ftruncate", "fallocate", "mkdir", "fsync", "rename", "close")
FAILED = 3
"""Exit code of work that told that it could not be done."""


@dataclass
class Trial:
    """One piece of work in one folder."""

    work: str
    folder: Path

    def fresh(self) -> None:
        """Begin anew, with what an earlier run left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        works.WORKS[self.work][0](self.folder)

    def do(self, log: Path | None = None, inject: str | None = None, paths: bool = False) -> int:
        """Do the work in a fork, traced where `log` is given; return how it ended, as subprocess does."""
        go, let_go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)  # the first call that strace may see: it is not one of those counted
            os._exit(self._work())  # noqa: TID251 - a fork that must not run what its parent would at its end
        os.close(go)
        tracer = _attach(pid, log, inject, paths) if log is not None else None
        os.write(let_go, b"g")
        os.close(let_go)
        _, status = os.waitpid(pid, 0)
        if tracer is not None:
            tracer.communicate(timeout=20)
        return os.waitstatus_to_exitcode(status)

    def _work(self) -> int:
        try:
            works.WORKS[self.work][1](self.folder)
        except BaseException as error:  # noqa: BLE001 - a fork ends here, whatever happens
            Path(f"{self.folder}.error").write_text(traceback.format_exc())
            # HDF5 and torch have errors of their own for a disk that is full.
            return FAILED if isinstance(error, (OSError, RuntimeError, ValueError)) else 4
        return 0

    def error(self) -> str:
        """Return the end of what the work complained of last."""
        path = Path(f"{self.folder}.error")
        return path.read_text()[-300:] if path.exists() else ""

    def state(self) -> dict[str, Any]:
        """Return what is there."""
        return works.state(self.work, self.folder)


def _attach(pid: int, log: Path, inject: str | None, paths: bool) -> subprocess.Popen[str]:
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", "-p", str(pid)]
    command += ["-e", f"inject={inject}"] if inject else []
    command += ["-y"] if paths else []
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = tracer.stderr.readline()
    if "attached" not in line:
        raise RuntimeError(line)
    return tracer


def main(work: str, folder: str, fault: str, n_points: int | None) -> dict[str, Any]:
    """Try `fault` ("SIGKILL", or the name of an error) at every call, or at so many spread over the work."""
    trial, log = Trial(work, Path(folder, "run")), Path(folder, "strace.log")
    trial.fresh()
    old = trial.state() if trial.folder.exists() and any(trial.folder.iterdir()) else {}
    if trial.do() != 0:
        raise RuntimeError(f"{work} fails undisturbed: {trial.error()}")
    gold = trial.state()
    points = _points(trial, log, fault)
    step = 1 if n_points is None else max(1, len(points) // n_points)
    found: dict[str, Any] = {"n_calls": len(points), "tried": 0, "fired": 0, "bad": []}
    found["calls"] = sorted({call for call, _ in points})
    for call, nth in points[::step]:
        problem, fired = _one(trial, log, fault, call, nth, old, gold)
        found["tried"] += 1
        found["fired"] += fired
        if problem:
            found["bad"].append([call, nth, problem])
    return found


def _points(trial: Trial, log: Path, fault: str) -> list[tuple[str, int]]:
    """Return the calls of an undisturbed run, each with its number among those of its name in its thread.

    strace counts for each thread anew; of calls in two threads with one number, the first is disturbed.
    """
    trial.fresh()
    trial.do(log)
    counter: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    for line in log.read_text().splitlines():
        if match := re.match(r"(\d+)\s+(\w+)\(", line):
            counter[match[1], match[2]] += 1
            found[match[2], counter[match[1], match[2]]] = None
    points = list(found)
    return points if fault == "SIGKILL" else [point for point in points if point[0] in FAILING]


def _one(
    trial: Trial, log: Path, fault: str, call: str, nth: int, old: dict[str, Any], gold: dict[str, Any]
) -> tuple[str, bool]:
    """Disturb one call; return what is wrong afterwards, and whether the fault took place."""
    trial.fresh()
    how = f"signal={fault}" if fault == "SIGKILL" else f"error={fault}"
    ended = trial.do(log, f"{call}:{how}:when={nth}")
    fired = ended == -signal.SIGKILL if fault == "SIGKILL" else "(INJECTED)" in log.read_text()
    # A signal is an end that the orchestrator sees: torch dies of some errors.
    if ended > 0 and ended != FAILED:
        return f"ended with {ended}: {trial.error()}", fired
    if ended == 0 and fired and trial.state() != gold:
        return "an error was swallowed and the result is wrong", fired
    if ended == 0 and fired and call in {"fsync", "fdatasync"}:
        return "a failed flush was swallowed", fired
    if trial.folder.exists() and not works.is_old_or_new(trial.work, trial.folder, old, gold, fault == "SIGKILL"):
        return "neither the old result nor the new one", fired
    if trial.do() != 0:
        return f"the next run fails: {trial.error()}", fired
    return ("" if trial.state() == gold else "the next run ends in another state"), fired


if __name__ == "__main__":
    nemesis.run(main)
