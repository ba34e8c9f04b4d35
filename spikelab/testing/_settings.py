"""Settings, changed one at a time and compared one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spikelab.spike_sorting.config import SortingPipelineConfig, flat_settings


def each(options: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each setting of `options` with its name, also each of a mapping, such as ``kilosort_params``."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from ((key, {name: {key: item}}) for key, item in value.items())
        else:
            yield name, {name: value}


def with_options(config: SortingPipelineConfig, options: Mapping[str, Any]) -> SortingPipelineConfig:
    """Return `config` with `options`; what a mapping does not name stays."""
    homes, flat = flat_settings(), {}
    for name, value in options.items():
        group, field = homes[name]
        now = getattr(getattr(config, group), field.name)
        flat[name] = {**now, **value} if isinstance(value, Mapping) else value
    return config.override(**flat)


def differences(one: SortingPipelineConfig, other: SortingPipelineConfig) -> dict[str, Any]:
    """Return the settings of `other` that `one` has otherwise, by flat name or name within a mapping; None: gone."""
    before, after = _plain(one), _plain(other)
    return {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _plain(config: SortingPipelineConfig) -> dict[str, Any]:
    groups = config.to_dict()
    flat = {name: groups[group][field.name] for name, (group, field) in flat_settings().items()}
    return {key: value for name, options in flat.items() for key, value in _leaves(name, options)}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    else:
        yield name, value
