"""Which machine and which versions a table was measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("spikelab", "spikeinterface", "numpy"))
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return f"{platform.platform()}, {cores} cores (load {load:.1f}), Python {platform.python_version()}, {packages}"
