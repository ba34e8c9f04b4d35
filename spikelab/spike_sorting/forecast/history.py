"""What former sorts took on this machine: a small file in the user's cache folder, never needed."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.costs import Workload
from spikelab.spike_sorting.forecast.model import OTHER, SORT, WAVEFORMS, model_of, stage_seconds
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.publish import publish_text

CACHE_VARIABLE = "SPIKELAB_CACHE"
"""Environment variable with another folder for what spikelab remembers; empty for none."""
NAME = "run_times.jsonl"
_MOST_LINES = 500
_MOST_RUNS = 20
"""Former runs that count: the last ones of this sorter and device."""
_RESIDUAL = 0.25
"""Standard deviation of the logarithm of what two sorts of the same size take on one machine."""
_SPREAD_OF_OTHERS = 0.5
"""The same, over machines, of the stages around the sorter."""
_FAR = math.log(10)
"""A former sort ten times larger, or smaller, counts half."""


@dataclass(frozen=True)
class FormerRun:
    """A sort that succeeded here.

    Parameters
    ----------
    workload : Workload
        How much work was expected.
    took_s : mapping of str to float
        What "sort", "waveforms" and "other" took (s).
    """

    workload: Workload
    took_s: Mapping[str, float]


@dataclass(frozen=True)
class Pace:
    """How this machine compares with that of the benchmarks.

    Parameters
    ----------
    factor : float
        Times as long as there.
    log_spread : float
        Standard deviation of the logarithm of what the next sort takes, given that.
    """

    factor: float
    log_spread: float


def cache_folder() -> Path | None:
    """Return the user's folder for what spikelab remembers, or None where there is to be none."""
    given = os.environ.get(CACHE_VARIABLE)
    if given is not None:
        return Path(given) if given else None
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        root = str(Path("~/Library/Caches").expanduser())
    else:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(root) / "spikelab" if root else None


def remember(run: FormerRun, folder: Path | None) -> None:
    """Add `run` to the file in `folder`; the oldest lines go when there are many.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    line = {"host": socket.gethostname(), "workload": asdict(run.workload), "took_s": dict(run.took_s)}
    lines = [*_lines(folder / NAME), json.dumps(line)]
    publish_text(folder / NAME, "\n".join(lines[-_MOST_LINES:]) + "\n")


def runs_of_this_machine() -> list[FormerRun]:
    """Return what is remembered; nothing where the disk of the cache does not answer."""
    try:
        return Deadline("the disk of the user's cache").call(lambda: former_runs(cache_folder()))
    except OSError:
        return []


def remember_here(run: FormerRun) -> None:
    """Add `run` to what is remembered, as far as that can be written: nothing depends on it."""
    with suppress(OSError):
        Deadline("the disk of the user's cache").call(lambda: remember(run, cache_folder()))


def former_runs(folder: Path | None) -> list[FormerRun]:
    """Return what is remembered of this machine, in order of time; lines that cannot be read are left out."""
    if folder is None:
        return []
    runs = (_read(line) for line in _lines(folder / NAME))
    return [run for run in runs if run is not None]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # none yet, or no file of ours: it is never needed
        return []


def _read(line: str) -> FormerRun | None:
    try:
        values: dict[str, Any] = json.loads(line)
        if values["host"] != socket.gethostname():
            return None
        took_s = {stage: float(values["took_s"][stage]) for stage in (SORT, WAVEFORMS, OTHER)}
        run = FormerRun(Workload(**values["workload"]), took_s)
        return run if _is_possible(run) else None
    except (ValueError, TypeError, LookupError, AttributeError):  # torn, or of another version
        return None


def _is_possible(run: FormerRun) -> bool:
    """Return whether `run` can be reckoned with: one that cannot would be in the way of every later sort."""
    work = run.workload
    sizes = (work.n_channels, work.fs_Hz, work.duration_s, work.n_parallel)
    counts = (work.spikes_Hz, *run.took_s.values())
    return all(0 < size < math.inf for size in sizes) and all(0 <= count < math.inf for count in counts)


# ------------------------------------------------------------------------------------------------- what they teach


def alike(work: Workload, runs: Iterable[FormerRun]) -> list[FormerRun]:
    """Return the former runs by which `work` is judged: of the same sorter on the same device, the last ones."""
    same = [run for run in runs if (run.workload.sorter, run.workload.device) == (work.sorter, work.device)]
    return same[-_MOST_RUNS:]


def pace_of(stage: str, work: Workload, runs: Sequence[FormerRun]) -> Pace:
    """Return by how much the benchmarks are off here for `stage`, as far as `runs`, from `alike`, show it.

    The logarithm of that factor is normal around 0 before anything has run here. Each former run is a measurement of
    it; one of another size, or with more recordings at once, counts less. What is returned is the posterior, and the
    spread with which it predicts another run (Gelman et al., Bayesian Data Analysis, 3rd edition, section 2.5).
    """
    prior = model_of(work).log_spread if stage == SORT else _SPREAD_OF_OTHERS
    precision, total = 1 / prior**2, 0.0
    for run in runs:
        expected_s, took_s = stage_seconds(run.workload)[stage], run.took_s[stage]
        if expected_s > 0 and took_s > 0:
            weight = _weight(work, run.workload) / _RESIDUAL**2
            precision += weight
            total += weight * math.log(took_s / expected_s)
    return Pace(math.exp(total / precision), math.sqrt(1 / precision + _RESIDUAL**2))


def _weight(work: Workload, other: Workload) -> float:
    size = math.log(max(work.gigasamples, 1e-6) / max(other.gigasamples, 1e-6)) / _FAR
    company = math.log2(work.n_parallel / other.n_parallel)
    return 1 / (1 + size**2 + company**2)
