"""A sorter that is a program of its own: a child of the worker whose every line is read, and how it ended."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting._classifier import classify
from spikelab.spike_sorting._exceptions import SorterCrashedError

_TAIL_LINES = 30
_LINE_CHARS = 10_000

_log = logging.getLogger(__name__)

Execute = Callable[[list[str], Callable[[str], None]], tuple[int, Sequence[str]]]
"""Runs a program, and calls a function with each line that it prints; returns its exit code and the last lines."""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    returncode : int
        Its exit code; minus the number of a signal that killed it.
    tail : tuple of str
        The last lines that it printed.
    """

    returncode: int
    tail: tuple[str, ...]

    @property
    def name(self) -> str:
        """The exit in words; a shell that starts a program, or a container, adds 128 to its signal."""
        number = -self.returncode if self.returncode < 0 else self.returncode - 128
        known = {one.value: one.name for one in signal.Signals}
        return known.get(number, f"exit code {self.returncode}")

    @property
    def last_words(self) -> str:
        """The last line that says something."""
        return next((line.strip("- ") for line in reversed(self.tail) if line.strip("- ")), "it printed nothing")


def as_child(
    folder: Path, environment: Mapping[str, str], arguments: Sequence[str], take: Callable[[str], None]
) -> tuple[int, Sequence[str]]:
    """Run a program in `folder`, its output in the log of the run as well; return its code and last lines.

    Parameters
    ----------
    folder : Path
        Where it runs.
    environment : mapping of str to str
        Its variables.
    arguments : sequence of str
        Program and arguments; no shell reads them.
    take : callable
        Called with each line that it prints.
    """
    tail: list[str] = []
    with subprocess.Popen(
        list(arguments),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        while line := process.stdout.readline(_LINE_CHARS):
            stripped = line.rstrip()
            take(stripped)
            _log.info("%s", stripped)
            tail = [*tail[-_TAIL_LINES:], stripped]
    return process.returncode, tail


def run_logged(arguments: list[str], log_path: Path, execute: Execute, on_line: Callable[[str], None]) -> Ended:
    """Run a program, and write all that it prints into `log_path`.

    Parameters
    ----------
    arguments : list of str
        Program and arguments.
    log_path : Path
        The sorter's log.
    execute : callable
        Runs it: as a child of this process, or in a container.
    on_line : callable
        Called with each line.
    """
    with log_path.open("w", encoding="utf-8") as log:

        def take(line: str) -> None:
            log.write(f"{line}\n")
            log.flush()
            on_line(line)

        returncode, tail = execute(arguments, take)
    return Ended(returncode, tuple(tail))


def check_ended(ended: Ended, sorter: str, title: str, log_path: Path) -> None:
    """Raise when a sorter failed: classified by what it printed, or SorterCrashedError.

    Parameters
    ----------
    ended : Ended
        How it ended.
    sorter, title : str
        Its name in settings and in sentences.
    log_path : Path
        Its log, in its folder.
    """
    if ended.returncode == 0:
        return
    crash = SorterCrashedError(
        f"{title} ended with {ended.name}: {ended.last_words}",
        sorter=sorter,
        exit_name=ended.name,
        log_path=str(log_path),
        log_tail="\n".join(ended.tail),
    )
    raise classify(sorter, log_path.parent, RuntimeError(ended.last_words)) or crash
