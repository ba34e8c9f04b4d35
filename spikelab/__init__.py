"""Sort batches of extracellular recordings overnight, and curate what comes out.

Everything here is imported on first use, so that ``import spikelab`` stays instant.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab._version import __version__
    from spikelab.spike_sorting.api import load_results, sort_multistream, sort_recording
    from spikelab.spikedata import SpikeData

__all__ = ["SpikeData", "__version__", "load_results", "sort_multistream", "sort_recording"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "SpikeData": "spikelab.spikedata",
        "__version__": "spikelab._version",
        "load_results": "spikelab.spike_sorting.api",
        "sort_multistream": "spikelab.spike_sorting.api",
        "sort_recording": "spikelab.spike_sorting.api",
    },
)

# A library says nothing on its own: without this, warnings would go to the terminal of whoever sets up no logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())
