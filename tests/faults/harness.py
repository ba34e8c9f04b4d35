"""What fault tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

InNamespace = Callable[..., Any]
"""Runs a program of ``inside/`` in a private namespace."""
InNamespaces = Callable[..., list[Any]]
"""Runs one with several settings."""
Tally = Callable[..., None]
"""Notes for the table how often a promise was tried, and held."""
JobOf = Callable[..., dict[str, Any]]
"""Describes a sort of the recording in folders of its own."""

slow = pytest.mark.slow


@dataclass(frozen=True)
class Undisturbed:
    """A recording and its sort on a quiet machine: what every disturbed sort must come to.

    Parameters
    ----------
    file : str
        The recording.
    inter, results : str
        Folders of the undisturbed sort.
    """

    file: str
    inter: str
    results: str


OPTIONS: dict[str, Any] = {"n_jobs": 1, "save_raw_pkl": True, "create_figures": False, "preflight": False}
"""Preflight takes half a second: it runs where a whole night is tried, and is left out of the many short trials."""
WHOLE: dict[str, Any] = {"preflight": True}


def sort_options(behaviour: str = "ok", **more: Any) -> dict[str, Any]:
    """Return settings under which the fake sorter behaves as told; further parameters are the sorter's."""
    return {**OPTIONS, "kilosort_params": {"behaviour": behaviour, **more}}
