"""What ``spikelab doctor`` judges: every reading of the machine, taken in one place."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from spikelab.cli.runs import Run, runs_below
from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting.backends.kilosort2.installation import find_installation
from spikelab.spike_sorting.config import SorterConfig
from spikelab.spike_sorting.preflight.machine import (
    DockerAnswer,
    Driver,
    Torch,
    ask_docker,
    ask_torch,
    read_driver,
)
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.gpu_locks import held_gpus

PACKAGES = ("numpy", "spikeinterface", "probeinterface", "torch", "kilosort", "docker")

_KILOSORT_TIMEOUT_S = 120


@dataclass(frozen=True)
class Facts:
    """Readings of one machine; `gather` takes them, and tests write them by hand.

    Parameters
    ----------
    python : str
        Version of the interpreter.
    executable : str
        Its path, for commands that are sure to reach it.
    versions : mapping of str to str or None
        Installed version of each package, None where it is missing.
    wanted : mapping of str to str
        Tested versions of each package, such as ">=2,<3".
    torch : Torch or None
        None where torch is not installed.
    kilosort_error : str or None
        Why Kilosort4 cannot be imported.
    driver : Driver or None
        None where there is no NVIDIA driver.
    hidden_gpus : str or None
        Value of CUDA_VISIBLE_DEVICES.
    held_gpus : mapping of str to str
        Who sorts on each GPU now, by ``gpu_locks.lock_name``.
    hdf5_folders : mapping of str to tuple of str, or None
        Plugin files in each folder of HDF5_PLUGIN_PATH; None when it is not set.
    docker : DockerAnswer or None
        Whether the Docker daemon answers; None where the package is not installed.
    kilosort2 : str or None
        What would run Kilosort2, or why nothing would; None where it was not looked for.
    has_kilosort2 : bool
        Whether something would.
    runs : tuple of Run
        Sorts in and below the folders that were asked for.
    unseen : mapping of str to str
        Of those folders, which could not be looked through, and why.
    free_bytes : mapping of str to int
        Free disk by folder.
    n_cores, n_usable_cores : int
        Cores of the machine, and those that this process may use.
    memory_bytes, available_bytes : int
        Memory of the machine, and what is free of it.
    """

    python: str = "3.11.0"
    executable: str = "python"
    versions: Mapping[str, str | None] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    torch: Torch | None = None
    kilosort_error: str | None = None
    driver: Driver | None = None
    hidden_gpus: str | None = None
    held_gpus: Mapping[str, str] = field(default_factory=dict)
    hdf5_folders: Mapping[str, tuple[str, ...]] | None = None
    docker: DockerAnswer | None = None
    kilosort2: str | None = None
    has_kilosort2: bool = False
    runs: tuple[Run, ...] = ()
    unseen: Mapping[str, str] = field(default_factory=dict)
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    n_cores: int = 1
    n_usable_cores: int = 1
    memory_bytes: int = 0
    available_bytes: int = 0


def gather(folders: Sequence[Path] = ()) -> Facts:
    """Return the readings of this machine; takes some seconds, because torch is imported in other processes.

    Parameters
    ----------
    folders : sequence of Path, default ()
        Where to look for sorts, and for room.
    """
    import psutil

    versions = {name: _version(name) for name in (*PACKAGES, "spikelab")}
    with ThreadPoolExecutor() as pool:
        torch = pool.submit(ask_torch) if versions["torch"] else None
        kilosort = pool.submit(ask_kilosort) if torch and versions["kilosort"] else None
    kilosort2, has_kilosort2 = ask_kilosort2()
    runs, unseen = runs_below(folders)
    return Facts(
        python=platform.python_version(),
        executable=sys.executable,
        versions=versions,
        wanted=_requirements(requires("spikelab") or ()),
        torch=torch.result() if torch else None,
        kilosort_error=kilosort.result() if kilosort else None,
        driver=read_driver(),
        hidden_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        held_gpus=held_gpus(),
        hdf5_folders=hdf5_plugins(os.environ.get("HDF5_PLUGIN_PATH")),
        docker=ask_docker(None) if versions["docker"] else None,
        kilosort2=kilosort2,
        has_kilosort2=has_kilosort2,
        runs=runs,
        unseen=unseen,
        free_bytes=free_disk([Path.cwd(), Path(tempfile.gettempdir()), *folders]),
        n_cores=os.cpu_count() or 1,
        n_usable_cores=host.usable_cores(),
        memory_bytes=int(psutil.virtual_memory().total),
        available_bytes=host.available_memory_bytes(),
    )


def ask_kilosort(command: Sequence[str] | None = None) -> str | None:
    """Return why Kilosort4 cannot be imported, in its own last line, or None when it can.

    It is asked in a process of its own: what it imports may end the process.
    """
    asked = command or [sys.executable, "-c", "import kilosort.run_kilosort"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_KILOSORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"importing it takes longer than {_KILOSORT_TIMEOUT_S} s"
    lines = done.stderr.split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return (told[-1] if told else f"exit {done.returncode}") if done.returncode else None


def ask_kilosort2() -> tuple[str, bool]:
    """Return what would run Kilosort2, or why nothing would, and whether something would."""
    try:
        found = find_installation(SorterConfig(sorter_name="kilosort2"))
    except SorterNotInstalledError as error:
        return str(error), False
    where = f" with {found.folder} ({found.version[:10]})" if found.folder else ""
    return f"{found.program}{where}", True


def free_disk(folders: Sequence[Path]) -> dict[str, int]:
    """Return the free bytes of each folder that answers."""
    free: dict[str, int] = {}
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        with suppress(OSError):
            free[str(folder)] = Deadline(f"the disk of {folder}").call(partial(shutil.disk_usage, folder)).free
    return free


def hdf5_plugins(variable: str | None) -> dict[str, tuple[str, ...]] | None:
    """Return the plugin files in each folder that HDF5_PLUGIN_PATH names, or None when it is not set."""
    if not variable:
        return None
    folders = [Path(part) for part in variable.split(os.pathsep) if part]
    return {str(folder): _libraries(folder) for folder in folders}


def _libraries(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.suffix in {".so", ".dylib", ".dll"}))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _requirements(lines: Sequence[str]) -> dict[str, str]:
    """Return the versions that spikelab asks for by package, whatever the extra that brings it."""
    import re

    matches = (re.match(r"([\w.-]+)\s*([^;]*)", line) for line in lines)
    return {match[1]: match[2].strip() for match in matches if match}
