"""The layers in pyproject.toml cover the package."""

from __future__ import annotations

import re

import pytest
from support import PYPROJECT, REPOSITORY


@pytest.mark.parametrize("folder", ["spikelab", "spikelab/spike_sorting"])
def test_every_module_has_its_layer(folder: str) -> None:
    """No module escapes import-linter by not being listed."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = set(re.findall(r"[\w.]+", " ".join(layers)))

    package = REPOSITORY / folder
    packages = {path.parent.name for path in package.glob("*/__init__.py")} - {"spike_sorting"}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    prefix = folder.replace("/", ".")
    assert {f"{prefix}.{name}" for name in packages | modules} <= listed
