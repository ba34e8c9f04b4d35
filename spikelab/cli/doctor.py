"""``spikelab doctor``: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikelab.cli.facts import Driver, Facts, Gpu
from spikelab.cli.output import ExitCode, counted, say

Level = Literal["ok", "note", "problem"]

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name : str
        What was checked.
    found : str
        What is there.
    level : {"ok", "note", "problem"}
        How bad that is.
    advice : str
        What to do; empty when there is nothing to do.
    """

    name: str
    found: str
    level: Level = "ok"
    advice: str = ""


def examine(facts: Facts) -> list[Finding]:
    """Return what every check says of `facts`."""
    return [check(facts) for check in CHECKS]


def can_sort(facts: Facts) -> bool:
    """Return whether a sort with Kilosort4 can run, on a GPU or on the CPU."""
    needed = (check_python, check_spikeinterface, check_numpy, check_torch, check_kilosort)
    findings = [check(facts) for check in needed]
    return all(finding.level != "problem" for finding in findings) and not _has_foreign_gpu(facts)


def tell_health(facts: Facts, console: Console) -> int:
    """Print the findings, then what to do, and return the exit code."""
    findings = examine(facts)
    console.print(_table(findings))
    advised = [finding for finding in findings if finding.advice]
    if advised:
        say(console, "\nWhat to do", style="bold")
    for finding in advised:
        say(console, Text.assemble((f"  {finding.name}: ", _STYLES[finding.level]), finding.advice))
    say(console, Text.assemble("\n", verdict(facts)))
    return ExitCode.DONE if can_sort(facts) else ExitCode.ENVIRONMENT


def verdict(facts: Facts) -> Text:
    """Return in one sentence whether Kilosort4 can sort here, and on what."""
    if not can_sort(facts):
        return Text("Kilosort4 cannot sort here yet: see the problems above.", style="bold red")
    if facts.torch is not None and facts.torch.usable:
        return Text(f"Kilosort4 can sort here, on the GPU ({facts.torch.usable[0]}).", style="bold green")
    if facts.driver is not None and facts.driver.gpus:
        return Text("Kilosort4 can sort here, but on the CPU alone: the GPU lies idle, see above.", style="bold yellow")
    return Text("Kilosort4 can sort here, on the CPU.", style="bold green")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "found", "verdict"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.name), Text(finding.found), Text(finding.level, style=_STYLES[finding.level]))
    return table


# --------------------------------------------------------------------------------------------------- software


def check_python(facts: Facts) -> Finding:
    """Check the interpreter: Kilosort's packages exist for a range of versions."""
    if (3, 10) <= _numbers(facts.python)[:2] < (3, 14):
        return Finding("Python", facts.python)
    return Finding("Python", facts.python, "problem", "Install spikelab for Python 3.10 to 3.13.")


def check_spikelab(facts: Facts) -> Finding:
    """Name the version of spikelab."""
    return Finding("spikelab", facts.versions.get("spikelab") or "unknown")


def check_numpy(facts: Facts) -> Finding:
    """Check that numpy is one that was tested."""
    return _package(facts, "numpy")


def check_spikeinterface(facts: Facts) -> Finding:
    """Check that SpikeInterface is one that was tested."""
    return _package(facts, "spikeinterface")


def check_probeinterface(facts: Facts) -> Finding:
    """Check that probeinterface is one that was tested."""
    return _package(facts, "probeinterface")


def check_kilosort(facts: Facts) -> Finding:
    """Check that Kilosort4 is one that was tested, and that it can be imported."""
    finding = _package(facts, "kilosort")
    broken = facts.torch is not None and facts.torch.imported and facts.torch.error
    if finding.level == "ok" and broken:
        command = f"{_pip(facts)} install --force-reinstall 'kilosort{facts.wanted.get('kilosort', '')}'"
        return Finding("kilosort", f"{finding.found}, broken: {broken}", "problem", f"Install it again: {command}")
    return finding


