"""How a setting is declared, checked and made immutable: the machinery under `config`.

A setting carries its default, its unit, its range and one line of documentation in one place, so that
validation, the flat names of `override` and the settings reference all read the same source.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class FrozenMap(Mapping[str, Any]):
    """An immutable mapping that pickles, copies and hashes: nested settings of a sorter.

    Its values are plain at any depth, see `freeze`.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        frozen = {str(key): freeze(value) for key, value in (items or {}).items()}
        object.__setattr__(self, "_items", types.MappingProxyType(frozen))

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
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"FrozenMap({dict(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self),)


_WORDS = {"inf": math.inf, "-inf": -math.inf, "none": None}
"""What TOML, JSON and a command line have no other way to say."""


def freeze(value: Any) -> Any:
    """Return `value` immutable and plain at any depth: lists as tuples, mappings as FrozenMaps, arrays as tuples.

    The words "none", "inf" and "-inf" become what they stand for.

    Raises
    ------
    TypeError
        A value is none that a settings file could hold.
    ValueError
        A number is NaN.
    """
    value = _plain(value)
    if isinstance(value, Mapping):
        return FrozenMap(value)
    if isinstance(value, tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, float) and math.isnan(value):
        msg = "a setting must not be NaN"
        raise ValueError(msg)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    msg = f"a setting must be a number, a text, True, False, None, a list or a mapping, got {value!r}"
    raise TypeError(msg)


def _plain(value: Any) -> Any:
    """Return paths as texts, numpy's scalars and arrays as Python's own, lists as tuples; the rest as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def thaw(value: Any) -> Any:
    """Return `value` as plain JSON types: tuples as lists, FrozenMaps as dicts, infinities as "inf"."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def digest(value: Any) -> str:
    """Return a short name of plain values: equal for equal values, in this process and any other."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
    hints = _hints(group.__class__)
    for field in dataclasses.fields(group):
        name, hint = flat_name(field), hints[field.name]
        value = _coerce_named(name, getattr(group, field.name), hint)
        _check_type(name, value, hint)
        _check_range(name, value, field.metadata)
        object.__setattr__(group, field.name, value)


@cache
def _hints(cls: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(cls)


def _coerce_named(name: str, value: Any, hint: Any) -> Any:
    try:
        return _coerce(value, hint)
    except (TypeError, ValueError) as error:
        msg = f"{name}: {error}"
        raise type(error)(msg) from error


def _coerce(value: Any, hint: Any) -> Any:
    """Return `value` as `hint` wants it where that loses nothing, or as it is for `_check_type` to refuse."""
    value, options = _plain(value), _options(hint)
    if isinstance(value, Mapping) and FrozenMap in options:
        return FrozenMap(value)
    if isinstance(value, tuple):
        return _coerce_items(value, options)
    if isinstance(value, str) and value in _WORDS:
        meant = _WORDS[value]
        return meant if type(meant) in options else value
    if type(value) is int and float in options and int not in options:
        return float(value)
    return value


def _coerce_items(items: tuple[Any, ...], options: Sequence[Any]) -> tuple[Any, ...]:
    for option in options:
        if get_origin(option) is tuple:
            hints = _item_hints(option, len(items))
            return tuple(map(_coerce, items, hints)) if len(hints) == len(items) else items
    return items


def _item_hints(hint: Any, n: int) -> tuple[Any, ...]:
    """Return the hint of each of `n` items of the tuple `hint`."""
    inner = get_args(hint)
    return (inner[0],) * n if len(inner) == 2 and inner[1] is Ellipsis else inner


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the hint alone."""
    if get_origin(hint) in {Union, types.UnionType}:
        return get_args(hint)
    return (hint,)


def _check_type(name: str, value: Any, hint: Any) -> None:
    if _matches(value, hint):
        return
    msg = f"{name} must be {_describe(hint)}, got {value!r}"
    if isinstance(value, str) and any(get_origin(option) is Literal for option in _options(hint)):
        raise ValueError(msg)
    msg = f"{msg} ({type(value).__name__})"
    raise TypeError(msg)


def _matches(value: Any, hint: Any) -> bool:
    return any(_matches_one(value, option) for option in _options(hint))


def _matches_one(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        hints = _item_hints(hint, len(value))
        return len(hints) == len(value) and all(map(_matches, value, hints))
    if hint in {int, float}:
        return isinstance(value, hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    return " or ".join(_describe_one(option) for option in _options(hint))


def _describe_one(hint: Any) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text",
        type(None): "None",
        FrozenMap: "a mapping",
    }
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {list(inner)}" if len(inner) > 1 else repr(inner[0])
    if get_origin(hint) is tuple and inner[-1] is Ellipsis:
        return f"a list (of {_describe(inner[0])})"
    if get_origin(hint) is tuple:
        return f"({', '.join(map(_describe, inner))})"
    return names[hint]


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
    if math.isinf(low) and math.isinf(high):
        return "a number"
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
        The text is no amount of memory, or it is less than a byte.
    """
    if isinstance(memory, int):
        n_bytes = memory
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", memory, re.IGNORECASE)
        number, unit, binary = match.groups() if match else ("0", "", "")
        n_bytes = int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))
    if n_bytes < 1:
        msg = f'total_memory must be a number of bytes or a text such as "16G", above 0, got {memory!r}'
        raise ValueError(msg)
    return n_bytes


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML document says.

    Raises
    ------
    ValueError
        It is none.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    return tomllib.loads(text)


def closest(name: str, names: Sequence[str]) -> str:
    """Return the hint "; did you mean 'x'?" for a misspelt `name`, or nothing when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
