"""GPUs: there, seen by the driver, and usable by the torch that will sort."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, Level
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch

_MATLAB = frozenset({"gpu"})
_SLOW = "Nothing, if this machine has none: Kilosort4 sorts on the CPU too, many times slower."


def check_gpu(batch: Batch) -> list[Finding]:
    """Find why a sort that could use a GPU will not, or will fail on it."""
    if batch.devices <= {"cpu"}:
        return []
    driver = batch.driver
    if driver is None or not driver.gpus:
        return [_no_gpu(batch, driver)]
    if batch.is_gpu_hidden:
        return [_hidden(batch)]
    if batch.torch is None:
        return []
    return _torch_on(driver, batch.torch, batch)


def _no_gpu(batch: Batch, driver: Driver | None) -> Finding:
    if driver is not None and driver.problem:
        message = f"the NVIDIA driver does not work: {driver.problem}"
        advice = "Restart the machine (after an update the driver needs that), and check that nvidia-smi works."
        return Finding("gpu-driver", _level(batch, "warning"), message, advice)
    if wanted := _demanding(batch) or _MATLAB & batch.devices:
        message = "Kilosort2 needs an NVIDIA GPU" if wanted == _MATLAB else f"the settings ask for {wanted}"
        advice = "Install the NVIDIA driver, or sort with kilosort4, which needs no GPU, and torch_device='cpu'."
        return Finding("gpu-none", _level(batch, "warning"), f"{message}, and the driver sees none", advice)
    return Finding("gpu-none", "info", "no NVIDIA GPU is seen: sorting on the CPU", _SLOW)


def _hidden(batch: Batch) -> Finding:
    value = batch.machine.environment.get("CUDA_VISIBLE_DEVICES")
    advice = "Nothing, if that is on purpose; otherwise run: unset CUDA_VISIBLE_DEVICES"
    return Finding("gpu-hidden", _level(batch, "info"), f"CUDA_VISIBLE_DEVICES={value!r} hides all GPUs", advice)


def _level(batch: Batch, otherwise: Level) -> Level:
    return "error" if _demanding(batch) else otherwise


def _demanding(batch: Batch) -> str:
    """Return the device that some sort cannot do without; empty when the CPU will do."""
    return next((device for device in sorted(batch.devices) if device.startswith("cuda")), "")


def _torch_on(driver: Driver, torch: Torch, batch: Batch) -> list[Finding]:
    if torch.error is not None:
        advice = f"Install it again: {_pip()} install --force-reinstall torch"
        return [Finding("torch-broken", "error", f"torch cannot be imported: {torch.error}", advice)]
    level = _level(batch, "warning")
    if torch.cuda_build is None:
        message = f"{driver.gpus[0].name} is there, but torch is built for the CPU only: the GPU lies idle"
        return [Finding("torch-cpu-only", level, message, reinstall_torch(driver))]
    if not torch.usable:
        message = f"{driver.gpus[0].name} is there, but torch (for CUDA {torch.cuda_build}) cannot use it"
        return [Finding("gpu-unusable", level, message, _unusable(driver, torch.cuda_build))]
    return [_foreign(gpu, driver, torch) for gpu in batch.used_gpus if not runs_on(gpu.capability, torch.architectures)]


def _unusable(driver: Driver, build: str) -> str:
    if tuple(int(part) for part in build.split(".")[:1]) > driver.cuda[:1]:
        return f"The driver {driver.version} is too old for it: update the driver, or {reinstall_torch(driver)}"
    return "Check that nvidia-smi works for this user and, in a container, that it was started with the GPU."


def _foreign(gpu: Gpu, driver: Driver, torch: Torch) -> Finding:
    capability = ".".join(map(str, gpu.capability))
    known = ", ".join(torch.architectures)
    message = f"torch has no code for the {gpu.name} (compute capability {capability}), only for {known}"
    advice = f"{reinstall_torch(driver)}; or sort on the CPU: kilosort_params={{'torch_device': 'cpu'}}"
    return Finding("gpu-unsupported", "error", message, advice)


# -------------------------------------------------------------------------------------------- builds of torch


def runs_on(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Return whether code for one of `architectures` runs on a GPU of this compute capability.

    Machine code (sm_86) runs on GPUs of its generation from its own version on, intermediate code (compute_86)
    on all later ones.
    """
    matches = (re.match(r"(sm|compute)_(\d+)", name) for name in architectures)
    for kind, digits in (match.groups() for match in matches if match):
        built = (int(digits[:-1]), int(digits[-1]))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def wheel_index(driver_cuda: tuple[int, int], gpus: Sequence[Gpu]) -> str | None:
    """Return the name of the torch builds that suit driver and GPUs, or None when the driver is too old for any."""
    if driver_cuda < (12, 0):
        return None
    if min(gpu.capability for gpu in gpus) < (7, 5):
        return "cu126"  # later builds have no code for these GPUs
    if driver_cuda >= (13, 0):
        return "cu130"
    newest = max(gpu.capability for gpu in gpus)
    return "cu128" if driver_cuda >= (12, 8) or newest >= (10, 0) else "cu126"


def reinstall_torch(driver: Driver) -> str:
    """Return the commands that replace torch by a build for this driver and its GPUs."""
    index = wheel_index(driver.cuda, driver.gpus)
    if index is None:
        return f"update the NVIDIA driver ({driver.version} runs CUDA {driver.cuda[0]}; torch needs 12)"
    source = f"https://download.pytorch.org/whl/{index}"
    return f"run: {_pip()} uninstall -y torch && {_pip()} install 'torch>=2.4,<3' --index-url {source}"


def _pip() -> str:
    return f"{sys.executable} -m pip"
