"""Files that are read in a wrong way: samples of another type or byte order, or another number of channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.samples.glance import Glance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MUCH_SMALLER = 1 / 8
_SHORTEST_LAG, _LONGEST_LAG, _N_CANDIDATES = 4, 8192, 8
_FEWEST_ROWS, _SEARCH_VALUES, _JUDGED_VALUES = 4, 1 << 18, 1 << 21
_OF_CHANCE = 6.0
"""Standard deviations of what noise shows by chance: the best of thousands of lags comes to some four."""
_LEAST_CORRELATION, _MARGIN, _MARGIN_OF_MULTIPLES, _MOST_COLUMNS = 0.03, 1.1, 4.0, 0.7


def misread_type(samples: NDArray[Any]) -> str | None:
    """Return the way in which `samples`, shape (n_samples, n_channels), look like those of another type, or None."""
    return _misread_float(samples) if samples.dtype.kind == "f" else _misread_integer(samples)


def _misread_integer(samples: NDArray[Any]) -> str | None:
    import numpy as np

    dtype, spread = samples.dtype, spread_of(samples)
    limits = np.iinfo(dtype)
    other = np.dtype(f"{'i' if dtype.kind == 'u' else 'u'}{dtype.itemsize}")
    kind = "signed" if dtype.kind == "u" else "unsigned, offset binary"
    if spread_of(samples.view(other)) < _MUCH_SMALLER * spread:
        return f"the samples are {dtype}, and look like {kind} ones ({other})"
    if dtype.itemsize > 1 and _has_low_byte(samples) and spread_of(samples.byteswap()) < _MUCH_SMALLER * spread:
        return f"the samples look like {dtype} of the other byte order"
    full_range = float(limits.max) - float(limits.min)
    if dtype.itemsize == 2 and spread > full_range / 16 and _are_floats(samples):
        return f"the samples are {dtype}, and look like float32"
    if spread > 0.25 * full_range:
        return f"the samples fill the whole range of {dtype} as noise would"
    return None


def _misread_float(samples: NDArray[Any]) -> str | None:
    import numpy as np

    absurd = ~np.isfinite(samples) | ((np.abs(samples) < 1e-30) & (samples != 0)) | (np.abs(samples) > 1e20)
    share = float(absurd.mean())
    if share < 0.05:
        return None
    return f"{share:.0%} of the samples are {samples.dtype} that no amplifier gives (NaN, infinite, below 1e-30)"


def _has_low_byte(samples: NDArray[Any]) -> bool:
    """Return whether samples differ in more than their high byte: those of 8 bits, shifted up, do not."""
    return bool((samples % 256 != 0).any())


def _are_floats(samples: NDArray[Any]) -> bool:
    """Return whether pairs of 16-bit samples, taken as float32, are numbers of a usual size."""
    import numpy as np

    flat = np.ascontiguousarray(samples).ravel()
    values = np.abs(flat[: flat.size // 2 * 2].view(np.float32))
    return bool(((values > 1e-8) & (values < 1e7)).mean() > 0.98)


def spread_of(samples: NDArray[Any]) -> float:
    """Return the median over the channels of the standard deviation."""
    import numpy as np

    return float(np.median(samples.astype(np.float64).std(axis=0)))


# --------------------------------------------------------------------------------------- the number of channels


def likely_n_channels(glance: Glance) -> int | None:
    """Return how many channels the samples seem to have where that is another number than they are read with.

    A channel resembles itself one sample later more than any other one. Where, all over the columns, the value so
    many places on in the file is more like a sample than the next one of its own column, the columns are none:
    each steps through all channels, which shows as diagonals. White noise resembles nothing, so that nothing is
    found in it, nor in so few samples that chance may do as much.

    Examples
    --------
    >>> import numpy as np
    >>> slow = np.cumsum(np.random.default_rng(0).normal(size=(4000, 16)), axis=0)
    >>> likely_n_channels(Glance((slow,), 1e4)), likely_n_channels(Glance((slow.reshape(-1, 10),), 1e4))
    (None, 16)
    """
    import numpy as np

    long_enough = [window for window in glance.windows if len(window) >= _FEWEST_ROWS]
    if not long_enough:
        return None
    step = max(1, sum(window.size for window in long_enough) // _JUDGED_VALUES)
    windows = [_standardised(window) for window in long_enough[::step]]
    scores = {lag: _likeness(windows, lag) for lag in _candidates(windows, glance.n_channels)}
    convincing = {lag: score for lag, (score, share) in scores.items() if share >= _MOST_COLUMNS and np.isfinite(score)}
    return max(convincing, key=lambda lag: convincing[lag], default=None)


def _standardised(window: NDArray[Any]) -> NDArray[np.float32]:
    """Return a window of which every column has mean 0 and spread 1: no loud channel speaks for all."""
    import numpy as np

    finite = np.nan_to_num(window, posinf=0.0, neginf=0.0).astype(np.float32)
    finite -= finite.mean(axis=0)
    spread = finite.std(axis=0)
    return np.asarray(finite / np.where(spread > 0, spread, 1.0), np.float32)


def _candidates(windows: list[NDArray[np.float32]], n_channels: int) -> list[int]:
    """Return the lags at which the samples, in the order of the file, resemble themselves most: peaks, not slopes."""
    import numpy as np
    from scipy.fft import irfft, next_fast_len, rfft

    flat = np.concatenate([window.ravel() for window in windows[:2]])[:_SEARCH_VALUES]
    longest = min(_LONGEST_LAG, flat.size // 8)
    if longest <= _SHORTEST_LAG:
        return []
    power = np.abs(rfft(flat, next_fast_len(flat.size + longest + 1))) ** 2
    like = irfft(power)[: longest + 2] / flat.size
    peaks = like[1:-1] - (like[:-2] + like[2:]) / 2
    peaks[: _SHORTEST_LAG - 1] = -np.inf
    lags = np.argsort(peaks)[::-1][: _N_CANDIDATES + 1] + 1
    return [int(lag) for lag in lags if lag != n_channels and np.isfinite(peaks[lag - 1])]


def _likeness(windows: list[NDArray[np.float32]], lag: int) -> tuple[float, float]:
    """Return how much the value `lag` places on, in a later row, resembles a sample, and for what share of the columns.

    Those columns count in which it does so more than the next sample of the column itself; where that is not so
    on the whole, the first number is NaN.
    """
    import numpy as np

    n_channels = windows[0].shape[1]
    column = np.arange(n_channels)
    later, there = np.divmod(column + lag, n_channels)
    column, later, there = column[later > 0], later[later > 0], there[later > 0]
    rows = max(1, int(later.max()))
    own, other, n = np.zeros(column.size), np.zeros(column.size), 0
    for window in windows:
        if len(window) <= rows + 1:
            continue
        here = window[: len(window) - rows, column]
        own += np.einsum("rc,rc->c", here, window[1 : len(here) + 1, column])
        for step in np.unique(later):
            chosen = later == step
            other[chosen] += np.einsum("rc,rc->c", here[:, chosen], window[step : len(here) + step][:, there[chosen]])
        n += len(here)
    if n == 0:
        return float("nan"), 0.0
    own, other = own / n, other / n
    # A multiple of the columns is the own column, later: noise that swings may resemble itself more there.
    margin = _MARGIN if lag % n_channels else _MARGIN_OF_MULTIPLES
    by_chance = _OF_CHANCE / math.sqrt(n * column.size)
    needed = max(_LEAST_CORRELATION, by_chance, margin * abs(float(own.mean())))
    return (float(other.mean()) if other.mean() > needed else float("nan")), float((other > own).mean())
