"""Two spike trains as one: what they share, and whether one neuron can have fired both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikelab.curation._metrics import ROUNDING_MS
from spikelab.curation._result import Floats

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Union:
    """What becomes of two trains when they are one."""

    kept: Mask
    """Shape (n_spikes,): the spikes of the second train that the first one does not have already."""
    order: npt.NDArray[np.int64]
    """Sorts the first train followed by the kept spikes of the second."""
    times_ms: Floats
    """The union, ascending."""

    @property
    def n_common(self) -> int:
        """Spikes of the second train that the first one has already."""
        return int(self.kept.size - np.count_nonzero(self.kept))


def unite(first_ms: Floats, second_ms: Floats, delta_ms: float) -> Union:
    """Return the union of two ascending trains; spikes at most `delta_ms` apart are one, that of the first train."""
    kept = np.minimum(*gaps_to_nearest(first_ms, second_ms)) > delta_ms + ROUNDING_MS
    times_ms = np.concatenate([first_ms, second_ms[kept]])
    order = np.argsort(times_ms, kind="stable")
    return Union(kept, order, times_ms[order])


def gaps_to_nearest(first_ms: Floats, second_ms: Floats) -> tuple[Floats, Floats]:
    """Return the time since the last spike of the first train at each of the second, and until the next one.

    Both have shape (n_second,); a spike at the same time is the next one, and infinity stands for none.
    """
    bordered = np.concatenate([[-np.inf], first_ms, [np.inf]])
    right = np.searchsorted(first_ms, second_ms)
    return second_ms - bordered[right], bordered[right + 1] - second_ms


def violation_fraction(times_ms: Floats, threshold_ms: float) -> float:
    """Return the share of spikes that follow the previous one by less than the threshold; 0 without spikes."""
    if not times_ms.size:
        return 0.0
    return float(np.count_nonzero(times_ms[1:] - times_ms[:-1] < threshold_ms - ROUNDING_MS)) / times_ms.size


def count_meetings(gaps_ms: tuple[Floats, Floats], delta_ms: float, threshold_ms: float) -> int:
    """Return how often a spike that is not shared lies within the threshold of a neighbour in the other train.

    Parameters
    ----------
    gaps_ms : tuple of ndarray
        What :func:`gaps_to_nearest` returned.
    delta_ms : float
        Spikes at most this far apart are one.
    threshold_ms : float
        Refractory period (ms).
    """
    is_own = np.minimum(*gaps_ms) > delta_ms + ROUNDING_MS
    return sum(int(np.count_nonzero(is_own & (gaps < threshold_ms - ROUNDING_MS))) for gaps in gaps_ms)
