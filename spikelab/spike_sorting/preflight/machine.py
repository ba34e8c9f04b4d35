"""The one place that asks the machine: disks, memory, GPU, torch, Docker, limits. Tests pass other answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from spikelab.spike_sorting._exceptions import (
    DockerEnvironmentError,
    ModelLoadingError,
    SorterNotInstalledError,
    SpikeSortingClassifiedError,
)
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.containers.docker_runtime import digests_of
from spikelab.spike_sorting.backends.containers.errors import reason_of, sdk
from spikelab.spike_sorting.backends.containers.images import DEFAULT_IMAGES
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.gpu_locks import held_gpus

_NVML_TIMEOUT_S = 5.0
_TORCH_TIMEOUT_S = 120.0
_DOCKER_TIMEOUT_S = 5
_TORCH_QUESTIONS = """
import json, torch
known = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())] if known else []
print(json.dumps({
    "cuda_build": torch.version.cuda,
    "usable": [device.name for device in devices],
    "uuids": [str(getattr(device, "uuid", "")) for device in devices],
    "architectures": torch.cuda.get_arch_list() if torch.version.cuda else [],
}))
"""


@dataclass(frozen=True)
class Disk:
    """Room on a volume.

    Parameters
    ----------
    volume : int
        What tells the volume from others.
    free_bytes : int
        What this user may still write.
    free_inodes : int or None
        Files that may still be made; None where the file system does not count them.
    """

    volume: int
    free_bytes: int
    free_inodes: int | None


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Parameters
    ----------
    folder : str
        Where it is mounted.
    kind : str
        Its type, such as "ext4" or "nfs4".
    """

    folder: str
    kind: str


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver sees it.

    Parameters
    ----------
    name : str
        Product name.
    capability : tuple of int
        Compute capability, such as (8, 6).
    memory_bytes, free_bytes : int or None
        Its memory, and what is free of it; None where it has none of its own, but that of the machine.
    uuid : str
        What tells it from others, whatever their order; its number where it does not answer.
    problem : str or None
        Why it does not answer; nothing else is known of it then.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int | None
    free_bytes: int | None
    uuid: str = ""
    problem: str | None = None


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
    problem : str or None
        Why it does not answer, although it is installed.
    """

    version: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Torch:
    """What torch says of itself, in a process of its own.

    Parameters
    ----------
    cuda_build : str or None
        CUDA that it was built for; None for the CPU only.
    usable : tuple of str
        Names of the GPUs that it can use, in its order.
    uuids : tuple of str
        Their identities.
    architectures : tuple of str
        Architectures that it has code for: "sm_80", "compute_90".
    error : str or None
        Last line of the error when it could not be imported.
    """

    cuda_build: str | None = None
    usable: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class DockerAnswer:
    """What Docker says of an image.

    Parameters
    ----------
    reason : str or None
        Why it cannot run: a reason of DockerEnvironmentError; None when the daemon answers.
    detail : str
        Its own words.
    digests : tuple of str or None
        Digests that the image has here; None when it is not here, or was not asked for.
    runtimes : tuple of str or None
        Names of the runtimes that the daemon knows; None where it does not say.
    """

    reason: str | None = None
    detail: str = ""
    digests: tuple[str, ...] | None = None
    runtimes: tuple[str, ...] | None = None


def read_disk(folder: Path) -> Disk:
    """Return the room on the volume of `folder`, which exists."""
    inodes = None
    if hasattr(os, "statvfs"):
        counts = os.statvfs(folder)
        inodes = counts.f_favail if counts.f_files else None
    return Disk(folder.stat().st_dev, shutil.disk_usage(folder).free, inodes)


def read_mounts() -> tuple[Mount, ...]:
    """Return all mounted file systems; of two on one folder, the later one counts."""
    import psutil

    return tuple(Mount(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True))


def read_limits() -> Mapping[str, int | None]:
    """Return the soft limits of this process by name, None for "unlimited"; empty where there is no /proc."""
    try:
        lines = Path("/proc/self/limits").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    # The columns have fixed widths: 26 for the name, 21 for the soft limit.
    soft = {line[:26].strip(): line[26:47].strip() for line in lines[1:]}
    return {name: int(value) if value.isdigit() else None for name, value in soft.items()}


# ------------------------------------------------------------------------------------------------------- GPU


def read_driver(timeout_s: float = _NVML_TIMEOUT_S, ask: Callable[[], Driver | None] | None = None) -> Driver | None:
    """Return the NVIDIA driver and its GPUs, or None where there is none.

    Parameters
    ----------
    timeout_s : float, default 5
        How long to wait for a driver that hangs (s).
    ask : callable or None, default None
        What takes the reading; None for NVML.
    """
    answers: list[Driver | None] = []
    asking = Thread(target=lambda: answers.append((ask or ask_nvml)()), daemon=True, name="spikelab-nvml")
    asking.start()
    asking.join(timeout_s)
    return answers[0] if answers else Driver(problem=f"it does not answer within {timeout_s:g} s")


def ask_nvml() -> Driver | None:
    """Return what NVML says of the driver and its GPUs, or None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        return Driver(problem=str(error))
    try:
        return _driver(pynvml)
    except pynvml.NVMLError as error:
        return Driver(problem=str(error))
    finally:
        pynvml.nvmlShutdown()


def _driver(pynvml: Any) -> Driver:
    cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    gpus = tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    if gpus and all(gpu.problem for gpu in gpus):
        return Driver(problem=gpus[0].problem)
    return Driver(_text(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10), gpus)


