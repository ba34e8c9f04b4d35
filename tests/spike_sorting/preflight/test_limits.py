"""Limits of this user's processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from spikelab.spike_sorting.preflight.limits import check_limits
from spikelab.spike_sorting.preflight.machine import read_limits

Make = Callable[..., Any]
_READ = (
    "import json; from spikelab.spike_sorting.preflight.machine import read_limits; print(json.dumps(read_limits()))"
)


def _found(make_batch: Make, make_job: Make, **limits: int | None) -> list[Any]:
    named = {name.replace("_", " "): value for name, value in limits.items()}
    return check_limits(make_batch(make_job(), limits=lambda: named))


def test_low_limits_are_warned_of(make_batch: Make, make_job: Make) -> None:
    """A limit below what a sort needs is a warning with the command that raises it."""
    files, processes = _found(make_batch, make_job, Max_open_files=256, Max_processes=100)
    assert (files.code, files.level, "ulimit -n 1024" in files.advice) == ("limit-nofile", "warning", True)
    assert (processes.code, "'processes' of this shell is 100" in processes.message) == ("limit-nproc", True)


def test_enough_unlimited_and_unknown_are_fine(make_batch: Make, make_job: Make) -> None:
    """Limits that are high enough, absent or not known are not spoken of."""
    assert _found(make_batch, make_job, Max_open_files=1024, Max_processes=None) == []
    assert _found(make_batch, make_job) == []


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_real_limits_are_those_of_this_process(require_program: Make) -> None:
    """What the kernel says of a limited process is read from it."""
    prlimit = str(require_program("prlimit"))
    limited = [prlimit, "--nofile=200:300", "--nproc=12345", sys.executable, "-c", _READ]
    done = subprocess.run(limited, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["Max open files"], said["Max processes"]) == (200, 12345)
    assert "Max cpu time" in read_limits()
