"""Which settings of a run differ from those that its sorter comes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting.config import SortingPipelineConfig, flat_settings
from spikelab.spike_sorting.report.plain import mapping


@dataclass(frozen=True)
class Change:
    """A setting that is not as in the preset.

    Parameters
    ----------
    name : str
        Its name in ``override(...)``.
    value, preset : str
        What was used, and what the preset has.
    doc : str
        What it means; empty when this version does not know it.
    """

    name: str
    value: str
    preset: str
    doc: str


def config_of(config_used: Mapping[str, Any]) -> SortingPipelineConfig:
    """Return the settings in ``config_used.json``; the defaults when another version wrote it."""
    try:
        return SortingPipelineConfig.from_dict(mapping(config_used.get("config")))
    except (TypeError, ValueError):
        return SortingPipelineConfig()


def changed_settings(config_used: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the settings that differ from the preset of the sorter, by their flat names."""
    used = mapping(config_used.get("config"))
    preset = _preset(used)
    changes = []
    for group, settings in used.items():
        for field, value in mapping(settings).items():
            ours = mapping(preset.get(group)).get(field)
            if value != ours:
                name, doc = _described(group, field)
                changes.append(Change(name, value_text(value), value_text(ours), doc))
    return tuple(changes)


def _preset(used: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    name = mapping(used.get("sorter")).get("sorter_name")
    try:
        return SortingPipelineConfig.preset(str(name) if name else None).to_dict()
    except ValueError:  # a sorter of another version
        return SortingPipelineConfig().to_dict()


def _described(group: str, field: str) -> tuple[str, str]:
    for name, (home, known) in flat_settings().items():
        if (home, known.name) == (group, field):
            return name, known.metadata["doc"]
    return field, ""


def value_text(value: Any) -> str:
    """Return the value of a setting as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={value_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        items = ", ".join(map(value_text, value[:8]))
        return f"{items}, ... ({len(value)})" if len(value) > 8 else items
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
