"""Where Kilosort2 and its MATLAB are on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting._signatures import KILOSORT2_FUNCTIONS
from spikelab.spike_sorting.backends.containers.images import version_in_container
from spikelab.spike_sorting.config import SorterConfig

PATH_VARIABLE = "KILOSORT2_PATH"
"""Names Kilosort2's folder where the setting kilosort_path does not; SpikeInterface reads it too."""
COMPILED = "ks2_compiled"
"""Kilosort2 as one program, which needs MATLAB's free runtime alone."""
_ENTRIES = ("main_kilosort.m", "master_kilosort.m")
_CUDA = (
    *("mexThSpkPC", "mexClustering2", "mexDistances2", "mexGetSpikes2"),
    *("mexMPnu8", "mexSVDsmall2", "mexWtW2"),
)
"""What its functions call of the code that mexGPUall compiles."""
_COMPILED_SUFFIX = {"linux": ".mexa64", "win32": ".mexw64"}
_GET_IT = "get it with: git clone --branch kilosort2 https://github.com/MouseLand/Kilosort"


@dataclass(frozen=True)
class Installation:
    """What runs Kilosort2.

    Parameters
    ----------
    program : str
        MATLAB, or the compiled Kilosort2.
    folder : Path or None
        Kilosort2's code; None where it is compiled.
    version : str
        Commit of that code, "compiled", or "unknown".
    """

    program: str
    folder: Path | None
    version: str


def find_installation(sorter: SorterConfig) -> Installation:
    """Return what would run Kilosort2: here, or compiled in a container.

    Raises
    ------
    SorterNotInstalledError
        MATLAB or Kilosort2 is not where it is said to be, or nothing says where.
    """
    if (image := version_in_container(sorter)) is not None:
        return Installation(COMPILED, None, image)
    named = sorter.sorter_path or os.environ.get(PATH_VARIABLE)
    compiled = shutil.which(COMPILED)
    if named is None and compiled is not None:
        return Installation(compiled, None, "compiled")
    if named is None:
        msg = (
            f"nothing says where Kilosort2 is: give kilosort_path, or set {PATH_VARIABLE}; {_GET_IT} "
            "and compile its CUDA code in MATLAB"
        )
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="kilosort_path")
    folder = _checked(Path(named).expanduser().absolute())
    program = shutil.which("matlab")
    if program is None:
        msg = (
            "Kilosort2 runs in MATLAB, and there is no program 'matlab' on the PATH; add the folder bin of MATLAB to it"
        )
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="matlab")
    return Installation(program, folder, _commit(folder) or "unknown")


def _checked(folder: Path) -> Path:
    if not any((folder / entry).is_file() for entry in _ENTRIES):
        what = "holds neither of " + " and ".join(_ENTRIES) if folder.is_dir() else "is no folder"
        msg = f"{folder} is not the folder of Kilosort2: it {what}; {_GET_IT}, and name the folder that has them"
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="kilosort_path")
    if os.pathsep in str(folder):
        msg = f"{folder}: MATLAB cannot search a folder with {os.pathsep!r} in its name; move Kilosort2 to another one"
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="kilosort_path")
    _check_version(folder)
    _check_compiled(folder)
    return folder


def _check_version(folder: Path) -> None:
    there = {path.stem for path in folder.rglob("*.m")}
    if absent := [name for name in KILOSORT2_FUNCTIONS if name not in there]:
        msg = (
            f"{folder} is not Kilosort2: it lacks {', '.join(f'{name}.m' for name in absent)}; is it another version "
            f"of Kilosort? {_GET_IT}"
        )
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="Kilosort2, branch kilosort2")


def _check_compiled(folder: Path) -> None:
    """Raise where there is CUDA code that is not compiled; elsewhere it may lie where MATLAB alone knows."""
    suffix = _COMPILED_SUFFIX.get(sys.platform)
    if suffix is None:
        return
    compiled = {path.stem for path in folder.rglob(f"*{suffix}")}
    absent = [name for name in _CUDA if (folder / "CUDA" / f"{name}.cu").is_file() and name not in compiled]
    if absent:
        msg = (
            f"the CUDA code of Kilosort2 in {folder / 'CUDA'} is not compiled for this machine: there is no "
            f"{absent[0]}{suffix}; run mexGPUall in that folder, in MATLAB"
        )
        raise SorterNotInstalledError(msg, sorter="kilosort2", missing="compiled CUDA code of Kilosort2")


def _commit(folder: Path) -> str | None:
    """Return the commit that is checked out in `folder`, or None when that cannot be told."""
    head = _text(folder / ".git" / "HEAD")
    if head is None or not head.startswith("ref: "):
        return head
    return _text(folder / ".git" / head.removeprefix("ref: "))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
