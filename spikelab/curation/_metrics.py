"""The numbers that the criteria judge, one value per unit, computed from the spike trains alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikelab.curation._result import Floats

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

# Times are samples divided by a rate: an interval of exactly the threshold may come out a rounding short. A
# nanosecond is far below a sample and far above the rounding of a day in ms.
ROUNDING_MS = 1e-6


def spike_counts(sd: SpikeData) -> npt.NDArray[np.int64]:
    """Return the number of spikes of each unit, shape (N,)."""
    return np.array([train.size for train in sd.train], dtype=np.int64)


def count_short_intervals(sd: SpikeData, threshold_ms: float) -> npt.NDArray[np.int64]:
    """Return how many intervals of each unit are shorter than the threshold, shape (N,)."""
    limit_ms = threshold_ms - ROUNDING_MS
    counts = [np.count_nonzero(train[1:] - train[:-1] < limit_ms) for train in sd.train]
    return np.array(counts, dtype=np.int64)


def isi_violation_percent(sd: SpikeData, threshold_ms: float) -> Floats:
    """Return the percentage (0-100) of spikes that follow the previous one too closely, shape (N,)."""
    n_spikes = np.maximum(spike_counts(sd), 1)
    return 100.0 * count_short_intervals(sd, threshold_ms) / n_spikes


def isi_violation_ratio(sd: SpikeData, threshold_ms: float, min_isi_ms: float) -> Floats:
    r"""Return the violation ratio of Hill et al. 2011, shape (N,).

    Rate of the violating intervals over the rate of the unit,

    .. math:: \frac{n_v T}{2 n^2 (\tau_R - \tau_C)}

    with :math:`n` spikes, :math:`n_v` violations, duration :math:`T` (without what is blanked), refractory period
    :math:`\tau_R` (``threshold_ms``) and censored period :math:`\tau_C` (``min_isi_ms``).
    """
    n_spikes = np.maximum(spike_counts(sd), 1).astype(np.float64)
    n_violations = count_short_intervals(sd, threshold_ms)
    ratio = n_violations * sd.observed_ms / (2.0 * n_spikes**2 * (threshold_ms - min_isi_ms))
    # Spikes that all fall on one instant violate without any time having passed.
    return np.where((sd.length == 0) & (n_violations > 0), np.inf, ratio)
