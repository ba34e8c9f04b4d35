"""What the package imports is what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support import PYPROJECT, REPOSITORY

PROJECT = PYPROJECT["project"]

MODULES = {"nvidia-ml-py": "pynvml", "scikit-learn": "sklearn"}
"""Distributions whose module has another name than they."""

WHERE = {
    "kilosort4": ("spike_sorting/backends/kilosort4/",),
    "rtsort": ("spike_sorting/backends/rt_sort/",),
    "docker": ("spike_sorting/preflight/machine.py", "spike_sorting/backends/containers/"),
    "cluster": ("spike_sorting/cluster/",),
    "nwb": ("spikedata/nwb.py",),
    "pynapple": ("spikedata/pynapple.py",),
    "dev": ("testing/",),
}
"""Extras, and the only places that may import what they bring."""


def _declared(requirements: list[str]) -> set[str]:
    names = (re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in requirements)
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def _imported_by(file: Path) -> Iterator[str]:
    """Yield the top-level module of each import, also of those inside functions and by `import_module`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(module)), *_]):
                yield module.split(".")[0]


def _third_party() -> dict[str, set[str]]:
    """Return the files that import each module that is neither Python's nor ours."""
    importers: dict[str, set[str]] = {}
    for file in (REPOSITORY / "spikelab").rglob("*.py"):
        for module in _imported_by(file):
            if module not in sys.stdlib_module_names and module != "spikelab":
                importers.setdefault(module, set()).add(file.relative_to(REPOSITORY / "spikelab").as_posix())
    importers.pop("tomllib", None)  # in the standard library from 3.11 on
    return importers


def _of_extra(extra: str) -> Iterator[str]:
    """Yield what an extra asks for, that of the extras it names in its place."""
    for line in PROJECT["optional-dependencies"][extra]:
        wanted = Requirement(line)
        if wanted.name == "spikelab":
            yield from chain.from_iterable(map(_of_extra, wanted.extras))
        else:
            yield line


def test_every_import_is_declared() -> None:
    """What is imported is a dependency, or belongs to an extra and is imported in that extra's own files."""
    always = _declared(PROJECT["dependencies"])
    extras = {extra: _declared(PROJECT["optional-dependencies"][extra]) for extra in WHERE}
    undeclared = [
        f"{file} imports {module}"
        for module, files in _third_party().items()
        for file in files
        if module not in always
        and not any(module in extras[extra] and file.startswith(places) for extra, places in WHERE.items())
    ]
    assert not undeclared


def test_every_dependency_is_needed() -> None:
    """No dependency is declared that nothing imports."""
    assert not _declared(PROJECT["dependencies"]) - _third_party().keys()


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once(python: str) -> None:
    """For each Python that spikelab supports, each dependency that it declares has one exact version in its range."""
    pins: dict[str, list[Requirement]] = {}
    for line in (REPOSITORY / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                pins.setdefault(re.sub(r"[-_.]+", "-", pin.name).lower(), []).append(pin)
    assert not [name for name, found in pins.items() if len(found) > 1]

    for line in [
        *PROJECT["dependencies"],
        *chain.from_iterable(map(_of_extra, ("kilosort4", "rtsort", "docker", "dev"))),
    ]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python}):
            (pin,) = pins[re.sub(r"[-_.]+", "-", wanted.name).lower()]
            (exact,) = pin.specifier
            assert wanted.specifier.contains(exact.version.removesuffix(".*")), f"{pin} is not {wanted}"
