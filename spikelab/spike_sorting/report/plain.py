"""Values of unknown origin as plain ones: strict JSON, numbers that may be missing, files that may be damaged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_plain(value: Any) -> Any:
    """Return `value` as strict JSON can hold it: NaN becomes None, infinities "inf", what is foreign its text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    # An array or a number of numpy, which need not be imported to be recognised.
    return to_plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def encoded(text: str) -> bytes:
    """Return `text` in UTF-8; a byte of a file's name that is no character is shown by its code."""
    return text.encode("utf-8", "backslashreplace")


def _plain_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def to_number(value: Any) -> float:
    """Return `value` as a float, NaN when it is none."""
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", False):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def finite(value: Any, digits: int = 6) -> float | None:
    """Return `value` with so many significant digits, or None when it is no finite number."""
    number = to_number(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`; an empty one when there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
