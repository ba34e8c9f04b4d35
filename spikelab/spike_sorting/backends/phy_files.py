"""Files for Phy, as sorters of the Kilosort family leave them: read with suspicion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SorterCrashedError


def load_array(path: Path, sorter: str) -> Any:
    """Return the array in an ``.npy`` file; raise SorterCrashedError when it is missing or cut."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{sorter} left no readable {path.name} ({error})"
        raise SorterCrashedError(msg, sorter=sorter) from error


def unit_column(path: Path, kind: type, unit_ids: Any, sorter: str) -> list[Any]:
    """Return the value of each unit from a table of two columns; raise SorterCrashedError when it lacks one."""
    try:
        lines = _whole_lines(path.read_text(encoding="utf-8"))[1:]
        values = {int(key): kind(value) for key, value in (line.split("\t") for line in lines)}
        return [values[int(unit)] for unit in unit_ids]
    except (OSError, ValueError, KeyError) as error:
        msg = f"{sorter} left no complete {path.name} ({error!r})"
        raise SorterCrashedError(msg, sorter=sorter) from error


def _whole_lines(text: str) -> list[str]:
    """Return the lines of `text`; raise ValueError when the last one is cut: "goo" would be a label, too."""
    *lines, rest = text.split("\n")
    if rest:
        msg = f"its last line, {rest!r}, has no end"
        raise ValueError(msg)
    return lines
