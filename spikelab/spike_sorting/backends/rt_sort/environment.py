"""An environment for RT-Sort, built and checked: its packages cannot share ours."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting.backends.child import as_child, run_logged
from spikelab.spike_sorting.backends.rt_sort import launch
from spikelab.spike_sorting.backends.rt_sort.installation import Provider, find_provider
from spikelab.spike_sorting.backends.rt_sort.model import choose_model
from spikelab.spike_sorting.config import RT_SORT_MEA

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
"""What is installed, version by version."""
MARKER = "spikelab-rt-sort.json"
"""In a folder that this module has made: with which requirements, once it is complete."""
LOG = "spikelab-rt-sort.log"
"""What pip printed, in that folder."""
_PIP_STEPS = re.compile(r"(?:Collecting|Downloading|Installing collected packages:) *(\S+)?")


def build_environment(folder: Path, say: Callable[[str], None], requirements: Path = REQUIREMENTS) -> Provider:
    """Build the environment in `folder`, or finish one that is begun, or find it complete; check that it works.

    Parameters
    ----------
    folder : Path
        Where it goes; a folder that is there and was not made here is left as it is.
    say : callable
        Told what is done, a few words at a time.
    requirements : Path, default those that ship with spikelab
        What is installed.

    Returns
    -------
    Provider
        What sorts, with the interpreter to name in ``rt_sort_python``.

    Raises
    ------
    FileExistsError
        There is something else in `folder`.
    SorterNotInstalledError
        The environment could not be built, or does not work.
    """
    folder = folder.expanduser().absolute()
    wanted = {"requirements": hashlib.sha256(requirements.read_bytes()).hexdigest()}
    marker, python = folder / MARKER, _python_in(folder)
    if not _is_ours(folder):
        msg = f"{folder} has something in it that is no environment for RT-Sort; name a new folder"
        raise FileExistsError(msg)
    if not (python.exists() and _read(marker) == wanted):
        _make(folder, say)
        _install(folder, requirements, say)
        marker.write_text(json.dumps(wanted), encoding="utf-8")
    say("importing RT-Sort")
    return _checked(python)


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _is_ours(folder: Path) -> bool:
    """Return whether there is nothing in `folder`, or what an earlier call has left there."""
    return not folder.exists() or (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir())))


def _read(marker: Path) -> object:
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make(folder: Path, say: Callable[[str], None]) -> None:
    say("making the environment")
    folder.mkdir(parents=True, exist_ok=True)
    # From here on the folder is known to be ours, so that a build that is cut off can be taken up again.
    (folder / MARKER).write_text("{}", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
        msg = f"{sys.executable} -m venv {folder} failed (Debian has it in the package python3-venv): {told}"
        raise SorterNotInstalledError(msg, sorter="rt_sort", missing="venv")


def _install(folder: Path, requirements: Path, say: Callable[[str], None]) -> None:
    def follow(line: str) -> None:
        step = _PIP_STEPS.match(line.strip())
        if step is not None:
            say(f"installing {step[1] or ''}".rstrip(" ,"))

    # Isolated as the sort will be: what lies on PYTHONPATH would count as installed.
    pip = [str(_python_in(folder)), "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    command = [*pip, "--progress-bar", "off", "-r", str(requirements.absolute())]
    ended = run_logged(command, folder / LOG, partial(as_child, folder, os.environ), follow)
    if ended.returncode:
        errors = [line for line in ended.tail if "ERROR" in line or "error:" in line]
        told = errors[-1].strip() if errors else ended.last_words
        msg = f"pip could not install RT-Sort ({told}); all that it said is in {folder / LOG}"
        raise SorterNotInstalledError(msg, sorter="rt_sort", missing="rt_sort")


def _checked(python: Path) -> Provider:
    config = RT_SORT_MEA.override(rt_sort_python=str(python))
    provider = find_provider(config)
    error = launch.check(config, provider, choose_model(config, provider))
    if error is not None:
        raise error
    return provider