def check_torch(facts: Facts) -> Finding:
    """Check that torch is one that was tested and can be imported, and say what it was built for."""
    finding, torch = _package(facts, "torch"), facts.torch
    if finding.level != "ok" or torch is None:
        return finding
    if not torch.imported:
        advice = f"Install it again: {_pip(facts)} install --force-reinstall torch"
        return Finding("torch", f"{finding.found}, broken: {torch.error}", "problem", advice)
    build = f"built for CUDA {torch.cuda_build}" if torch.cuda_build else "built for the CPU only"
    return Finding("torch", f"{finding.found}, {build}")


def _package(facts: Facts, name: str) -> Finding:
    found, wanted = facts.versions.get(name), facts.wanted.get(name, "")
    command = f"{_pip(facts)} install '{name}{wanted}'"
    if found is None:
        return Finding(name, "not installed", "problem", command)
    if not satisfies(found, wanted):
        return Finding(name, f"{found}; tested: {wanted}", "problem", command)
    return Finding(name, found)


def satisfies(found: str, wanted: str) -> bool:
    """Return whether the version `found` lies within `wanted`, such as ">=4.1.7,<4.2"."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", wanted)
    numbers = _numbers(found)
    return all((numbers >= _numbers(bound)) == (sign == ">=") for sign, bound in bounds)


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _pip(facts: Facts) -> str:
    return f"{facts.executable} -m pip"


# -------------------------------------------------------------------------------------------------------- GPU


def check_gpu(facts: Facts) -> Finding:
    """Compare the GPUs that the driver sees with those that torch can use."""
    driver, torch = facts.driver, facts.torch
    if driver is None or not driver.gpus:
        found = "no NVIDIA driver" if driver is None else "the NVIDIA driver sees none"
        advice = "Nothing, if this machine has no NVIDIA GPU: Kilosort4 sorts on the CPU, many times slower."
        return Finding("GPU", found, "note", advice)
    described = _described(driver)
    if torch is None or not torch.imported:
        return Finding("GPU", described)
    if torch.cuda_build is None:
        advice = f"torch was built without CUDA, so the GPU lies idle: {_reinstall(facts, driver)}"
        return Finding("GPU", f"{described}, but torch is for the CPU only", "problem", advice)
    if _is_hidden(facts):
        advice = "Nothing, if that is on purpose; otherwise run: unset CUDA_VISIBLE_DEVICES"
        return Finding("GPU", f"{described}, hidden by CUDA_VISIBLE_DEVICES={facts.hidden_gpus}", "note", advice)
    if not torch.usable:
        return _unusable(facts, driver, described)
    if _has_foreign_gpu(facts):
        advice = f"torch has no code for this GPU: {_reinstall(facts, driver)}"
        found = f"{described}; torch knows {', '.join(torch.architectures)}"
        return Finding("GPU", found, "problem", advice)
    return Finding("GPU", f"{described}, usable by torch")


def _unusable(facts: Facts, driver: Driver, described: str) -> Finding:
    build = facts.torch.cuda_build if facts.torch else None
    if build is not None and _numbers(build)[:1] > driver.cuda[:1]:
        advice = f"The driver is too old for torch's CUDA {build}: update the driver, or {_reinstall(facts, driver)}"
    else:
        advice = "Check that nvidia-smi works for this user and, in a container, that it was started with the GPU."
    return Finding("GPU", f"{described}, but torch (CUDA {build}) cannot use it", "problem", advice)


def _has_foreign_gpu(facts: Facts) -> bool:
    """Return whether torch would take a GPU that it has no code for, and fail."""
    torch, driver = facts.torch, facts.driver
    if torch is None or driver is None or not torch.usable or not torch.architectures or _is_hidden(facts):
        return False
    return not any(runs_on(gpu.capability, torch.architectures) for gpu in driver.gpus)


def runs_on(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    """Return whether code for one of `architectures` runs on a GPU of this compute capability.

    Machine code (sm_86) runs on GPUs of its generation from its own version on, intermediate code (compute_86)
    on all later ones.
    """
    for kind, digits in (match.groups() for name in architectures if (match := re.match(r"(sm|compute)_(\d+)", name))):
        built = (int(digits[:-1]), int(digits[-1]))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def wheel_index(driver_cuda: tuple[int, int], gpus: tuple[Gpu, ...]) -> str | None:
    """Return the name of the torch builds that suit driver and GPUs, or None when the driver is too old for any."""
    if driver_cuda < (12, 0):
        return None
    oldest = min(gpu.capability for gpu in gpus)
    newest = max(gpu.capability for gpu in gpus)
    if oldest < (7, 5):
        return "cu126"  # later builds have no code for these GPUs
    if driver_cuda >= (13, 0):
        return "cu130"
    return "cu128" if driver_cuda >= (12, 8) or newest >= (10, 0) else "cu126"


def _reinstall(facts: Facts, driver: Driver) -> str:
    index = wheel_index(driver.cuda, driver.gpus)
    if index is None:
        return f"update the NVIDIA driver first ({driver.version} runs CUDA {_dotted(driver.cuda)}; torch needs 12)."
    wanted = facts.wanted.get("torch", "")
    source = f"https://download.pytorch.org/whl/{index}"
    pip = _pip(facts)
    return f"{pip} uninstall -y torch && {pip} install 'torch{wanted}' --index-url {source}"


def _described(driver: Driver) -> str:
    first, others = driver.gpus[0], len(driver.gpus) - 1
    more = f" and {others} more" if others else ""
    return f"{first.name} ({first.memory_bytes / _GB:.0f} GB, driver {driver.version}){more}"


def _is_hidden(facts: Facts) -> bool:
    return facts.hidden_gpus is not None and facts.hidden_gpus.strip() in {"", "-1", "NoDevFiles"}


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


# ----------------------------------------------------------------------------------------------- surroundings


def check_hdf5(facts: Facts) -> Finding:
    """Look for the plugin that compressed Maxwell files need."""
    name, folders = "HDF5 plugins", facts.hdf5_folders
    how = (
        "Only for compressed Maxwell files: put libcompression (from MaxWell Biosystems) into a folder and "
        "name it in HDF5_PLUGIN_PATH, or in the setting hdf5_plugin_path."
    )
    if folders is None:
        return Finding(name, "HDF5_PLUGIN_PATH is not set", "note", how)
    listed = ", ".join(folders)
    if any("compression" in library for libraries in folders.values() for library in libraries):
        return Finding(name, f"libcompression in {listed}")
    return Finding(name, f"no libcompression in {listed}", "note", how)


def check_docker(facts: Facts) -> Finding:
    """Say whether sorters in containers can run."""
    if facts.versions.get("docker") is None:
        return Finding("Docker", "package docker is not installed; only for sorters in containers")
    if facts.docker is None:
        advice = "Only for sorters in containers: start Docker, and check that `docker info` works for this user."
        return Finding("Docker", "the daemon does not answer", "note", advice)
    return Finding("Docker", facts.docker)


def check_disk(facts: Facts) -> Finding:
    """Check the free disk here and for temporary files."""
    found = ", ".join(f"{free / _GB:.0f} GB free in {folder}" for folder, free in facts.free_bytes.items())
    least = min(facts.free_bytes.values(), default=0)
    if least >= 20 * _GB:
        return Finding("disk", found)
    advice = "A sort writes about as much as the recording is large, beside the recording: make room there."
    return Finding("disk", found, "problem" if least < _GB else "note", advice)


def check_memory(facts: Facts) -> Finding:
    """Check the memory of the machine."""
    found = f"{facts.memory_bytes / _GB:.0f} GB, {facts.available_bytes / _GB:.0f} GB of it free"
    if facts.memory_bytes >= 16 * _GB:
        return Finding("memory", found)
    return Finding("memory", found, "note", "Enough for short recordings or few channels; 32 GB for long dense ones.")


def check_cores(facts: Facts) -> Finding:
    """Name the cores that a sort may use."""
    usable = counted(facts.n_usable_cores, "core")
    more = f" of {facts.n_cores}" if facts.n_usable_cores < facts.n_cores else ""
    return Finding("processor", f"{usable}{more}")


CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    check_python,
    check_spikelab,
    check_numpy,
    check_spikeinterface,
    check_probeinterface,
    check_kilosort,
    check_torch,
    check_gpu,
    check_hdf5,
    check_docker,
    check_disk,
    check_memory,
    check_cores,
)
