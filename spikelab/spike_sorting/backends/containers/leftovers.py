"""Containers that outlive whoever started them: written down before they start, and ended by label afterwards.

As a program, ``python -m spikelab.spike_sorting.backends.containers.leftovers NOTE`` ends what the note tells of. The
guardian of a worker runs it when the worker has ended, and the next run of the same folder, which holds its locks, when
there is a note still: nobody else can have started what carries its labels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting.backends.containers.runtime import Removed, Runtime
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE, has_cookie

_MODULE = "spikelab.spike_sorting.backends.containers.leftovers"
_LABEL = "spikelab."
_SWEEP_S = 60.0


@dataclass(frozen=True)
class Note:
    """What is known of a container from outside.

    Parameters
    ----------
    labels : mapping of str to str
        What finds it.
    pid : int or None, default None
        Its first process, once it runs.
    """

    labels: Mapping[str, str]
    pid: int | None = None

    def write(self, path: Path) -> None:
        """Publish it at `path`."""
        publish_json(path, {"schema": 1, "labels": dict(self.labels), "pid": self.pid})


def labels_for(run_id: str, folder: Path) -> dict[str, str]:
    """Return the labels of a container of the run `run_id` with the intermediate `folder`."""
    return {f"{_LABEL}run": run_id, **labels_of_folder(folder)}


def labels_of_folder(folder: Path) -> dict[str, str]:
    """Return what finds all containers of a folder, also where the note is gone, be it with the folder."""
    return {f"{_LABEL}folder": str(folder), f"{_LABEL}host": host.host_name()}


def read_note(path: Path) -> Note | None:
    """Return the note at `path`, or None where there is none."""
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return Note(said["labels"], said["pid"])


def processes(path: Path) -> list[int]:
    """Return the first process of the container that the note at `path` tells of, where this machine has it.

    A daemon on another machine counts other processes: only one that carries the cookie of the run is meant.
    """
    note = read_note(path)
    if note is None or note.pid is None or not has_cookie(note.pid, RUN_COOKIE, note.labels[f"{_LABEL}run"]):
        return []
    return [note.pid]


def sweep_command(path: Path) -> list[str]:
    """Return the program that ends what the note at `path` tells of."""
    return [sys.executable, "-m", _MODULE, str(path)]


def sweep(path: Path) -> str | None:
    """End what the note at `path` tells of, in a process of its own; return why that failed, or None."""
    if not path.exists():
        return None
    try:
        done = subprocess.run(
            sweep_command(path), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SWEEP_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"Docker does not answer within {_SWEEP_S:g} s"
    return (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1] if done.returncode else None


def remove_noted(path: Path, runtime: Runtime) -> list[Removed]:
    """Remove the containers that the note at `path` tells of, and the note."""
    note = read_note(path) or Note(labels_of_folder(path.parent))
    removed = list(runtime.remove_labelled(note.labels))
    path.unlink(missing_ok=True)
    return removed


def main(arguments: list[str]) -> int:
    """End what is left, and say so."""
    path = Path(arguments[0])
    if path.parent.exists() and not path.exists():
        return 0
    from spikelab.spike_sorting.backends.containers.docker_runtime import DockerRuntime

    try:
        runtime = DockerRuntime()
        try:
            removed = remove_noted(path, runtime)
        finally:
            runtime.close()
    except DockerEnvironmentError as error:
        sys.stderr.write(f"a container may be left, see {path}: {error}\n")
        return 1
    for container in removed:
        sys.stdout.write(f"removed the container {container.name}\n{container.stacks}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
