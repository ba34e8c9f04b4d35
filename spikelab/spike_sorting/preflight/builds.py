"""Builds of torch: on which GPUs their code runs, and which of them suits a machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch

_COVERED: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "cu130": ((7, 5), (99, 0)),
    "cu128": ((7, 5), (99, 0)),
    "cu126": ((5, 0), (9, 9)),
}
"""Compute capabilities that each build has code for, from and to; the newest build first."""


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


def why_foreign(gpu: Gpu, torch: Torch) -> str | None:
    """Return why `torch`, which can use GPUs, has no use for `gpu`; None where it has."""
    if gpu.problem is not None:
        return gpu.problem
    if not torch.architectures or runs_on(gpu.capability, torch.architectures):
        return None
    capability = ".".join(map(str, gpu.capability))
    return f"torch has no code for its compute capability {capability}, only for {', '.join(torch.architectures)}"


def wheel_index(driver_cuda: tuple[int, int], gpus: Sequence[Gpu]) -> str | None:
    """Return the name of the torch build that suits the driver and most of the GPUs; None: the driver is too old."""
    if driver_cuda < (12, 0):
        return None
    newest = max(gpu.capability for gpu in gpus)
    fits = {"cu130": driver_cuda >= (13, 0), "cu128": driver_cuda >= (12, 8) or newest >= (10, 0), "cu126": True}
    return max((build for build in _COVERED if fits[build]), key=lambda build: sum(_covers(build, one) for one in gpus))


def suits_all(driver: Driver) -> bool:
    """Return whether one build of torch has code for all GPUs."""
    build = wheel_index(driver.cuda, driver.gpus)
    return build is not None and all(_covers(build, gpu) for gpu in driver.gpus)


def _covers(build: str, gpu: Gpu) -> bool:
    oldest, newest = _COVERED[build]
    return oldest <= gpu.capability <= newest


def reinstall_torch(driver: Driver) -> str:
    """Return the commands that replace torch by a build for this driver and its GPUs."""
    index = wheel_index(driver.cuda, driver.gpus)
    if index is None:
        return f"update the NVIDIA driver ({driver.version} runs CUDA {driver.cuda[0]}; torch needs 12)"
    source = f"https://download.pytorch.org/whl/{index}"
    return f"run: {pip()} uninstall -y torch && {pip()} install 'torch>=2.4,<3' --index-url {source}"


def pip() -> str:
    """Return the pip that is sure to reach this interpreter."""
    return f"{sys.executable} -m pip"
