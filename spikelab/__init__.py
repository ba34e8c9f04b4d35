"""Sort batches of extracellular recordings overnight, and curate what comes out.

Everything here is imported on first use, so that ``import spikelab`` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikelab.spike_sorting.api import load_results, sort_multistream, sort_recording
    from spikelab.spikedata import SpikeData

_HOMES = {
    "SpikeData": "spikelab.spikedata",
    "load_results": "spikelab.spike_sorting.api",
    "sort_multistream": "spikelab.spike_sorting.api",
    "sort_recording": "spikelab.spike_sorting.api",
}

__all__ = ["SpikeData", "load_results", "sort_multistream", "sort_recording"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module 'spikelab' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _version() -> str:
    try:
        return version("spikelab")
    except PackageNotFoundError:
        return "0+unknown"
