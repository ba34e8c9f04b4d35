"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spikelab.cli.app import build_app

Run = Callable[..., Any]


@pytest.fixture
def spikelab() -> Run:
    """A function that runs the command line in this process: spikelab("sort", path, ...) -> result."""

    def run(*arguments: object) -> Any:
        return CliRunner(env={"COLUMNS": "200"}).invoke(build_app(), [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def spikelab_process() -> Run:
    """A function that runs the command line in a process of its own, as a shell would."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from spikelab.cli import main; main()", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)

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
