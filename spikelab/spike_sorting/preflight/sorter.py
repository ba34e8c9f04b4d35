"""The sorter: a backend for it, and a version of it that was tested."""

from __future__ import annotations

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, of_error


def check_sorter(batch: Batch) -> list[Finding]:
    """Find sorters that are missing here, or of a version that was not tested; a container brings its own."""
    configs = [job.config.sorter for job in batch.jobs if not job.config.sorter.use_docker]
    missing = [batch.machine.installed(name) for name in dict.fromkeys(config.sorter_name for config in configs)]
    return [of_error(error) for error in missing if error is not None]
