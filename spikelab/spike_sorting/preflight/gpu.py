"""GPUs: there, seen by the driver, and usable by the torch that will sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.builds import pip, reinstall_torch, suits_all, why_foreign
from spikelab.spike_sorting.preflight.findings import Finding, Level
from spikelab.spike_sorting.preflight.gpu_choice import fit_gpus, unfit_gpus
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
    if batch.torch is not None and (unusable := _torch_on(driver, batch.torch, batch)):
        return unusable
    found = (finding for config in batch.configs for finding in _unfit(batch, driver, config))
    return list(dict.fromkeys(found))


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
        advice = f"Install it again: {pip()} install --force-reinstall torch"
        return [Finding("torch-broken", "error", f"torch cannot be imported: {torch.error}", advice)]
    level = _level(batch, "warning")
    if torch.cuda_build is None:
        message = f"{driver.gpus[0].name} is there, but torch is built for the CPU only: the GPU lies idle"
        return [Finding("torch-cpu-only", level, message, reinstall_torch(driver))]
    if not torch.usable:
        message = f"{driver.gpus[0].name} is there, but torch (for CUDA {torch.cuda_build}) cannot use it"
        return [Finding("gpu-unusable", level, message, _unusable(driver, torch.cuda_build))]
    return []


def _unusable(driver: Driver, build: str) -> str:
    if tuple(int(part) for part in build.split(".")[:1]) > driver.cuda[:1]:
        return f"The driver {driver.version} is too old for it: update the driver, or {reinstall_torch(driver)}"
    return "Check that nvidia-smi works for this user and, in a container, that it was started with the GPU."


def _unfit(batch: Batch, driver: Driver, config: SortingPipelineConfig) -> list[Finding]:
    unfit, fit = unfit_gpus(batch, config), fit_gpus(batch, config)
    if not unfit or fit:
        return [_left_out(unfit, fit, driver, batch.torch)] if unfit else []
    return [_foreign(gpu, why, driver) for gpu, why in unfit.items()]


def _left_out(unfit: Mapping[Gpu, str], fit: Sequence[Gpu], driver: Driver, torch: Torch | None) -> Finding:
    named = (f"{gpu.name} (GPU {driver.gpus.index(gpu)}): {why}" for gpu, why in unfit.items())
    numbers = ",".join(str(driver.gpus.index(gpu)) for gpu in fit)
    advice = f"Nothing, if the others will do: CUDA_VISIBLE_DEVICES={numbers} says so."
    if suits_all(driver) and any(torch is not None and why_foreign(gpu, torch) for gpu in unfit):
        advice += f" To use all of them, {reinstall_torch(driver)}"
    if any(gpu.problem for gpu in unfit):
        advice += " One that does not answer comes back when the machine is restarted."
    return Finding("gpu-left-out", "warning", f"not every GPU is used; {'; '.join(named)}", advice)


def _foreign(gpu: Gpu, why: str, driver: Driver) -> Finding:
    advice = f"{reinstall_torch(driver)}; or sort on the CPU: kilosort_params={{'torch_device': 'cpu'}}"
    return Finding("gpu-unsupported", "error", f"no sort can use the {gpu.name}: {why}", advice)
