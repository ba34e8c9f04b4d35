"""What a worker leaves of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import (
    HostOutOfMemoryError,
    InsufficientActivityError,
    NoGoodChannelsError,
    SorterCrashedError,
    UnclassifiedSortError,
)
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.progress import ProgressFile
from spikelab.spike_sorting.worker import describe_failure


@pytest.mark.parametrize(
    "stage, error, told",
    [
        ("sort", SorterCrashedError("files disagree"), {"sorter": "kilosort4", "log_path": "sorting.log"}),
        ("sort", SorterCrashedError("died", log_path="mine"), {"sorter": "kilosort4", "log_path": "mine"}),
        ("waveforms", MemoryError("no array"), {"stage": "waveforms", "log_path": "sorting.log"}),
        ("sort", HostOutOfMemoryError("full", stage="copy"), {"stage": "copy", "sorter": "kilosort4"}),
        ("load", NoGoodChannelsError("all are dead"), {"sorter": None, "log_path": "sorting.log"}),
        ("sort", InsufficientActivityError("silent", sorter="fake"), {"sorter": "fake"}),
    ],
)
def test_a_failure_has_what_whoever_raised_it_did_not_know(
    stage: str, error: Exception, told: dict[str, str | None], tmp_path: Path
) -> None:
    """Sorter, stage and log are in the details of every classified failure that has them; what is there stays."""
    job = Job("culture", Source(), RunFolder(tmp_path, tmp_path), KILOSORT4)
    ProgressFile(job.run.progress, stage).report("a step")
    details = describe_failure(job, error)["classified"]["details"]
    log_path = details.get("log_path")
    found = {**details, "log_path": log_path and Path(log_path).name}
    assert {name: found[name] for name in told} == told


def test_a_failure_in_a_container_is_told_as_one_outside(tmp_path: Path) -> None:
    """Nobody knows the failure, in a container or not: type, message and traceback are those of where it was raised."""
    job = Job("culture", Source(), RunFolder(tmp_path, tmp_path), KILOSORT4)
    ProgressFile(job.run.progress, "sort").report("a step")
    inside = UnclassifiedSortError("KeyError: 'x'", stage="sort", remote_traceback="Traceback, inside")
    said = describe_failure(job, inside)
    assert (said["message"], said["traceback"]) == ("KeyError: 'x'", "Traceback, inside")
    assert describe_failure(job, KeyError("x"))["message"] == said["message"]
