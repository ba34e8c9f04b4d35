"""Jobs without a sort, recordings without a file, and machines without a GPU: what the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import simulate_maxwell

from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight import Machine
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import Header, RecordingFacts
from spikelab.spike_sorting.preflight.machine import Disk, Mount
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source


@pytest.fixture(scope="session")
def maxwell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Maxwell file that is sound; tests that damage it copy it first."""
    path = tmp_path_factory.mktemp("maxwell") / "sound.raw.h5"
    simulate_maxwell(path, n_channels=8, duration_s=4)
    return path


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Return a function that makes a job for files, in folders below `tmp_path`, with settings by flat name."""

    def make(*files: Path, name: str = "", in_memory: Any = None, **overrides: Any) -> Job:
        label = name or (files[0].name if files else "culture")
        run = RunFolder(inter=tmp_path / "inter" / label, results=tmp_path / "sorted" / label)
        source = Source(tuple(map(str, files)), splits=len(files) > 1)
        return Job(label, source, run, KILOSORT4.override(**overrides), in_memory=in_memory)

    return make


@pytest.fixture
def make_machine() -> Callable[..., Machine]:
    """Return a function that makes a machine with plenty of everything but a GPU, and with given readings."""

    def make(**readings: Any) -> Machine:
        quiet: dict[str, Any] = {
            "disk": lambda folder: Disk(1, 10**13, 10**7),
            "mounts": lambda: (Mount("/", "ext4"),),
            "limits": dict,
            "available_ram_bytes": lambda: 10**12,
            "driver": lambda: None,
            "torch": _never_asked,
            "held_gpus": dict,
            "installed": lambda name: None,
            "rt_sort": lambda config: None,
            "docker": _never_asked,
            "environment": {},
        }
        return Machine(**{**quiet, **readings})

    return make


def _never_asked(*_: object) -> Any:
    pytest.fail("this reading costs time and must not be taken here")


def make_header(**values: Any) -> Header:
    """Return the header of a plausible recording: 10 minutes of 4 channels, which is no flat binary."""
    n_channels = values.get("n_channels", 4)
    plausible: dict[str, Any] = {
        "fs_Hz": 20_000.0,
        "dtype": "int16",
        "n_segments": 1,
        "n_channels": n_channels,
        "n_samples": 12_000_000,
        "n_stray_bytes": 0,
        "is_flat_binary": False,
        "locations_um": np.array([[0.0, 20.0 * k] for k in range(n_channels)]),
        "shanks": np.zeros(n_channels),
    }
    return Header(**{**plausible, **values})


@pytest.fixture
def header() -> Callable[..., Header]:
    """Return the maker of headers."""
    return make_header


@pytest.fixture
def make_batch(make_machine: Callable[..., Machine]) -> Callable[..., Batch]:
    """Return a function that makes a batch of jobs with plausible recordings on a machine with given readings."""

    def make(*jobs: Job, header: Header | None = None, n_parallel: int = 1, **readings: Any) -> Batch:
        facts = tuple(RecordingFacts(job, header or make_header()) for job in jobs)
        return Batch(facts, make_machine(**readings), n_parallel)

    return make


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail when the test leaves a file or folder in `tmp_path` that was not there before."""
    before = set(tmp_path.rglob("*"))
    yield
    assert set(tmp_path.rglob("*")) == before
