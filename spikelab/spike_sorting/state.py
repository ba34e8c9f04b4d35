"""Where a run stands, told from its folders alone: by its lock, its journal and its progress file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting.backends.containers import leftovers
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.lock import hold, holder_of
from spikelab.spike_sorting.supervision.progress import Progress, read_progress

NOT_STARTED, RUNNING, UNFINISHED = "not started", "running", "did not finish"


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Parameters
    ----------
    status : str
        "not started", "running", "did not finish", or the status with which it ended.
    holder : mapping or None
        Who holds the folder now: pid, hostname, started_at.
    progress : Progress or None
        How far a running or unfinished one is.
    started_at, ended_at : str or None
        When the last run began and ended (UTC).
    estimated_s : mapping of str to float, or None
        What the last run was expected to take (s): "low", "likely" and "high".
    gpu : str or None
        GPU that it has now: "GPU 1".
    """

    status: str
    holder: Mapping[str, Any] | None = None
    progress: Progress | None = None
    started_at: str | None = None
    ended_at: str | None = None
    estimated_s: Mapping[str, float] | None = None
    gpu: str | None = None


def run_state(results: str | Path) -> RunState:
    """Return where the run with this results folder stands.

    Raises
    ------
    FileNotFoundError
        The folder is not one of spikelab's.
    """
    run = run_of(results)
    events = run.journal.read()
    holder = holder_of(run.results)
    status = RUNNING if holder is not None else status_of(events)
    begun = [event for event in events if event["event"] == "run_started"]
    ended = [event for event in events if event["event"] == "run_ended"] if status not in {RUNNING, UNFINISHED} else []
    last = _last_run(events)
    estimates = [event["wall_time_s"] for event in last if event["event"] == "estimated"]
    return RunState(
        status=status,
        holder=holder,
        progress=_progress(run, last) if status in {RUNNING, UNFINISHED} else None,
        started_at=begun[-1]["time"] if begun else None,
        ended_at=ended[-1]["time"] if ended else None,
        estimated_s=estimates[-1] if estimates else None,
        gpu=gpu_of(last) if status == RUNNING else None,
    )


def _last_run(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    begun = [number for number, event in enumerate(events) if event["event"] == "run_started"]
    return events[begun[-1] :] if begun else ()


def gpu_of(events: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the GPU of the worker that runs now, by the events of its run, or None where it has none."""
    gpu = None
    for event in events:
        if event["event"] in {"worker_started", "worker_ended"}:
            gpu = event.get("gpu")
    return gpu


def _progress(run: RunFolder, events: Iterable[Mapping[str, Any]]) -> Progress | None:
    """Return what the worker wrote last, with what is known of its pace."""
    progress = read_progress(run.progress)
    slow = [event for event in events if event["event"] == "throughput_collapsed"]
    if progress is None or not slow or slow[-1]["stage"] != progress.stage:
        return progress
    times = slow[-1]["expected_s"] / slow[-1]["estimated_s"]
    return replace(progress, warning=f"{times:.2g} times as long as estimated")


def status_of(events: Iterable[Mapping[str, Any]]) -> str:
    """Return the status to which the journal's events add up."""
    status = NOT_STARTED
    for event in events:
        if event["event"] == "run_started":
            status = UNFINISHED
        elif event["event"] == "run_ended":
            status = event["status"]
    return status


def run_of(results: str | Path) -> RunFolder:
    """Return both folders of the run with this results folder.

    Raises
    ------
    FileNotFoundError
        The folder is not one of spikelab's.
    """
    folder = Path(results).expanduser().absolute()
    inter = RunFolder(folder, folder).claimed_inter()
    if inter is None:
        msg = f"{folder} is not a results folder of spikelab: expected one named sorted_<sorter>/<recording>"
        raise FileNotFoundError(msg)
    return RunFolder(inter, folder)


def clean(results: str | Path) -> list[Path]:
    """Remove what a run left that no result needs (containers, half-written files, copies); return what went.

    A later call of the same sort still finds its finished stages.

    Raises
    ------
    ConcurrentSortError
        The run is still going on.
    DockerEnvironmentError
        A container of it may still be at work in its folders, and cannot be ended: all is left as it is.
    FileNotFoundError
        The folder is not one of spikelab's.
    """
    run = run_of(results)
    with hold([folder for folder in (run.inter, run.results) if folder.is_dir()]):
        for note in run.container_notes:
            if (why_not := leftovers.sweep(note)) is not None:
                msg = f"{why_not}; delete {note} if you know that the container is gone"
                raise DockerEnvironmentError(msg, reason="other")
        return run.remove_disposable() if run.inter.is_dir() else []
