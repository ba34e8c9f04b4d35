"""A recording as the page shows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spikelab.cli.live.gauges import Gauge

Kind = Literal["running", "waiting", "sorted", "failed", "stopped", "gone", "silent", "unknown"]


@dataclass(frozen=True)
class Failure:
    """Why a recording is not sorted.

    Parameters
    ----------
    title : str
        Class of the error and its status.
    message, advice : str
        What happened, and what to do.
    """

    title: str
    message: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class View:
    """A recording as the page shows it; all times in seconds.

    Parameters
    ----------
    id : str
        By which the page asks for its report; the same after a restart.
    name, folder : str
        Name of the recording, and its results folder.
    kind : str
        Where it stands, of a few.
    status : str
        The same in words.
    stage, step : str
        Where the worker is; empty where nobody works.
    fraction : float or None
        Share of this step that is done (0-1).
    gpu : str or None
        GPU that it has now: "GPU 1".
    n_spikes : int or None
        Spikes so far, or those of the units kept.
    elapsed_s, estimated_s : float or None
        Time since it began or that it took; what it was expected to take, or is by now.
    left_s, step_left_s : float or None
        What is left of it, and of the step.
    sort_frac : float or None
        Share of that time, taken or expected, that the sort itself takes (0-1), in which it may have a GPU.
    recorded_s : float or None
        Length of the recording.
    stages : tuple of (str, str)
        Stages of a sort, each "done", "now", "failed" or "todo".
    attempt : int
        Which attempt at this phase it is.
    changes : tuple of str
        What was made smaller on the way, and why.
    warnings : tuple of str
        What deserves a look.
    gauges : tuple of Gauge
        Memory, GPU, disk.
    log : tuple of str
        Last lines of the log.
    failure : Failure or None
        Why it failed.
    has_report : bool
        Whether there is a report to open.
    notes : tuple of str
        Who works on it since when, or how to go on.
    """

    id: str
    name: str
    folder: str
    kind: Kind
    status: str
    stage: str = ""
    step: str = ""
    fraction: float | None = None
    gpu: str | None = None
    n_spikes: int | None = None
    elapsed_s: float | None = None
    estimated_s: float | None = None
    left_s: float | None = None
    step_left_s: float | None = None
    sort_frac: float | None = None
    recorded_s: float | None = None
    stages: tuple[tuple[str, str], ...] = ()
    attempt: int = 1
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    gauges: tuple[Gauge, ...] = ()
    log: tuple[str, ...] = ()
    failure: Failure | None = None
    has_report: bool = False
    notes: tuple[str, ...] = ()


def id_of(results: Path) -> str:
    """Return the name by which the page asks for the recording with this results folder."""
    return hashlib.sha256(str(results).encode("utf-8", "surrogateescape")).hexdigest()[:16]
