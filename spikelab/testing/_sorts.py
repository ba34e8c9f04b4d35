"""Sorts as the contract looks at them: in this process, with all that they say, or in one that is killed on its way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.base import Sorting, SortJob
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.process import ExitStatus, WorkerProcess
from spikelab.spike_sorting.supervision.progress import Progress, ProgressFile

_KILLED_WITHIN_S = 300.0


class SeenProgress(ProgressFile):
    """Progress that is written as ever, and remembered.

    Parameters
    ----------
    path : Path
        File to replace.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "sort")
        self.seen: list[Progress] = []

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        """Remember where the sort is, and write it."""
        self.seen.append(Progress("sort", step, fraction, n_spikes))
        super().report(step, fraction, n_spikes)


class _LastProgress(SeenProgress):
    """Progress that ends this process, as a crash does, where it is told to."""

    def __init__(self, path: Path, step: str, number: int) -> None:
        super().__init__(path)
        self._end = (step, number)

    def report(self, step: str, fraction: float | None = None, n_spikes: int | None = None) -> None:
        super().report(step, fraction, n_spikes)
        if (step, sum(progress.step == step for progress in self.seen)) == self._end:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Sorted:
    """A sort that ended well.

    Parameters
    ----------
    job : SortJob
        What was sorted, and where.
    noted : mapping or None
        What the sorter returned.
    seen : tuple of Progress
        Every report of how far it was.
    """

    job: SortJob
    noted: Mapping[str, Any] | None
    seen: tuple[Progress, ...]

    @property
    def n_samples(self) -> int:
        """Samples of the recording."""
        return int(self.job.recording.get_num_samples())

    def read(self, folder: Path | None = None) -> Sorting:
        """Return the spikes, by a backend that has not seen the sort."""
        name = self.job.config.sorter.sorter_name
        return get_backend(name).read(folder or self.job.folder, self.n_samples)


def sort(folder: Path, recording: Any, config: SortingPipelineConfig) -> Sorted:
    """Sort in `folder` as a worker does: what an earlier attempt wrote is gone, but for what it kept to go on from."""
    run = RunFolder(folder / "inter", folder / "results")
    progress = SeenProgress(run.progress)
    job = _job(run, recording, config, progress)
    noted = get_backend(config.sorter.sorter_name).sort(job)
    return Sorted(job, noted, tuple(progress.seen))


def _job(run: RunFolder, recording: Any, config: SortingPipelineConfig, progress: ProgressFile) -> SortJob:
    output = run.inter / "sort.partial" / run.sorter_output.name
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    return SortJob(recording, output, run, config, progress)


def killed_sort(folder: Path, recording_folder: Path, config: SortingPipelineConfig, step: str, n: int) -> ExitStatus:
    """Return how a process ended that sorts in `folder`, and is killed at the `n`-th report of `step`.

    Parameters
    ----------
    folder : Path
        Folder of the run, which exists.
    recording_folder : Path
        A recording that SpikeInterface has saved.
    config : SortingPipelineConfig
        Settings.
    step, n : str, int
        Where the kill comes.
    """
    orders = folder / "orders.json"
    described = {"recording": str(recording_folder), "config": config.to_dict(), "step": step, "number": n}
    orders.write_text(json.dumps(described), encoding="utf-8")
    # What this process finds, that one must find too: a backend may have come by a path added later.
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment = {**host.worker_environment(1), **found, **backend_environment(config)}
    command = [sys.executable, "-m", __name__, str(orders)]
    with (
        (folder / "killed.log").open("wb") as log,
        WorkerProcess(command, environment=environment, log=log, status_path=folder / "status.json") as worker,
    ):
        return worker.wait(_KILLED_WITHIN_S) or worker.kill()


def backend_environment(config: SortingPipelineConfig) -> Mapping[str, str]:
    """Return what the sorter of `config` wants in its environment."""
    return get_backend(config.sorter.sorter_name).environment(config)


def _sort_until_killed(orders: Path) -> None:
    from spikeinterface import load

    described = json.loads(orders.read_text(encoding="utf-8"))
    config = SortingPipelineConfig.from_dict(described["config"])
    run = RunFolder(orders.parent / "inter", orders.parent / "results")
    progress = _LastProgress(run.progress, described["step"], described["number"])
    get_backend(config.sorter.sorter_name).sort(_job(run, load(described["recording"]), config, progress))


if __name__ == "__main__":
    _sort_until_killed(Path(sys.argv[1]))
