"""Settings that the contract names and this version does not act upon yet: refused, never silently ignored."""

from __future__ import annotations

from spikelab.spike_sorting.config import SORTERS, SortingPipelineConfig, flat_settings

NOT_YET = {
    "container": "sorting in Apptainer containers",
}
"""Flat name of each such setting, and what it will do."""


def check_supported(config: SortingPipelineConfig) -> None:
    """Raise ValueError when `config` asks for something that this version cannot do."""
    for name, what in NOT_YET.items():
        group, field = flat_settings()[name]
        value = getattr(getattr(config, group), field.name)
        if value != field.default:
            msg = f"{name}={value!r}: {what} is planned, and not part of this version; leave it at {field.default!r}"
            raise ValueError(msg)
    if config.sorter.use_docker and config.sorter.sorter_name not in SORTERS:
        sorter = config.sorter
        msg = f"use_docker={sorter.use_docker!r}: {sorter.sorter_name!r} does not run in containers, as {SORTERS} do"
        raise ValueError(msg)
