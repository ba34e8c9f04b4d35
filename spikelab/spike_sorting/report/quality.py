"""Statistics over the units of a result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.metrics import METRICS, measure
from spikelab.spike_sorting.report.plain import finite
from spikelab.spike_sorting.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata import SpikeData

_QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}


def extract_unit_quality_stats(spikedata_or_path: SpikeData | str | os.PathLike[str]) -> dict[str, Any]:
    """Return how good the units of a result are, as strict JSON.

    Parameters
    ----------
    spikedata_or_path : SpikeData or path
        The units, their ``.h5`` file, or a results folder (then the curated units).

    Returns
    -------
    dict
        ``n_units``, ``n_spikes``, and for ``amplitude_uV``, ``snr``, ``std_norm``, ``isi_violation_pct``,
        ``contamination_pct``, ``firing_rate_Hz``, ``spikes_per_unit`` and ``stim_latency_ms`` a dict {n, min, q25,
        median, q75, max} over the units that have a finite value; where none has, n is 0 and the others are None.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is none of a SpikeData.
    """
    sd = _spikedata(spikedata_or_path)
    measured = measure(sd)
    return {
        "n_units": sd.N,
        "n_spikes": sum(len(train) for train in sd.train),
        **{metric.name: _spread(measured[metric.name]) for metric in METRICS},
    }


def _spikedata(given: SpikeData | str | os.PathLike[str]) -> SpikeData:
    if not isinstance(given, (str, os.PathLike)):
        return given
    from spikelab.spikedata import SpikeData

    path = Path(given)
    return SpikeData.load(RunFolder(path, path).curated if path.is_dir() else path)


def _spread(values: NDArray[np.float64]) -> dict[str, float | int | None]:
    import numpy as np

    known = values[np.isfinite(values)]
    if known.size == 0:
        return {"n": 0, **dict.fromkeys(_QUANTILES)}
    return {"n": int(known.size), **{name: finite(np.quantile(known, q)) for name, q in _QUANTILES.items()}}
