"""How far a worker is: a small file that the worker replaces and anyone may read."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

MIN_INTERVAL_S = 0.2
_IN_LINE = "spikelab-progress "
"""Begins a line of output that tells of progress."""
_MIN_DONE = 0.05
"""Before this share of a step is done, what is left of it is a guess."""


@dataclass(frozen=True)
class Progress:
    """Where a worker is.

    Parameters
    ----------
    stage : str
        Name of the stage.
    step : str
        What the stage is doing now; empty at its start.
    fraction : float or None
        Share of this step that is done (0-1), where known.
    n_spikes : int or None
        Spikes found so far, where known.
    left_s : float or None
        What this step will still take at its pace so far (s), where known. Progress is the same whatever it says.
    warning : str or None
        What deserves attention while it runs; told by whoever watches the worker.
    """

    stage: str
    step: str = ""
    fraction: float | None = None
    n_spikes: int | None = None
    left_s: float | None = field(default=None, compare=False)
    warning: str | None = None


def left_s(fraction: float | None, since: float, spent_s: float) -> float | None:
    """Return what a step will still take (s), or None when that is a guess.

    Parameters
    ----------
    fraction : float or None
        Share that is done (0-1).
    since : float
        Share that was done when the time began.
    spent_s : float
        Time since then (s).
    """
    if fraction is None or fraction - since < _MIN_DONE:
        return None
    return round(spent_s * (1 - fraction) / (fraction - since), 1)


class ProgressFile:
    """The worker's side: writes at most a few times a second.

    Parameters
    ----------
    path : Path
        File to replace.
    stage : str
        Stage that reports.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._last_step: str | None = None
        self._written_at = 0.0
        self._began = (0.0, 0.0)

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        """Say where the stage is; a new step is always written, the rest when the last is a while ago."""
        now = time.monotonic()
        if step == self._last_step and now - self._written_at < MIN_INTERVAL_S:
            return
        if step != self._last_step:
            self._began = (now, fraction or 0.0)
        self._last_step, self._written_at = step, now
        began_at, since = self._began
        progress = Progress(self._stage, step, fraction, n_spikes, left_s(fraction, since, now - began_at))
        partial = self._path.with_suffix(".tmp")
        partial.write_text(json.dumps(asdict(progress)))
        partial.replace(self._path)


class Reporter(Protocol):
    """Takes how far a stage is."""

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        """Say where the stage is."""


class ProgressLines:
    """The side of a program that nobody shares files with: tells its progress in lines of its output."""

    def __init__(self) -> None:
        self._last_step: str | None = None
        self._told_at = 0.0

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        """Say where the stage is; a new step is always told, the rest when the last is a while ago."""
        now = time.monotonic()
        if step == self._last_step and now - self._told_at < MIN_INTERVAL_S:
            return
        self._last_step, self._told_at = step, now
        told = {"step": step, "fraction": fraction, "n_spikes": n_spikes}
        sys.stdout.write(f"{_IN_LINE}{json.dumps(told)}\n")
        sys.stdout.flush()


def progress_in(line: str) -> Progress | None:
    """Return the progress that `line` of another program's output tells of, or None."""
    if not line.startswith(_IN_LINE):
        return None
    try:
        return Progress("", **_values(line.removeprefix(_IN_LINE)))
    except (ValueError, TypeError):
        return None


def read_progress(path: Path) -> Progress | None:
    """Return what the worker wrote last, or None before its first report."""
    try:
        return Progress(**_values(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _values(text: str) -> dict[str, Any]:
    """Return what a sorter said of itself; a number that is none, such as a share of nothing, is not known."""
    values: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return values
