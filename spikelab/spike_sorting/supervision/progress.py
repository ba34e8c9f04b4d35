"""How far a worker is: a small file that the worker replaces and anyone may read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MIN_INTERVAL_S = 0.2


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
    """

    stage: str
    step: str = ""
    fraction: float | None = None
    n_spikes: int | None = None


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

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        """Say where the stage is; a new step is always written, the rest when the last is a while ago."""
        now = time.monotonic()
        if step == self._last_step and now - self._written_at < MIN_INTERVAL_S:
            return
        self._last_step, self._written_at = step, now
        partial = self._path.with_suffix(".tmp")
        partial.write_text(json.dumps(asdict(Progress(self._stage, step, fraction, n_spikes))))
        partial.replace(self._path)


def read_progress(path: Path) -> Progress | None:
    """Return what the worker wrote last, or None before its first report."""
    try:
        return Progress(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
