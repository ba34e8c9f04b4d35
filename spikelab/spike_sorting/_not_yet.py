"""Settings that the contract names and this version does not act upon yet: refused, never silently ignored."""

from __future__ import annotations

from spikelab.spike_sorting.config import SortingPipelineConfig, flat_settings

NOT_YET = {
    "use_docker": "sorting in containers",
    "container": "sorting in containers",
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
