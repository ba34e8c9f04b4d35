"""What the doctor checks besides the GPU: software, disk, memory and what else a sort may need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from spikelab.cli.facts import Facts
from spikelab.cli.output import counted

Level = Literal["ok", "note", "problem"]
GB = 1e9
_NO_DOCKER = {
    "client_missing": ("package broken", "install it again, pip install --force-reinstall docker."),
    "daemon_down": ("the daemon does not answer", "start Docker, and check that `docker info` works for this user."),
    "permission_denied": (
        "this user may not use the daemon",
        "add this user to the group docker (sudo usermod -aG docker $USER), and log in again.",
    ),
}
"""Reason of DockerEnvironmentError: what is found, and what to do."""


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
        What to do: a sentence, and commands on lines of their own; empty when there is nothing to do.
    """

    name: str
    found: str
    level: Level = "ok"
    advice: str = ""


# --------------------------------------------------------------------------------------------------- software


def check_python(facts: Facts) -> Finding:
    """Check the interpreter: Kilosort's packages exist for a range of versions."""
    if (3, 10) <= numbers(facts.python)[:2] < (3, 14):
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
    broken = facts.kilosort_error
    if finding.level == "ok" and broken and not (facts.torch and facts.torch.error):
        command = f"{pip(facts)} install --force-reinstall 'kilosort{facts.wanted.get('kilosort', '')}'"
        return Finding("kilosort", f"{finding.found}, broken: {broken}", "problem", f"Install it again:\n{command}")
    return finding


def check_torch(facts: Facts) -> Finding:
    """Check that torch is one that was tested and can be imported, and say what it was built for."""
    finding, torch = _package(facts, "torch"), facts.torch
    if finding.level != "ok" or torch is None:
        return finding
    if torch.error:
        advice = f"Install it again:\n{pip(facts)} install --force-reinstall torch"
        return Finding("torch", f"{finding.found}, broken: {torch.error}", "problem", advice)
    build = f"built for CUDA {torch.cuda_build}" if torch.cuda_build else "built for the CPU only"
    return Finding("torch", f"{finding.found}, {build}")


def _package(facts: Facts, name: str) -> Finding:
    found, wanted = facts.versions.get(name), facts.wanted.get(name, "")
    advice = f"Install a tested version:\n{pip(facts)} install '{name}{wanted}'"
    if found is None:
        return Finding(name, "not installed", "problem", advice)
    if not satisfies(found, wanted):
        return Finding(name, f"{found}; tested: {wanted}", "problem", advice)
    return Finding(name, found)


def satisfies(found: str, wanted: str) -> bool:
    """Return whether the version `found` lies within `wanted`, such as ">=4.1.7,<4.2"."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", wanted)
    version = numbers(found)
    return all((version >= numbers(bound)) == (sign == ">=") for sign, bound in bounds)


def numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (4, 1, 7)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def pip(facts: Facts) -> str:
    """Return the pip that is sure to reach this interpreter."""
    return f"{facts.executable} -m pip"


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
    if facts.docker is None:
        return Finding("Docker", "package not installed; only for containers")
    if facts.docker.reason is None:
        return Finding("Docker", "the daemon answers")
    found, advice = _NO_DOCKER.get(facts.docker.reason, (facts.docker.detail, "Check that `docker info` works."))
    return Finding("Docker", found, "note", f"Only for sorters in containers: {advice}")


def check_kilosort2(facts: Facts) -> Finding:
    """Say whether Kilosort2 can run, in MATLAB or compiled."""
    if facts.has_kilosort2 or facts.kilosort2 is None:
        return Finding("Kilosort2, MATLAB", facts.kilosort2 or "not looked for")
    return Finding("Kilosort2, MATLAB", "not ready", "note", f"Only for Kilosort2: {facts.kilosort2}.")


def check_disk(facts: Facts) -> Finding:
    """Check the free disk here and for temporary files."""
    found = ", ".join(f"{free / GB:.0f} GB free in {folder}" for folder, free in facts.free_bytes.items())
    least = min(facts.free_bytes.values(), default=0)
    if least >= 20 * GB:
        return Finding("disk", found)
    advice = "A sort writes about as much as the recording is large, beside the recording: make room there."
    return Finding("disk", found, "problem" if least < GB else "note", advice)


def check_memory(facts: Facts) -> Finding:
    """Check the memory of the machine."""
    found = f"{facts.memory_bytes / GB:.0f} GB, {facts.available_bytes / GB:.0f} GB of it free"
    if facts.memory_bytes >= 16 * GB:
        return Finding("memory", found)
    return Finding("memory", found, "note", "Enough for short recordings or few channels; 32 GB for long dense ones.")


def check_cores(facts: Facts) -> Finding:
    """Name the cores that a sort may use."""
    usable = counted(facts.n_usable_cores, "core")
    more = f" of {facts.n_cores}" if facts.n_usable_cores < facts.n_cores else ""
    return Finding("processor", f"{usable}{more}")
