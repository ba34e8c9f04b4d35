"""The version, from the installed package's metadata: its one home is pyproject.toml."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("spikelab")
