"""What the tests of the command line share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import FAKE_SORTER, simulate_maxwell, with_fake_sorter
from typer.testing import CliRunner

from spikelab.cli.app import build_app

Run = Callable[..., Any]


@pytest.fixture
def spikelab() -> Run:
    """A function that runs the command line in this process: spikelab("sort", path, ...) -> result."""

    def run(*arguments: object) -> Any:
        return CliRunner(env={"COLUMNS": "200"}).invoke(build_app(), [str(argument) for argument in arguments])

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options for the fake sorter, which this process and those that it starts find as a third party's."""
    monkeypatch.syspath_prepend(FAKE_SORTER)
    monkeypatch.setenv("PYTHONPATH", with_fake_sorter()["PYTHONPATH"])
    return ("--sorter", "fake", "--set", "n_jobs=1")


@pytest.fixture(scope="session")
def spikelab_process() -> Run:
    """A function that runs the command line in a process of its own, as a shell would; it knows the fake sorter."""

    def run(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from spikelab.cli import main; main()", *map(str, arguments)]
        env = {**with_fake_sorter(), **variables}
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)

    return run


@pytest.fixture(scope="session")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Maxwell file with two wells of 9 channels and half a second."""
    from spikelab.simulation import simulate_recording, write_maxwell

    scale = {"dtype": "uint16", "gain_uV": 6.294, "offset_uV": -512 * 6.294}
    wells = {
        f"well{k:03d}": simulate_recording("mea", n_channels=9, duration_s=0.5, n_units=1, seed=k, **scale).recording
        for k in range(2)
    }
    return write_maxwell(tmp_path_factory.mktemp("plate") / "plate.raw.h5", wells)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Maxwell file with one stream that the fake sorter finds units in; tests copy it to a folder of their own."""
    path = tmp_path_factory.mktemp("recording") / "good.raw.h5"
    simulate_maxwell(path, n_channels=8, duration_s=4)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A file that is named like a recording and is none."""
    path = tmp_path / "broken.raw.h5"
    path.write_bytes(b"not HDF5")
    return path
