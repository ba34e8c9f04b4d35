"""When a test is skipped, and when that is not allowed.

A test that needs something from outside Python says so by a marker (``@pytest.mark.strace``) or by asking the
fixture ``require_program``. Where it is missing, the test is skipped with the reason;
``SPIKELAB_REQUIRE_STRACE=1`` (``..._DOCKER``, ``..._OCTAVE`` and so on) turns that skip into a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # a test machine has no screen
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["SPIKELAB_CACHE"] = ""  # what tests sort says nothing of the machine, and is no one's to remember


def _answers(*command: str) -> str | None:
    """Return why the command does not succeed, or None when it does."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} does not answer"
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return f"{' '.join(command)} fails: {last}" if done.returncode else None


def _lacks_strace() -> str | None:
    return _answers("strace", "-o", os.devnull, "true")


def _lacks_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return None if any(map(shutil.which, names)) else f"none of {', '.join(names)} is installed"


def _lacks_gpu() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        n_devices = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return f"no NVIDIA driver: {error}"
    if not n_devices:
        return "the NVIDIA driver lists no device"
    import torch

    return None if torch.cuda.is_available() else "there is a GPU, but this torch cannot use it"


def _lacks_docker() -> str | None:
    try:
        import docker

        client = docker.from_env(timeout=5)
        client.ping()
        client.close()
    except (ImportError, OSError, docker.errors.DockerException) as error:
        return os.environ.get("SPIKELAB_NO_DOCKER") or f"no Docker daemon: {error}"
    return None


_NEEDS: dict[str, Callable[[], str | None]] = {
    "chromium": _lacks_chromium,
    "docker": _lacks_docker,
    "gpu": _lacks_gpu,
    "strace": _lacks_strace,
}


@cache
def _why_missing(name: str) -> str | None:
    if name in _NEEDS:
        return _NEEDS[name]()
    return None if shutil.which(name) else f"{name} is not installed"


def _skip_without(name: str) -> None:
    """Skip the running test when ``name`` is missing, or fail it when the environment demands ``name``."""
    reason = _why_missing(name)
    if reason is None:
        return
    variable = "SPIKELAB_REQUIRE_" + re.sub(r"\W", "_", name).upper()
    if os.environ.get(variable, "0") not in {"", "0"}:
        pytest.fail(f"{reason}, and {variable} demands it", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Apply the markers before any fixture is made."""
    for marker in item.iter_markers():
        if marker.name in _NEEDS:
            _skip_without(marker.name)


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """Return a function that gives a program's path, or skips the test where the program is missing."""

    def require(name: str) -> Path:
        _skip_without(name)
        return Path(shutil.which(name) or name)

    return require
