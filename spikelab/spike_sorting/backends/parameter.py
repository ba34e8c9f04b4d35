"""A parameter of a sorter as a value: its type, its range, and what is wrong with a value for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting._settings import closest


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sorter.

    Parameters
    ----------
    kind : type
        int, float, bool or list.
    low, high : float
        Allowed range, both ends included; of a list: of each of its numbers.
    default : object
        The sorter's own value.
    unit : str
        Unit, or nothing for plain numbers.
    meaning : str
        One line: what it does.
    excluded : tuple of float, default ()
        Values within the range that are not allowed.
    optional : bool, default False
        Whether None is allowed.
    length : int, default 0
        How many numbers a list has.
    """

    kind: type
    low: float
    high: float
    default: Any
    unit: str
    meaning: str
    excluded: tuple[float, ...] = ()
    optional: bool = False
    length: int = 0

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, or None."""
        if value is None:
            return None if self.optional else f"must be {self}"
        return None if self._allows(value) else f"must be {self}"

    def _allows(self, value: Any) -> bool:
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is list:
            is_list = isinstance(value, (list, tuple)) and len(value) == self.length
            return is_list and all(self._holds(item, (int, float)) for item in value)
        return self._holds(value, (int, float) if self.kind is float else (int,))

    def _holds(self, number: Any, kinds: tuple[type, ...]) -> bool:
        if not isinstance(number, kinds) or isinstance(number, bool):
            return False
        amount: Any = number
        return bool(self.low <= amount <= self.high) and amount not in self.excluded

    def __str__(self) -> str:
        bounds = "".join(f", {bound}" for bound in self.bounds())
        none = ", or None" if self.optional else ""
        return f"{self.type_name()}{bounds}{none}"

    def type_name(self) -> str:
        """Return the type in words."""
        names = {int: "a whole number", float: "a number", bool: "True or False"}
        return names.get(self.kind, f"a list of {self.length} numbers")

    def bounds(self) -> list[str]:
        """Return the range in words, one entry for each end and each excluded value."""
        bounds = [f"at least {self.low:g}"] if math.isfinite(self.low) else []
        bounds += [f"at most {self.high:g}"] if math.isfinite(self.high) else []
        return bounds + [f"not {value:g}" for value in self.excluded]


def number(default: float | None, unit: str, meaning: str, *, low: float = 0, optional: bool = False) -> Parameter:
    """Return a parameter that takes any number from `low` on."""
    return Parameter(float, low, math.inf, default, unit, meaning, optional=optional)


def positive(default: float | None, unit: str, meaning: str, *, optional: bool = False) -> Parameter:
    """Return a parameter that takes any number above 0."""
    return Parameter(float, 0, math.inf, default, unit, meaning, excluded=(0,), optional=optional)


def count(
    default: int | None, unit: str, meaning: str, *, low: float = 1, high: float = math.inf, optional: bool = False
) -> Parameter:
    """Return a parameter that takes whole numbers from `low` to `high`."""
    return Parameter(int, low, high, default, unit, meaning, optional=optional)


def known_parameter(
    name: str, parameters: Mapping[str, Parameter], instead: Mapping[str, str], *, setting: str, sorter: str
) -> Parameter:
    """Return the parameter `name` of `sorter`, which `setting` holds; raise ValueError saying what to use instead."""
    if name in parameters:
        return parameters[name]
    if name in instead:
        msg = f"{setting} takes no {name!r} for {sorter}: {instead[name]}"
        raise ValueError(msg)
    msg = f"{sorter} has no parameter {name!r}{closest(name, list(parameters))}; it takes {sorted(parameters)}"
    raise ValueError(msg)
