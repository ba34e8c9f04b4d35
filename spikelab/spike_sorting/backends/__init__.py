"""How a sorter is started and read back: one description per sorter, found by name."""

from __future__ import annotations

from importlib import import_module

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting.backends.base import SorterBackend

_HOMES = {"kilosort4": ("spikelab.spike_sorting.backends.kilosort4.backend", "Kilosort4Backend")}


def get_backend(name: str) -> SorterBackend:
    """Return the backend of the sorter `name`.

    Raises
    ------
    SorterNotInstalledError
        This version of spikelab has no backend of that name.
    """
    if name not in _HOMES:
        msg = f"this version of spikelab cannot run {name!r} yet; it runs {sorted(_HOMES)}"
        raise SorterNotInstalledError(msg, sorter=name, missing="backend")
    module, cls = _HOMES[name]
    backend: SorterBackend = getattr(import_module(module), cls)()
    return backend
