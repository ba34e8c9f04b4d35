"""Rates, intervals, and spikes counted in bins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from spikelab.spikedata._chunks import BLANKED
from spikelab.spikedata._trains import Floats, Ints, group_by_unit, merge_trains

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from spikelab.spikedata.spikedata import SpikeData


def rates(sd: SpikeData, unit: Literal["Hz", "kHz"] = "Hz") -> Floats:
    """Return the mean rate of each unit, shape (N,): spikes over the time observed; 0 when there is none.

    That is `length` without the periods in ``metadata["blanked_ms"]``, in which no spike could be seen.
    """
    if unit not in {"Hz", "kHz"}:
        msg = f"unit must be 'Hz' or 'kHz', got {unit!r}"
        raise ValueError(msg)
    counts = np.array([times.size for times in sd.train], dtype=np.float64)
    seen_ms = observed_ms(sd)
    per_ms = counts / seen_ms if seen_ms else np.zeros(sd.N)
    return per_ms * (1000.0 if unit == "Hz" else 1.0)


def observed_ms(sd: SpikeData) -> float:
    """Return the duration in which spikes can be seen (ms): `length` without what is blanked of it.

    ``metadata["blanked_ms"]`` holds periods as (start, end) in ms, sorted and apart, such as those around artifacts
    of stimulation.
    """
    blanked = np.asarray(sd.metadata.get(BLANKED, ()), dtype=np.float64).reshape(-1, 2)
    within = np.clip(blanked, sd.start_time, sd.end_time)
    return max(0.0, sd.length - float((within[:, 1] - within[:, 0]).sum()))


def interspike_intervals(sd: SpikeData) -> list[Floats]:
    """Return the intervals (ms) between successive spikes of each unit, shapes (n_spikes - 1,)."""
    return [np.diff(times) for times in sd.train]


def idces_times(sd: SpikeData) -> tuple[Ints, Floats]:
    """Return unit index and time (ms) of every spike, by time; spikes at one time by unit."""
    return merge_trains(sd.train)


def binned(sd: SpikeData, bin_size_ms: float) -> Ints:
    """Return the number of spikes of all units in each bin, shape (n_bins,).

    Bins are half-open and begin at `start_time`; the last one includes the end of the recording.
    """
    n_bins = _count_bins(sd.length, bin_size_ms)
    every_time = np.concatenate([np.zeros(0), *sd.train])
    bins = _bin_of(every_time, sd.start_time, bin_size_ms, n_bins)
    return np.bincount(bins, minlength=n_bins)


def raster(sd: SpikeData, bin_size_ms: float) -> Ints:
    """Return the number of spikes of each unit in each bin, shape (N, n_bins).

    Bins are half-open and begin at `start_time`; the last one includes the end of the recording.
    """
    dense: Ints = sd.sparse_raster(bin_size_ms).toarray()
    return dense


def sparse_raster(sd: SpikeData, bin_size_ms: float) -> csr_array:
    """Return :meth:`raster` as a scipy sparse array, for many units and small bins."""
    from scipy.sparse import csr_array

    n_bins = _count_bins(sd.length, bin_size_ms)
    bins = [_bin_of(times, sd.start_time, bin_size_ms, n_bins) for times in sd.train]
    columns = np.concatenate([np.zeros(0, dtype=np.int64), *bins])
    ends = np.cumsum([0, *(part.size for part in bins)])
    counts = csr_array((np.ones(columns.size, dtype=np.int64), columns, ends), shape=(sd.N, n_bins))
    counts.sum_duplicates()
    return counts


def from_idces_times(
    cls: type[SpikeData], /, idces: npt.ArrayLike, times: npt.ArrayLike, *, N: int | None = None, **parts: Any
) -> SpikeData:
    """Return the units of paired vectors: spike k belongs to unit ``idces[k]`` and is at ``times[k]`` ms.

    Parameters
    ----------
    idces : array-like of int, shape (n_spikes,)
        Unit of each spike.
    times : array-like of float, shape (n_spikes,)
        Time (ms) of each spike, in any order; several may coincide.
    N : int, optional
        Number of units; default: the highest index + 1.
    **parts : object
        Further arguments of the constructor (length, start_time, ...).

    Raises
    ------
    ValueError
        When the vectors differ in length or an index is out of range.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> SpikeData.from_idces_times([1, 0, 1], [3.0, 3.0, 1.0], length=5.0).train[1].tolist()
    [1.0, 3.0]
    """
    return cls(group_by_unit(idces, times, N), **parts)


def from_raster(
    cls: type[SpikeData], /, raster: Any, bin_size_ms: float, *, start_time: float = 0.0, **parts: Any
) -> SpikeData:
    """Return units with as many spikes in each bin as a raster counts, evenly spread inside the bin.

    Parameters
    ----------
    raster : array-like or scipy sparse, shape (N, n_bins)
        Spike counts.
    bin_size_ms : float
        Width of a bin (ms).
    start_time : float, default 0.0
        Time (ms) at which the first bin begins.
    **parts : object
        Further arguments of the constructor; `length` is that of all bins unless given.

    Raises
    ------
    ValueError
        When the raster is no matrix of counts or the bin size is not positive.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> SpikeData.from_raster([[0, 2]], bin_size_ms=10.0).train[0].tolist()
    [12.5, 17.5]
    """
    _count_bins(0.0, bin_size_ms)
    counts = raster.toarray() if hasattr(raster, "toarray") else np.asarray(raster)
    trains = _spread_counts(counts, bin_size_ms, start_time)
    return cls(trains, start_time=start_time, **{"length": counts.shape[1] * bin_size_ms, **parts})


# ---------------------------------------------------------------- bins


def _count_bins(length_ms: float, bin_size_ms: float) -> int:
    """Return how many bins cover the length; at least one.

    Raises
    ------
    ValueError
        When the bin size is not positive.
    """
    if not (math.isfinite(bin_size_ms) and bin_size_ms > 0):
        msg = f"bin_size_ms must be positive, got {bin_size_ms}"
        raise ValueError(msg)
    n_bins = length_ms / bin_size_ms
    return max(math.ceil(n_bins - float(_rounding(n_bins))), 1)


def _bin_of(times: Floats, start_time: float, bin_size_ms: float, n_bins: int) -> Ints:
    """Return the bin of each time; bins are half-open, the last one includes the end."""
    position = (times - start_time) / bin_size_ms
    # 0.3 / 0.1 is 2.9999999999999996: a spike on an edge belongs to the bin that the edge opens.
    bins = np.floor(position + _rounding(position)).astype(np.int64)
    clipped: Ints = np.clip(bins, 0, n_bins - 1)
    return clipped


def _rounding(position: Any) -> Any:
    return 4 * np.spacing(np.abs(position))


def _spread_counts(counts: Any, bin_size_ms: float, start_time: float) -> list[Floats]:
    """Return trains with as many spikes in each bin as the raster counts, evenly spread inside the bin.

    Raises
    ------
    ValueError
        When the raster is not 2-D or holds anything but counts.
    """
    raster = np.asarray(counts)
    if raster.ndim != 2 or raster.dtype.kind not in "biuf" or (raster != np.floor(raster)).any() or (raster < 0).any():
        msg = f"raster must be a matrix (units, bins) of spike counts, got shape {raster.shape}, {raster.dtype}"
        raise ValueError(msg)
    return [start_time + bin_size_ms * _positions(row.astype(np.int64)) for row in raster]


def _positions(counts: Ints) -> Floats:
    """Return positions in units of bins."""
    bins = np.repeat(np.arange(counts.size), counts)
    first_of_bin = np.repeat(np.cumsum(counts) - counts, counts)
    within = (np.arange(bins.size) - first_of_bin + 0.5) / counts[bins]
    return bins + within
