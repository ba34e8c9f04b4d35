"""Raw traces, band-passed once, block by block, so that any length fits into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.curation._result import Floats

_ORDER = 5
_BLOCK_VALUES = 2**21  # 16 MB of float64, and the filter holds about four of these
_SETTLING_PERIODS = 6.0  # of the lower edge: the filter has forgotten a cut after that (below 1e-5)


@dataclass(frozen=True)
class Block:
    """Filtered traces of the samples [first, last), with some samples more on both sides."""

    first: int
    last: int
    offset: int
    """Sample at which `traces` begins; at most `first`."""
    traces: Floats
    """Shape (channels, samples)."""

    @property
    def core(self) -> Floats:
        """The traces of [first, last) alone, shape (channels, last - first)."""
        return self.traces[:, self.first - self.offset : self.last - self.offset]


@dataclass(frozen=True)
class Band:
    """A zero-phase Butterworth band-pass; `freq_min` None leaves the traces as they are."""

    fs_Hz: float
    freq_min: float | None
    freq_max: float | None

    def __post_init__(self) -> None:
        low, high = self._edges
        if not 0 <= low < min(high, self.fs_Hz / 2):
            msg = (
                "freq_min and freq_max must satisfy 0 <= freq_min < freq_max and freq_min < "
                f"{self.fs_Hz / 2} Hz (half the sampling rate), got {self.freq_min} and {self.freq_max}"
            )
            raise ValueError(msg)

    @property
    def margin(self) -> int:
        """Samples to read on both sides of a block so that its cut does not show."""
        low, _ = self._edges
        return math.ceil(_SETTLING_PERIODS * self.fs_Hz / low) if low else 0

    def apply(self, traces: Floats) -> Floats:
        """Return the filtered traces, shape as given: (channels, samples)."""
        sections = self._sections()
        if sections is None or traces.shape[1] < 2:
            return traces
        from scipy.signal import sosfiltfilt

        padding = min(3 * (2 * len(sections) + 1), traces.shape[1] - 1)
        filtered: Floats = sosfiltfilt(sections, traces, axis=1, padlen=padding)
        return filtered

    @property
    def _edges(self) -> tuple[float, float]:
        low = 0.0 if self.freq_min is None else self.freq_min
        return low, math.inf if self.freq_max is None else self.freq_max

    def _sections(self) -> Any:
        from scipy.signal import butter

        low, high = self._edges
        # Nothing lives above half the sampling rate: an upper edge beyond it is no edge.
        if high >= self.fs_Hz / 2:
            return butter(_ORDER, low, "highpass", fs=self.fs_Hz, output="sos") if low else None
        if not low:
            return butter(_ORDER, high, "lowpass", fs=self.fs_Hz, output="sos")
        return butter(_ORDER, (low, high), "bandpass", fs=self.fs_Hz, output="sos")


def iterate_blocks(raw_data: Any, band: Band, reach: int) -> Iterator[Block]:
    """Yield the filtered traces block by block; each carries `reach` samples beyond both of its ends.

    Parameters
    ----------
    raw_data : array-like
        Shape (channels, samples); read in slices of samples, so a memmap stays on disk.
    band : Band
        The filter.
    reach : int
        Samples of neighbouring blocks to have at hand.
    """
    n_channels, n_samples = raw_data.shape
    size = max(_BLOCK_VALUES // max(n_channels, 1), 8 * (band.margin + reach), 1)
    for first in range(0, n_samples, size):
        last = min(first + size, n_samples)
        start, end = max(first - reach, 0), min(last + reach, n_samples)
        yield Block(first, last, start, _read_filtered(raw_data, band, start, end))


def _read_filtered(raw_data: Any, band: Band, start: int, end: int) -> Floats:
    begin, stop = max(start - band.margin, 0), min(end + band.margin, raw_data.shape[1])
    traces: npt.NDArray[np.float64] = np.asarray(raw_data[:, begin:stop], dtype=np.float64)
    require_finite(traces, begin)
    return band.apply(traces)[:, start - begin : end - begin]


def require_finite(traces: npt.NDArray[Any], first: int) -> None:
    """Raise ValueError where a sample is NaN or infinite: a filter spreads it over all that is read with it.

    Parameters
    ----------
    traces : ndarray
        Shape (channels, samples).
    first : int
        Number of their first sample in the raw data.
    """
    is_bad = ~np.isfinite(traces)
    if is_bad.any():
        channel, sample = np.argwhere(is_bad)[0].tolist()
        msg = (
            f"raw_data must be finite, and sample {first + sample} of channel {channel} is {traces[channel, sample]}; "
            "attach traces without that channel, or with numbers in its place: sd.with_raw_data(...)"
        )
        raise ValueError(msg)
