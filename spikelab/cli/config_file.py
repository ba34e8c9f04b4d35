"""A configuration as a TOML file for people: every setting with what it means."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from spikelab.spike_sorting._not_yet import NOT_YET
from spikelab.spike_sorting._settings import flat_name, thaw
from spikelab.spike_sorting.config import SortingPipelineConfig

_WIDTH = 100


def to_toml(config: SortingPipelineConfig, *, with_docs: bool) -> str:
    """Return all settings as TOML that ``SortingPipelineConfig.from_toml`` reads back the same.

    Parameters
    ----------
    config : SortingPipelineConfig
        The settings.
    with_docs : bool
        Whether what each setting means stands above it.
    """
    groups = [getattr(config, group.name) for group in dataclasses.fields(config)]
    names = [group.name for group in dataclasses.fields(config)]
    parts = ["\n".join(_group(name, group, with_docs)) for name, group in zip(names, groups, strict=True)]
    return "\n\n".join([*([_introduction(config)] if with_docs else []), *parts]) + "\n"


def _introduction(config: SortingPipelineConfig) -> str:
    text = (
        f"Settings of spikelab, as the preset {config.sorter.sorter_name!r} has them. A sort reads this file with "
        'spikelab sort FILES --config THIS_FILE. A setting that is left out keeps its default; "none" stands for no '
        "value. Where a setting has another name in --set and in Python, that name is given."
    )
    return "\n".join(_comment(text))


def _group(name: str, group: Any, with_docs: bool) -> Iterator[str]:
    yield f"[{name}]"
    if with_docs:
        yield from _comment((type(group).__doc__ or "").strip())
    hints = get_type_hints(type(group))
    for field in dataclasses.fields(group):
        if with_docs:
            yield ""
            yield from _comment(meaning(field, hints[field.name]))
        yield f"{field.name} = {toml_value(thaw(getattr(group, field.name)))}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def meaning(field: dataclasses.Field[Any], hint: Any) -> str:
    """Return what a setting means, the words that it takes, and the name that it has elsewhere."""
    doc = str(field.metadata["doc"])
    if words := list(_words(hint)):
        doc += f" One of: {', '.join(words)}."
    name = flat_name(field)
    if name in NOT_YET:
        doc += " Planned: not part of this version, leave it as it is."
    return doc if name == field.name else f"{doc} (--set {name})"


def _words(hint: Any) -> Iterator[str]:
    """Yield the words that a setting takes, where it takes nothing else."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)


def toml_value(value: Any) -> str:
    """Return a plain value as TOML writes it on one line; None is the word "none"."""
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return _dumped("value", "none" if value is None else value).removeprefix("value = ")


def _key(key: str) -> str:
    return _dumped(key, 0).removesuffix(" = 0")


def _dumped(key: str, value: Any) -> str:
    import tomli_w

    return tomli_w.dumps({key: value}).removesuffix("\n")
