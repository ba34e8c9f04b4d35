"""What ``spikelab doctor`` judges: every reading of the machine, taken in one place."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.supervision import host

PACKAGES = ("numpy", "spikeinterface", "probeinterface", "torch", "kilosort", "docker")

_TORCH_TIMEOUT_S = 120
_DOCKER_TIMEOUT_S = 3
_TORCH_QUESTIONS = """
import json
import torch
print(json.dumps({
    "cuda_build": torch.version.cuda,
    "usable": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
              if torch.cuda.is_available() else [],
    "architectures": torch.cuda.get_arch_list() if torch.version.cuda else [],
}), flush=True)
import kilosort.run_kilosort
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver sees it.

    Parameters
    ----------
    name : str
        Product name.
    capability : tuple of int
        Compute capability, such as (8, 6).
    memory_bytes : int
        Its memory.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver.

    Parameters
    ----------
    version : str
        Of the driver, such as "570.86".
    cuda : tuple of int
        Newest CUDA that it can run, such as (12, 8).
    gpus : tuple of Gpu
        What it sees.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Torch:
    """What torch says of itself, in a process of its own.

    Parameters
    ----------
    cuda_build : str or None
        CUDA that it was built for; None for the CPU only.
    usable : tuple of str
        Names of the GPUs that it can use.
    architectures : tuple of str
        Architectures that it has code for: "sm_80", "compute_90".
    error : str or None
        Last line of the error when importing torch, or Kilosort after it, failed.
    imported : bool
        Whether torch itself could be imported.
    """

    cuda_build: str | None = None
    usable: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    error: str | None = None
    imported: bool = True


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
    driver : Driver or None
        None where there is no NVIDIA driver.
    hidden_gpus : str or None
        Value of CUDA_VISIBLE_DEVICES.
    hdf5_folders : mapping of str to tuple of str, or None
        Plugin files in each folder of HDF5_PLUGIN_PATH; None when it is not set.
    docker : str or None
        Version of the Docker daemon, where one answers.
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
    driver: Driver | None = None
    hidden_gpus: str | None = None
    hdf5_folders: Mapping[str, tuple[str, ...]] | None = None
    docker: str | None = None
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    n_cores: int = 1
    n_usable_cores: int = 1
    memory_bytes: int = 0
    available_bytes: int = 0


def gather() -> Facts:
    """Return the readings of this machine; takes some seconds, because torch is imported in another process."""
    import psutil

    versions = {name: _version(name) for name in (*PACKAGES, "spikelab")}
    return Facts(
        python=platform.python_version(),
        executable=sys.executable,
        versions=versions,
        wanted=_requirements(requires("spikelab") or ()),
        torch=ask_torch() if versions["torch"] else None,
        driver=_ask_driver(),
        hidden_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        hdf5_folders=hdf5_plugins(os.environ.get("HDF5_PLUGIN_PATH")),
        docker=_ask_docker() if versions["docker"] else None,
        free_bytes={str(folder): shutil.disk_usage(folder).free for folder in (Path.cwd(), tempfile.gettempdir())},
        n_cores=os.cpu_count() or 1,
        n_usable_cores=host.usable_cores(),
        memory_bytes=int(psutil.virtual_memory().total),
        available_bytes=host.available_memory_bytes(),
    )


def ask_torch(command: Sequence[str] | None = None) -> Torch:
    """Return what torch says of itself.

    It is asked in a process of its own: a broken torch may end the process that imports it.
    """
    asked = command or [sys.executable, "-c", _TORCH_QUESTIONS]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_TORCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Torch(error=f"importing torch took longer than {_TORCH_TIMEOUT_S} s", imported=False)
    error = _last_line(done.stderr) or f"exit {done.returncode}" if done.returncode else None
    try:
        said = json.loads(done.stdout.splitlines()[0])
    except (IndexError, ValueError):
        return Torch(error=error or "torch says nothing of itself", imported=False)
    usable, architectures = tuple(said["usable"]), tuple(said["architectures"])
    return Torch(cuda_build=said["cuda_build"], usable=usable, architectures=architectures, error=error)


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


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _ask_driver() -> Driver | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        gpus = tuple(_gpu(pynvml, k) for k in range(pynvml.nvmlDeviceGetCount()))
        return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10), gpus)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(_text(pynvml.nvmlDeviceGetName(handle)), (major, minor), int(memory))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ask_docker() -> str | None:
    docker: Any = import_module("docker")
    try:
        client = docker.from_env(timeout=_DOCKER_TIMEOUT_S)
        try:
            return str(client.version()["Version"])
        finally:
            client.close()
    except docker.errors.DockerException:
        return None
