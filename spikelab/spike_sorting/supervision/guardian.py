"""Stands between the orchestrator and its worker, and outlives neither.

Started as ``python -I guardian.py STATUS_FILE COMMAND...`` with a pipe on its standard input. One byte asks for
one thing: ``T`` terminate the worker, ``A`` abort it (it dumps its stacks), ``K`` kill it and all below it. The end of
the pipe means that the orchestrator is gone, for whatever reason: then everything is killed. When the worker has
ended, every process that it left behind is killed too, and STATUS_FILE says how it ended.

``--afterwards JSON`` before STATUS_FILE is a command that ends what is no process below the worker: a container.

Only the standard library is used, and nothing of ours: this file starts in milliseconds and must not fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_EXIT_KILLED = 137
SHELL_SIGNAL = 128
"""What shells add to the number of a signal in the exit code of what it killed."""
_TELL_S = 5.0
"""A disk that takes longer for one line does not answer any more."""
_LOOK_S = 1.0
_ROUND_S, _LONGEST_ROUND_S = 0.002, 0.1
_KILL_S = 60.0
"""A process that ignores SIGKILL for so long hangs in the kernel; no further one will reach it."""
_RELEASE_S = 3.0
"""Time for shared memory to be released; to give pages back takes a second for some gigabytes."""
_TRACKER = b"resource_tracker import main"
"""In the command line of what releases shared memory whose users were killed."""
AFTERWARDS_S = 60.0
"""Time for the command that comes afterwards."""


@dataclass(frozen=True)
class Process:
    """A living process.

    Parameters
    ----------
    pid, parent : int
        Its number and its parent's.
    started : str
        When it started, in a form that only serves for comparison; tells it from a later owner of its number.
    """

    pid: int
    parent: int
    started: str


def main(arguments: list[str]) -> int:
    """Run the command, kill what it leaves behind, and write how it ended."""
    afterwards: list[str] = []
    if arguments[0] == "--afterwards":
        afterwards, arguments = json.loads(arguments[1]), arguments[2:]
    status_path, command = Path(arguments[0]), arguments[1:]
    # Before the first fork: what the worker forks twice becomes our child, not init's.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_dies_with_us(), close_fds=False)
    leaving = threading.Lock()
    threading.Thread(target=_obey, args=(worker, os.getppid(), afterwards, leaving), daemon=True).start()
    returncode = worker.wait()
    with leaving:
        survivors = kill_descendants(os.getpid())
        run_afterwards(afterwards)
    _tell(status_path, returncode, survivors)
    # Where the disk is full or dead, our own exit says as much as it can.
    return returncode if returncode >= 0 else SHELL_SIGNAL - returncode


def run_afterwards(command: list[str]) -> None:
    """Run `command`, for a limited time; what it prints goes where our own output goes."""
    if command:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=AFTERWARDS_S, check=False)


def _obey(worker: subprocess.Popen[bytes], orchestrator: int, afterwards: list[str], leaving: threading.Lock) -> None:
    """Do what the orchestrator asks, until it is gone."""
    signals = {b"T": signal.SIGTERM, b"A": signal.SIGABRT}
    try:
        while order := _next_order(orchestrator):
            if order in signals:
                worker.send_signal(signals[order])
            else:
                _kill_unless_left(leaving)
        with leaving:
            kill_descendants(os.getpid())
            run_afterwards(afterwards)
    finally:
        # The main thread may wait for a worker that cannot die; there is nobody left whom that concerns.
        worker.kill()
        os._exit(_EXIT_KILLED)


def _next_order(orchestrator: int) -> bytes:
    """Wait for an order and return it; nothing when the orchestrator is gone.

    The pipe alone does not tell of every end: a process that the user's script has forked keeps it open.
    """
    while sys.platform != "win32" and not select.select([0], [], [], _LOOK_S)[0]:
        if os.getppid() != orchestrator:
            return b""
    return os.read(0, 1)


def _kill_unless_left(leaving: threading.Lock) -> None:
    """Kill the worker and all below it; where it has ended, the main thread is about the rest of it.

    What comes afterwards is below us too, and must not be killed: nothing else would end a container.
    """
    if leaving.acquire(blocking=False):
        try:
            kill_descendants(os.getpid())
        finally:
            leaving.release()


def kill_descendants(me: int) -> list[Process]:
    """Kill every descendant of `me`; return those that survive it."""
    return kill_all(lambda: descendants(me), _KILL_S)


def kill_all(look: Callable[[], list[Process]], seconds: float) -> list[Process]:
    """Kill what `look` finds until it finds nothing; return what survives so many seconds of it.

    What releases the shared memory of the others does so, and ends by itself, once they are gone: it is killed only
    where it does not. Killed with them, it would leave gigabytes that are taken until the machine restarts.
    """
    others = _kill_in_rounds(lambda: [process for process in look() if not _releases_memory(process)], seconds)
    if others:
        return others
    give_up_s, round_s = time.monotonic() + _RELEASE_S, _ROUND_S
    while look() and time.monotonic() < give_up_s:
        round_s = _rest(round_s)
    return _kill_in_rounds(look, seconds)


def _kill_in_rounds(look: Callable[[], list[Process]], seconds: float) -> list[Process]:
    """Kill round after round: a process that was forked between two looks is found in the next one."""
    give_up_s, round_s = time.monotonic() + seconds, _ROUND_S
    while (living := look()) and time.monotonic() < give_up_s:
        for process in living:
            kill_exactly(process)
        round_s = _rest(round_s)
    return living


def _rest(round_s: float) -> float:
    """Sleep, and return how long to sleep next time."""
    time.sleep(round_s)
    return min(1.2 * round_s, _LONGEST_ROUND_S)


def _releases_memory(process: Process) -> bool:
    """Return whether `process` is one that Python, or joblib, starts to release what its users no longer can.

    It has one thread, which waits for them. Of others nothing is asked: where one hangs in the kernel, whoever reads
    its command line may hang as well.
    """
    fields = _stat_of(process.pid)
    if fields is None or fields[0] not in {"S", "R"} or fields[17] != "1":
        return False
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            return _TRACKER in file.read()
    except OSError:
        return False


def kill_exactly(process: Process) -> None:
    """Kill `process`, and never a stranger that got its number meanwhile.

    One that runs as another user, as what ``sudo`` starts, is not ours to kill: that must not spare the others.
    """
    if not hasattr(os, "pidfd_open"):
        _kill_by_number(process)
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # an old kernel, or a sandbox that does not allow it
        _kill_by_number(process)
        return
    try:
        # The handle is of whoever has the number now; the start time says whether that is still the same.
        current = _read_process(process.pid)
        if current is not None and current.started == process.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, _SIGKILL)
    finally:
        os.close(handle)


def still_living(processes: Iterable[Process]) -> list[Process]:
    """Return those of `processes` that live, themselves and not later owners of their numbers."""
    known = {(process.pid, process.started) for process in processes}
    return [process for process in living_processes() if (process.pid, process.started) in known]


def _kill_by_number(process: Process) -> None:
    """Kill by number, at once after a look at whose number it is: the best there is without handles."""
    current = _read_process(process.pid)
    if process.started == "" or (current is not None and current.started == process.started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, _SIGKILL)


def descendants(me: int) -> list[Process]:
    """Return all living descendants of the process `me`."""
    children: dict[int, list[Process]] = {}
    for process in living_processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [me]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def living_processes() -> Iterator[Process]:
    """Yield every process that is not a zombie."""
    if not os.path.isdir("/proc/self"):
        yield from _listed_by_ps()
        return
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _read_process(int(name))
            if process is not None:
                yield process


def _read_process(pid: int) -> Process | None:
    """Return the process `pid`, or None when it is gone or a zombie."""
    fields = _stat_of(pid)
    if fields is None:
        return None
    state, parent, started = fields[0], int(fields[1]), fields[19]
    return None if state in {"Z", "X"} else Process(pid, parent, started)


def _stat_of(pid: int) -> list[str] | None:
    """Return what the kernel says of a process behind its name, or None when it is gone or hidden from us."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name in parentheses may itself hold spaces and parentheses.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _listed_by_ps() -> Iterator[Process]:
    """Yield the living processes on systems without /proc."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        if not state.startswith("Z"):
            yield Process(int(pid), int(parent), "")


def _dies_with_us() -> Callable[[], None] | None:
    """Return what the worker does before it starts: ask to be killed when the guardian dies."""
    if sys.platform != "linux":
        return None
    guardian = os.getpid()

    def ask() -> None:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != guardian:  # it died before we asked
            os._exit(_EXIT_KILLED)

    return ask


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tell(path: Path, returncode: int, survivors: list[Process]) -> None:
    """Write down how the worker ended, if the disk lets us within a few seconds."""

    def write() -> None:
        with contextlib.suppress(OSError):
            _write_status(path, returncode, survivors)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(_TELL_S)


def _write_status(path: Path, returncode: int, survivors: list[Process]) -> None:
    partial = path.with_suffix(".tmp")
    status = {"returncode": returncode, "survivors": [process.pid for process in survivors]}
    partial.write_text(json.dumps(status), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
