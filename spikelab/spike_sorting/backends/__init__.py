"""How a sorter is started and read back: one description per sorter, found by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting.backends.base import SorterBackend
from spikelab.spike_sorting.config import BACKENDS_GROUP

_HOMES = {
    "kilosort2": ("spikelab.spike_sorting.backends.kilosort2.backend", "Kilosort2Backend"),
    "kilosort4": ("spikelab.spike_sorting.backends.kilosort4.backend", "Kilosort4Backend"),
    "rt_sort": ("spikelab.spike_sorting.backends.rt_sort.backend", "RTSortBackend"),
}


def get_backend(name: str) -> SorterBackend:
    """Return the backend of the sorter `name`: ours, or one that an installed package adds.

    Raises
    ------
    SorterNotInstalledError
        Nothing installed can run it.
    """
    if name in _HOMES:
        module, cls = _HOMES[name]
        return _made_by(getattr(import_module(module), cls))
    for point in entry_points(group=BACKENDS_GROUP):
        if point.name == name:
            return _made_by(point.load())
    msg = f"this version of spikelab cannot run {name!r} yet; it runs {sorted(_HOMES)}"
    raise SorterNotInstalledError(msg, sorter=name, missing="backend")


def _made_by(cls: Callable[[], SorterBackend]) -> SorterBackend:
    return cls()
