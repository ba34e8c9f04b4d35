"""The same sorts on several machines, by Dask; needs ``pip install "spikelab[cluster]"``.

The folders of the runs lie where all machines see them: a recording that a lost machine began is continued by another
one from what is finished there. Everything is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.spike_sorting.cluster.calls import sort_multistream_on, sort_on
    from spikelab.spike_sorting.cluster.settings import ClusterSettings, LocalWorkers, RunningCluster, SlurmJobs

__all__ = ["ClusterSettings", "LocalWorkers", "RunningCluster", "SlurmJobs", "sort_multistream_on", "sort_on"]

_HOMES = {
    **dict.fromkeys(("sort_multistream_on", "sort_on"), "calls"),
    **dict.fromkeys(("ClusterSettings", "LocalWorkers", "RunningCluster", "SlurmJobs"), "settings"),
}

__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
