"""How a setting is declared, checked and made immutable: the machinery under `config`.

A setting carries its default, its unit, its range and one line of documentation in one place, so that
validation, the flat names of `override` and the settings reference all read the same source.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class FrozenMap(Mapping[str, Any]):
    """An immutable mapping that pickles, copies and hashes: nested settings of a sorter."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        frozen = {str(key): freeze(_infinity(value)) for key, value in (items or {}).items()}
        object.__setattr__(self, "_items", frozen)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        msg = f"{type(self).__name__} is immutable; build a new one to change {name!r}"
        raise AttributeError(msg)

    def __hash__(self) -> int:
        return hash(tuple(sorted((key, repr(value)) for key, value in self.items())))

    def __repr__(self) -> str:
        return f"FrozenMap({dict(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self),)


def _infinity(value: Any) -> Any:
    """JSON has no infinity: it is written "inf" and read back here."""
    return float(value) if isinstance(value, str) and value in {"inf", "-inf"} else value


def freeze(value: Any) -> Any:
    """Return `value` with lists turned into tuples and mappings into FrozenMaps, at any depth."""
    if isinstance(value, Mapping):
        return FrozenMap(value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return `value` as plain JSON types: tuples as lists, FrozenMaps as dicts, infinities as "inf"."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def setting(
    default: Any,
    doc: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    flat: str | None = None,
) -> Any:
    """Declare a setting: its default, one line on unit and use, its range, and its flat name.

    Parameters
    ----------
    default : object
        Value of a fresh configuration; immutable.
    doc : str
        One sentence: meaning, unit, and when to change it.
    low, high : float, default -inf, inf
        Allowed range, both ends included. A sequence is checked element by element.
    above : float or None, default None
        Lower end that is excluded.
    flat : str or None, default None
        Name in ``override(...)`` where it differs from the field's.
    """
    metadata = {"doc": doc, "low": low, "high": high, "above": above, "flat": flat}
    if isinstance(default, FrozenMap):
        return dataclasses.field(default_factory=FrozenMap, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def flat_name(field: dataclasses.Field[Any]) -> str:
    """Return the name of `field` in ``override(...)``."""
    return field.metadata.get("flat") or field.name


def check_settings(group: Any) -> None:
    """Coerce and check every field of the frozen dataclass `group`, from its ``__post_init__``.

    Raises
    ------
    TypeError
        A value is of the wrong type; names the field, what was expected and what was found.
    ValueError
        A value is out of its range, or not among the allowed ones.
    """
    hints = get_type_hints(type(group))
    for field in dataclasses.fields(group):
        value = _coerce(getattr(group, field.name), hints[field.name])
        _check_type(flat_name(field), value, hints[field.name])
        _check_range(flat_name(field), value, field.metadata)
        object.__setattr__(group, field.name, value)


def _coerce(value: Any, hint: Any) -> Any:
    options = _options(hint)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if float in options:
        value = _infinity(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in options and int not in options:
        return float(value)
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return _coerce(value.tolist(), hint)
    return freeze(value)


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the hint alone."""
    if get_origin(hint) in {Union, types.UnionType}:
        return get_args(hint)
    return (hint,)


def _check_type(name: str, value: Any, hint: Any) -> None:
    if any(_matches(value, option) for option in _options(hint)):
        return
    literals = [item for option in _options(hint) if get_origin(option) is Literal for item in get_args(option)]
    if literals and isinstance(value, str):
        msg = f"{name} must be one of {literals}, got {value!r}"
        raise ValueError(msg)
    msg = f"{name} must be {_describe(hint)}, got {value!r} ({type(value).__name__})"
    raise TypeError(msg)


def _matches(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if origin is tuple:
        return _matches_tuple(value, get_args(hint))
    if hint is type(None):
        return value is None
    if hint in {int, float}:
        return isinstance(value, hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _matches_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(any(_matches(_coerce(item, o), o) for o in _options(inner[0])) for item in value)
    return len(value) == len(inner) and all(
        _matches(_coerce(item, hint), hint) for item, hint in zip(value, inner, strict=True)
    )


def _describe(hint: Any) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text",
        type(None): "None",
        FrozenMap: "a mapping",
    }
    described = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            described.append(f"one of {list(get_args(option))}")
        elif get_origin(option) is tuple:
            described.append("a list")
        else:
            described.append(names.get(option, str(option)))
    return " or ".join(described)


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    if isinstance(value, tuple):
        for item in value:
            _check_range(name, item, metadata)
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    low, high, above = metadata["low"], metadata["high"], metadata["above"]
    inside = low <= value <= high and (above is None or value > above)
    if not inside:
        msg = f"{name} must be {_describe_range(low, high, above)}, got {value!r}"
        raise ValueError(msg)


def _describe_range(low: float, high: float, above: float | None) -> str:
    if above is not None:
        upper = "" if math.isinf(high) else f" and at most {high:g}"
        return f"above {above:g}{upper}"
    if math.isinf(high):
        return f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    return f"between {low:g} and {high:g}"


def check_order(low_name: str, low: float | None, high_name: str, high: float | None) -> None:
    """Raise ValueError unless `low` lies below `high`; None is no bound."""
    if low is not None and high is not None and not low < high:
        msg = f"{low_name} must lie below {high_name}, got {low:g} and {high:g}"
        raise ValueError(msg)


def check_exclusive(first: str, one: object, second: str, other: object) -> None:
    """Raise ValueError when two settings that exclude each other are both given."""
    if one is not None and other is not None:
        msg = f"give {first} or {second}, not both"
        raise ValueError(msg)


def memory_bytes(memory: str | int) -> int:
    """Return an amount of memory in bytes: a number, or a text such as "16G" or "500M" (powers of 1000).

    Raises
    ------
    ValueError
        The text is no amount of memory.
    """
    if isinstance(memory, int):
        return memory
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", memory)
    if match is None:
        msg = f'total_memory must be bytes or a text such as "16G", got {memory!r}'
        raise ValueError(msg)
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kMGT".index(unit or " "))


def closest(name: str, names: Sequence[str]) -> str:
    """Return the hint "; did you mean 'x'?" for a misspelt `name`, or nothing when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
