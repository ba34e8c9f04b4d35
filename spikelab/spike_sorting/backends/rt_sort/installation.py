"""Which RT-Sort is where: asked of the interpreter that has it, without importing anything of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting.config import SortingPipelineConfig

SCRIPT = Path(__file__).with_name("provider.py")
"""What runs in that interpreter."""
BELOW_SPIKEINTERFACE = (0, 105)
"""No provider of RT-Sort works with this version of SpikeInterface or a later one."""
_TIMEOUT_S = 60.0
_BUILD = "run `spikelab rt-sort-env FOLDER`, and set rt_sort_python to the interpreter that it names"


@dataclass(frozen=True)
class Provider:
    """A package that carries RT-Sort.

    Parameters
    ----------
    python : str
        Interpreter that has it.
    name, version : str
        The package.
    models : mapping of str to str or None
        Folder of its own detection model for each kind of probe, where it has one.
    """

    python: str
    name: str
    version: str
    models: Mapping[str, str | None]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def interpreter(config: SortingPipelineConfig) -> str:
    """Return the interpreter that runs RT-Sort, which may start elsewhere: the one that is named, or this one.

    A link stays one: Python finds its environment by the name that it is started with.
    """
    named = config.rt_sort.python
    if named is None:
        return sys.executable
    on_path = shutil.which(named) if Path(named).name == named else None
    return on_path or str(Path(named).expanduser().absolute())


def find_provider(config: SortingPipelineConfig) -> Provider:
    """Return what would run RT-Sort.

    Raises
    ------
    SorterNotInstalledError
        There is no such interpreter, or it lacks RT-Sort or something that RT-Sort needs.
    """
    python = interpreter(config)
    said = _asked(python, _stamp(Path(python)))
    if said.get("problem"):
        msg = f"rt_sort_python={python!r} {said['problem']}; {_BUILD}"
        raise _missing(msg, "rt_sort_python")
    if said["provider"] is None:
        msg = f"{python} has no package with RT-Sort, which needs an environment of its own; {_BUILD}"
        raise _missing(msg, "rt_sort")
    provider = Provider(python, said["provider"], said["version"] or "unknown", said["models"])
    if said["missing"]:
        msg = f"{python} has {provider}, which needs {', '.join(said['missing'])} as well; {_BUILD}"
        raise _missing(msg, said["missing"][0])
    spikeinterface = said["packages"]["spikeinterface"] or ""
    if tuple(int(part) for part in re.findall(r"\d+", spikeinterface)[:2]) >= BELOW_SPIKEINTERFACE:
        msg = f"{python} has spikeinterface {spikeinterface}, and {provider} works below 0.105 only; {_BUILD}"
        raise _missing(msg, "spikeinterface<0.105")
    return provider


def _missing(message: str, what: str) -> SorterNotInstalledError:
    return SorterNotInstalledError(message, sorter="rt_sort", missing=what)


def _stamp(python: Path) -> tuple[int, ...]:
    """Return what changes when something is installed for `python`: an answer holds for as long as it does not."""
    home = python.parent.parent
    places = (python, *sorted(home.glob("lib/python*/site-packages")), *sorted(home.glob("Lib/site-packages")))
    return tuple(place.stat().st_mtime_ns if place.exists() else 0 for place in places)


@lru_cache(maxsize=16)
def _asked(python: str, _stamp: tuple[int, ...]) -> Mapping[str, Any]:
    """Return what the interpreter says of itself, asked once for as long as nothing is installed there."""
    try:
        done = subprocess.run(
            [python, "-I", str(SCRIPT), "look"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"does not answer within {_TIMEOUT_S:g} s"}
    except OSError as error:
        return {"problem": f"cannot be started ({error.strerror})"}
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return {"problem": f"is no Python that works: {last}"}
