"""Cross-correlograms without a compiler, which needs seconds before the first one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_PAIRS_AT_MOST = 1 << 21
"""Above it compiled code is faster by more than compiling takes."""

Trains = npt.NDArray[np.float64]
Correlogram = Callable[..., tuple[npt.NDArray[np.float64], float]]


def correlogram_beside(compiled: Correlogram) -> Correlogram:
    """Return a function that gives what ``kilosort.CCG.compute_CCG`` does, and calls it for many pairs of spikes."""

    def compute_ccg(
        st1: Trains, st2: Trains, tbin: float = 1 / 1000, nbins: int = 500
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Return how often spikes of `st2` follow those of `st1`, by lag.

        Parameters
        ----------
        st1, st2 : ndarray, float64
            Spike times (s).
        tbin : float
            Width of a bin (s).
        nbins : int
            Bins on each side.

        Returns
        -------
        counts : ndarray, shape (2 * nbins + 1,), float64
            Pairs by lag.
        duration : float
            From the first to the last spike of both (s).
        """
        one, two, reach = np.sort(st1), np.sort(st2), nbins * tbin
        low, high = np.searchsorted(one, two - reach, "right"), np.searchsorted(one, two + reach, "right")
        n_pairs = high - low
        if n_pairs.sum() > _PAIRS_AT_MOST:
            return compiled(st1, st2, tbin=tbin, nbins=nbins)
        later = np.repeat(np.arange(two.size), n_pairs)
        within = np.arange(later.size) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
        bins = np.round((two[later] - one[low[later] + within]) / tbin).astype(np.int64)
        counts = np.bincount(bins + nbins, minlength=2 * nbins + 1).astype(float)
        return counts, max(one[-1], two[-1]) - min(one[0], two[0])

    return compute_ccg
