"""What each criterion did, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from spikelab.curation._result import CriterionResult

if TYPE_CHECKING:
    import pandas as pd


def curation_summary(results: Mapping[str, CriterionResult]) -> pd.DataFrame:
    """Return how many units each criterion passed and removed, in the order in which the criteria were given.

    Parameters
    ----------
    results : mapping of str to dict
        What ``curate()`` returned, or ``{"snr": res}`` of one criterion.

    Returns
    -------
    pandas.DataFrame
        Index ``criterion``; columns ``n_units``, ``n_passed``, ``n_removed``, ``n_removed_alone`` (units that fail no
        other criterion), ``n_left`` (units that pass this criterion and all before it), and of the metric ``lowest``,
        ``median`` and ``highest`` over the units that have one.

    Raises
    ------
    ValueError
        When the criteria were judged on different numbers of units.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 20.0, 40.0], [5.0], [6.0, 7.0]], length=1000.0)
    >>> curated, results = sd.curate(min_spikes=2, isi_max=1.0)
    >>> curation_summary(results)["n_left"].tolist()
    [2, 1]
    """
    import pandas as pd

    sizes = {name: len(result["passed"]) for name, result in results.items()}
    if len(set(sizes.values())) > 1:
        msg = f"results must have one value per unit of one SpikeData, found {sizes}; summarise each curation by itself"
        raise ValueError(msg)
    passed = {name: np.asarray(result["passed"], dtype=bool) for name, result in results.items()}
    n_failed = np.sum([~mask for mask in passed.values()], axis=0)
    left = np.ones(next(iter(sizes.values()), 0), dtype=bool)
    rows = []
    for name, mask in passed.items():
        left = left & mask
        rows.append(
            {
                "criterion": name,
                "n_units": mask.size,
                "n_passed": int(mask.sum()),
                "n_removed": int((~mask).sum()),
                "n_removed_alone": int((~mask & (n_failed == 1)).sum()),
                "n_left": int(left.sum()),
                **_range(results[name]),
            }
        )
    columns = ["criterion", "n_units", "n_passed", "n_removed", "n_removed_alone", "n_left", *_RANGE]
    return pd.DataFrame(rows, columns=columns).set_index("criterion")


_RANGE = ("lowest", "median", "highest")


def _range(result: CriterionResult) -> dict[str, float]:
    metric = np.asarray(result["metric"], dtype=np.float64)
    known = metric[~np.isnan(metric)]
    if not known.size:
        return dict.fromkeys(_RANGE, np.nan)
    return dict(zip(_RANGE, (float(known.min()), float(np.median(known)), float(known.max())), strict=True))