def _gpu(pynvml: Any, index: int) -> Gpu:
    try:
        return _read_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError as error:  # one that fell off the bus takes none of the others with it
        return Gpu("NVIDIA GPU", (0, 0), None, None, str(index), f"the GPU does not answer ({error})")


def _read_gpu(pynvml: Any, handle: Any) -> Gpu:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:  # it shares the memory of the machine
        return Gpu(name, (major, minor), None, None, uuid)
    return Gpu(name, (major, minor), int(memory.total), int(memory.free), uuid)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def ask_torch(command: Sequence[str] | None = None) -> Torch:
    """Return what torch says of itself, asked in a process of its own: this one must never import it.

    Parameters
    ----------
    command : sequence of str or None, default None
        Program that answers in JSON; None for this interpreter.
    """
    asked = command or [sys.executable, "-c", _TORCH_QUESTIONS]
    try:
        done = subprocess.run(
            asked, env=_as_in_a_worker(), capture_output=True, text=True, timeout=_TORCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Torch(error=f"importing torch takes longer than {_TORCH_TIMEOUT_S:g} s")
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Torch(error=_last_line(done.stderr) or f"exit {done.returncode}")
    return Torch(
        cuda_build=said["cuda_build"],
        usable=tuple(said["usable"]),
        uuids=tuple(said["uuids"]),
        architectures=tuple(said["architectures"]),
    )


def _as_in_a_worker() -> dict[str, str]:
    """Return an environment in which CUDA counts as it does for a worker."""
    return {**os.environ, **host.CUDA_ORDER}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


# ---------------------------------------------------------------------------------------------------- sorters


def check_installed(config: SortingPipelineConfig) -> SorterNotInstalledError | None:
    """Return why the sorter of `config` cannot run here, or None when a tested version is installed."""
    try:
        get_backend(config.sorter.sorter_name).check_installed(config)
    except SorterNotInstalledError as error:
        return error
    return None


def check_rt_sort(config: SortingPipelineConfig) -> SpikeSortingClassifiedError | None:
    """Return why RT-Sort cannot begin, asked of its interpreter (seconds: it imports torch); None where it can."""
    from spikelab.spike_sorting.backends.rt_sort import launch
    from spikelab.spike_sorting.backends.rt_sort.installation import find_provider
    from spikelab.spike_sorting.backends.rt_sort.model import choose_model
    from spikelab.spike_sorting.backends.rt_sort.model_folder import check_model_folder

    try:
        provider = None if config.sorter.use_docker else find_provider(config)
        model = choose_model(config, provider)
        check_model_folder(model.folder)
    except SorterNotInstalledError:
        return None  # said by `check_installed`
    except ModelLoadingError as error:
        return error
    return None if provider is None else launch.check(config, provider, model)


def ask_docker(image: str | None) -> DockerAnswer:
    """Return whether the Docker daemon answers, and what it says of `image`; nothing is pulled."""
    try:
        docker = sdk()
    except DockerEnvironmentError as error:
        return DockerAnswer(error.reason, str(error.__cause__))
    try:
        client = docker.from_env(timeout=_DOCKER_TIMEOUT_S)
    except (docker.errors.DockerException, OSError) as error:
        return _refused(error)
    try:
        client.ping()
        runtimes = tuple(sorted(client.info().get("Runtimes") or ()))
        return DockerAnswer(digests=digests_of(client.images.get(image)) if image else None, runtimes=runtimes)
    except (docker.errors.DockerException, OSError) as error:
        return _refused(error)
    finally:
        client.close()


def _refused(error: Exception) -> DockerAnswer:
    reason, _ = reason_of(error)
    return DockerAnswer(reason, str(error))


# ------------------------------------------------------------------------------------------------------- seam


@dataclass(frozen=True)
class Machine:
    """Where the checks get their readings from; a test replaces the ones that it cannot have for real.

    Parameters
    ----------
    disk : callable
        Folder that exists -> `Disk`.
    mounts : callable
        -> all `Mount`, the last on top.
    limits : callable
        -> soft limits by name.
    available_ram_bytes : callable
        -> memory that can be taken without swapping.
    driver : callable
        -> `Driver`, or None where there is no NVIDIA driver.
    torch : callable
        -> `Torch`.
    held_gpus : callable
        -> who sorts on each GPU now, by ``gpu_locks.lock_name``.
    installed : callable
        Settings -> why their sorter cannot run, or None.
    rt_sort : callable
        Settings -> why RT-Sort cannot begin with them, or None.
    docker : callable
        Name of an image or None -> `DockerAnswer`.
    default_images : mapping of str to str
        Image of each sorter, for ``use_docker=True``; a sorter that is not in it has none.
    environment : mapping of str to str
        Environment variables.
    """

    disk: Callable[[Path], Disk] = read_disk
    mounts: Callable[[], Sequence[Mount]] = read_mounts
    limits: Callable[[], Mapping[str, int | None]] = read_limits
    available_ram_bytes: Callable[[], int] = host.available_memory_bytes
    driver: Callable[[], Driver | None] = read_driver
    torch: Callable[[], Torch] = ask_torch
    held_gpus: Callable[[], Mapping[str, str]] = held_gpus
    installed: Callable[[SortingPipelineConfig], SorterNotInstalledError | None] = check_installed
    rt_sort: Callable[[SortingPipelineConfig], SpikeSortingClassifiedError | None] = check_rt_sort
    docker: Callable[[str | None], DockerAnswer] = ask_docker
    default_images: Mapping[str, str] = DEFAULT_IMAGES
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def asked_once(self) -> Machine:
        """Return one that remembers what the driver and torch said, which takes seconds."""
        return replace(self, driver=cache(self.driver), torch=cache(self.torch))
