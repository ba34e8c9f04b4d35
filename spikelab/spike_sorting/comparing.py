"""Results of several sorters, read from where they lie and compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spikelab.spike_sorting.api import load_results

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData
    from spikelab.spikedata.agreement import Agreement


def compare_results(
    results: Sequence[str | Path],
    *,
    names: Sequence[str] | None = None,
    delta_ms: float = 0.4,
    min_agreement: float = 0.5,
) -> Agreement:
    """Return which units several sorts of one recording have in common, by SpikeInterface's comparison.

    Parameters
    ----------
    results : sequence of paths
        Two or more results folders, whose curated units are compared, or files of saved SpikeData.
    names : sequence of str, optional
        What to call them; default: the sorters, or the paths where one sorter has sorted several.
    delta_ms : float, default 0.4
        Spikes this close or closer are one spike.
    min_agreement : float, default 0.5
        Lowest agreement of units that match (0-1): the spikes in common, of all that either has.

    Returns
    -------
    Agreement
        Units by how many sortings have them, and each pair of sortings; ``table()`` and ``to_dict()`` for other
        programs.

    Raises
    ------
    FileNotFoundError
        One of them is no finished sort.
    ValueError
        They are not of one recording, one has no unit, or there is one only.

    Examples
    --------
    >>> from spikelab.spike_sorting import compare_results
    >>> agreement = compare_results(["sorted_kilosort4/a.raw.h5", "sorted_kilosort2/a.raw.h5"])  # doctest: +SKIP
    >>> agreement.n_found_by(2)  # doctest: +SKIP
    11
    """
    from spikelab.spikedata.agreement import compare_sorters

    sortings = [_load(Path(path)) for path in results]
    called = list(names) if names is not None else _names([os.fspath(path) for path in results], sortings)
    if len(set(called)) < len(sortings) or len(called) != len(sortings):
        msg = f"each of {len(sortings)} results needs a name of its own, got {called}; is one given twice?"
        raise ValueError(msg)
    return compare_sorters(dict(zip(called, sortings, strict=True)), delta_ms=delta_ms, min_agreement=min_agreement)


def _load(path: Path) -> SpikeData:
    from spikelab.spikedata import SpikeData

    return SpikeData.load(path) if path.is_file() else load_results(path)


def _names(paths: Sequence[str], sortings: Sequence[SpikeData]) -> list[str]:
    """Return the names of the sorters where each is another one, else the paths."""
    sorters = [str(sd.metadata.get("sorter") or "") for sd in sortings]
    return sorters if all(sorters) and len(set(sorters)) == len(sorters) else list(paths)
