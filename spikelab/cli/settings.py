"""From ``--sorter``, ``--config`` and ``--set`` to a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spikelab.cli.output import UsageProblem, usage_errors
from spikelab.spike_sorting._settings import parse_toml, thaw
from spikelab.spike_sorting._toml_lines import line_of
from spikelab.spike_sorting.config import SortingPipelineConfig, flat_settings

_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
"""Words in any spelling; TOML knows two of them, in lower case only."""


def read_settings(sorter: str | None, config_file: Path | None, assignments: Sequence[str]) -> SortingPipelineConfig:
    """Return the configuration that the options of a command describe.

    Parameters
    ----------
    sorter : str or None
        Name of a sorter, for its preset.
    config_file : Path or None
        TOML file with settings.
    assignments : sequence of str
        ``key=value``; they win over the file.

    Raises
    ------
    UsageProblem
        An option is wrong; the message is the one of the configuration.
    """
    from spikelab.spike_sorting.call_settings import resolve_config, unchecked_config

    with usage_errors():
        base = SortingPipelineConfig.from_toml(config_file) if config_file is not None else None
        start = unchecked_config(base, sorter, {})
        return resolve_config(start, None, read_assignments(assignments, start))


def read_config(sorter: str | None, config_file: Path | None, assignments: Sequence[str]) -> SortingPipelineConfig:
    """Return what `read_settings` does, with the parameters of the sorter checked by the sorter.

    Raises
    ------
    UsageProblem
        An option is wrong; one in a file is told with its line.
    """
    from spikelab.spike_sorting.backends import get_backend

    config = read_settings(sorter, config_file, assignments)
    try:
        get_backend(config.sorter.sorter_name).check_params(config)
    except (TypeError, ValueError) as error:
        place = "" if config_file is None else _place_of_parameter(config_file, str(error))
        msg = f"{place}{error}"
        raise UsageProblem(msg) from error
    return config


def _place_of_parameter(file: Path, message: str) -> str:
    """Return "FILE, line 3: " where `message` names a parameter of the sorter that stands in `file`."""
    text = file.read_text(encoding="utf-8")
    for name in parse_toml(text).get("sorter", {}).get("sorter_params", {}):
        if re.search(rf"\b{re.escape(name)}\b", message.partition(";")[0]):
            line = line_of(text, "sorter.sorter_params", name) or line_of(text, "sorter", "sorter_params")
            return f"{file}, line {line}: " if line else f"{file}: "
    return ""


def read_assignments(assignments: Sequence[str], config: SortingPipelineConfig) -> dict[str, Any]:
    """Return the settings in ``key=value`` texts by flat name.

    ``kilosort_params.Th_learned=7`` sets one entry of a mapping and leaves the others as `config` has them.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            msg = f"--set takes key=value, got {assignment!r}"
            raise UsageProblem(msg, "For example --set snr_min=6, once for each setting.")
        name, _, entry = name.strip().partition(".")
        if entry:
            values[name] = {**_mapping(name, values, config), entry: parse_value(text)}
        else:
            values[name] = _fitting(name, text, config)
    return values


def parse_value(text: str) -> Any:
    """Return `text` as a TOML value (6, 0.1, true, [1, 2], "a"), or as it stands when it is none."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def changed_settings(config: SortingPipelineConfig) -> dict[str, Any]:
    """Return the settings in which `config` differs from the preset of its sorter, by flat name."""
    return {name: value for name, (value, _) in differences(config).items()}


def differences(config: SortingPipelineConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which `config` differs from the preset of its sorter: flat name -> (value, preset's)."""
    preset = SortingPipelineConfig.preset(config.sorter.sorter_name)
    changed = {}
    for name, (group, field) in flat_settings().items():
        ours, theirs = (getattr(getattr(one, group), field.name) for one in (config, preset))
        if ours != theirs:
            changed[name] = (thaw(ours), thaw(theirs))
    return changed


def _fitting(name: str, text: str, config: SortingPipelineConfig) -> Any:
    """Return the value of `text`, or `text` itself where the setting takes a text such as "3" or "1e5"."""
    value = parse_value(text)
    if _takes(config, name, value) or not _takes(config, name, text.strip()):
        return value
    return text.strip()


def _takes(config: SortingPipelineConfig, name: str, value: Any) -> bool:
    """Return whether `value` is of a type that the setting takes; its range is checked with all others later."""
    try:
        config.override(**{name: value})
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _mapping(name: str, values: Mapping[str, Any], config: SortingPipelineConfig) -> dict[str, Any]:
    homes = flat_settings()
    if name in values or name not in homes:
        present = values.get(name, {})
    else:
        group, field = homes[name]
        present = getattr(getattr(config, group), field.name)
    if not isinstance(present, Mapping):
        msg = f"{name} is a single value and has no entries"
        raise UsageProblem(msg, f"Give --set {name}=VALUE.")
    return dict(present)
