"""What a fault program may do. It works in a private PID namespace only: there is nobody else to hit.

A program is started by ``in_namespace`` of the conftest as the first process of its namespace, so that everything
that loses its parent becomes its child, and everything ends with it. It kills by handles that it holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = ("spikedata_curated.h5", "spikedata_raw.h5", "curation_history.json")
POLL_S = 0.005


def run(main: Callable[..., Any]) -> None:
    """Call `main` with the settings that the test gave, and print what it returns for the test."""
    if os.getpid() != 1:
        sys.exit("a fault program kills processes: it runs as the first process of its own PID namespace only")
    sys.stdout.write(json.dumps(main(**json.loads(sys.argv[1]))) + "\n")


# --------------------------------------------------------------------------------------------------- processes


class Handle:
    """A process that cannot be mistaken for a later one of the same number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def send(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; it may be gone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def has_ended(self) -> bool:
        """Whether it is gone, or a zombie."""
        return bool(select.select([self._descriptor], [], [], 0)[0])


def state_of(pid: int) -> str | None:
    """Return the kernel's letter for a process, None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def living(but: tuple[int, ...] = ()) -> dict[int, str]:
    """Return the command lines of all processes of this namespace but this one and zombies."""
    found = {}
    for folder in Path("/proc").iterdir():
        if (
            folder.name.isdigit()
            and int(folder.name) not in {1, *but}
            and state_of(int(folder.name)) not in {None, "Z"}
        ):
            with suppress(OSError):
                found[int(folder.name)] = _command(int(folder.name))[-120:]
    return found


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def kill_the_rest(but: tuple[int, ...] = ()) -> None:
    """End what a failed trial left in this namespace, so that the next one starts clean."""
    while rest := living(but):
        for pid in rest:
            with suppress(ProcessLookupError):
                Handle(pid).send()
        time.sleep(POLL_S)


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if state_of(child) not in {None, "Z"}]


def descendants(pid: int) -> list[int]:
    """Return all living descendants of a process, parents first."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def guardian_of(orchestrator: subprocess.Popen[Any]) -> Handle:
    """Return the guardian of a running orchestrator, which we have not waited for: its number is still its own."""
    (guardian,) = [pid for pid in children(orchestrator.pid) if "guardian.py" in _command(pid)]
    return Handle(guardian)


def worker_of(orchestrator: subprocess.Popen[Any]) -> Handle:
    """Return the worker of a running orchestrator."""
    return Handle(children(guardian_of(orchestrator).pid)[0])


def wait_until(condition: Callable[[], Any], limit_s: float, what: str) -> float:
    """Poll until `condition` holds and return how long that took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > limit_s:
            msg = f"{what}: not within {limit_s:g} s; alive: {living()}"
            raise TimeoutError(msg)
        time.sleep(POLL_S)
    return time.monotonic() - started


# ------------------------------------------------------------------------------------------------------- sorts


def start_sort(*, stdout: int = subprocess.PIPE, **settings: Any) -> subprocess.Popen[str]:
    """Start a script that sorts, as a user's would; see ``sort.py``."""
    command = [sys.executable, str(HERE / "sort.py"), json.dumps(settings)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def sort_to_the_end(limit_s: float = 120.0, **settings: Any) -> dict[str, Any]:
    """Sort undisturbed and return the report."""
    process = start_sort(**settings)
    said, complained = process.communicate(timeout=limit_s)
    if not said:
        raise RuntimeError(complained[-3000:])
    return {**json.loads(said.splitlines()[-1]), "complained": complained[-3000:]}


def with_load_done(template: str, inter: str) -> None:
    """Give a new run the finished first stage of `template`, a run of the same file: it resumes from there."""
    Path(inter).mkdir(parents=True)
    shutil.copytree(Path(template, "load"), Path(inter, "load"))
    shutil.copy(Path(template, "load.done.json"), Path(inter, "load.done.json"))
    Path(inter, ".spikelab.lock").touch()  # it is an intermediate folder of ours


def step_of(inter: str) -> str | None:
    """Return what the worker says it is doing: "sort: threshold"."""
    try:
        said = json.loads(Path(inter, "progress.json").read_text())
    except (OSError, ValueError):
        return None
    return f"{said['stage']}: {said['step']}"


def is_misbehaving(orchestrator: subprocess.Popen[Any], inter: str, n_processes: int = 2) -> bool:
    """Whether the fake sorter has begun to do what it was told, with so many processes below the orchestrator."""
    if orchestrator.poll() is not None:
        raise RuntimeError(orchestrator.communicate()[1][-3000:])
    return step_of(inter) == "sort: threshold" and len(descendants(orchestrator.pid)) >= n_processes


def is_free(folder: str) -> bool:
    """Whether no process holds the lock of a folder."""
    path = Path(folder, ".spikelab.lock")
    if not path.exists():
        return True
    with path.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def content(results: str) -> dict[str, str]:
    """Return digests of what must not depend on what happened during the sort."""
    paths = [Path(results, name) for name in RESULTS]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def leftovers(*folders: str) -> list[str]:
    """Return half-written files below folders."""
    return [str(path) for folder in folders for path in Path(folder).rglob("*.partial*")]


def events(results: str) -> list[dict[str, Any]]:
    """Return the journal, without torn lines."""
    found = []
    for line in Path(results, "events.jsonl").read_text(errors="replace").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
