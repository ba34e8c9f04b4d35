"""Raw traces attached to a SpikeData, and what they show around its spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata import _raw

if TYPE_CHECKING:
    from spikelab.spikedata.spikedata import SpikeData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def with_raw_data(sd: SpikeData, raw_data: Any, raw_time: float | npt.ArrayLike | None = None) -> SpikeData:
    """Return a copy with traces (channels, samples) attached, as the constructor takes them."""
    return sd.replace(raw_data=raw_data, raw_time=raw_time)


def with_source(sd: SpikeData) -> SpikeData:
    """Return a copy with the traces of the recording that was sorted attached; they are read when used.

    Raises
    ------
    ValueError
        When this did not come from the pipeline, or the recording is no longer where it was.
    """
    return sd.with_raw_data(*_raw.open_source(sd.metadata, sd.length))


def raw_fs_Hz(sd: SpikeData) -> float:
    """Return the sampling rate (Hz) of the raw data."""
    return _raw.sampling_rate_Hz(_require_raw(sd)[1])


def raw_samples(sd: SpikeData, times: npt.ArrayLike) -> Ints:
    """Return the sample of `raw_data` nearest to each time (ms).

    Negative before the data, n_samples or more after them.
    """
    return _raw.nearest_samples(np.asarray(times, dtype=np.float64), _require_raw(sd)[1], sd.start_time)


def get_waveform_traces(
    sd: SpikeData, unit: int, ms_before: float = 1.0, ms_after: float = 2.0, channels: Sequence[int] | None = None
) -> npt.NDArray[Any]:
    """Return the raw traces around every spike of a unit.

    Parameters
    ----------
    unit : int
        Index of the unit.
    ms_before, ms_after : float, default 1.0 and 2.0
        Window (ms); the spike is at sample ``round(ms_before * rate)``.
    channels : sequence of int, optional
        Indices of the channels; default: all.

    Returns
    -------
    ndarray, shape (n_spikes, n_samples, n_channels)
        Spikes whose window is not wholly inside the data are left out.

    Raises
    ------
    ValueError
        When no raw data are attached, or a window is negative.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> import numpy as np
    >>> sd = SpikeData([[5.0]], length=10.0, raw_data=np.zeros((2, 100)), raw_time=10.0)
    >>> sd.get_waveform_traces(0).shape
    (1, 30, 2)
    """
    traces, axis = _require_raw(sd)
    if ms_before < 0 or ms_after < 0:
        msg = f"ms_before and ms_after must be zero or more, got {ms_before} and {ms_after}"
        raise ValueError(msg)
    n_before, n_after = (round(ms * _raw.sampling_rate_Hz(axis) / 1000.0) for ms in (ms_before, ms_after))
    return _raw.read_snippets(traces, sd.raw_samples(sd.train[unit]), n_before, n_after, channels)


def _require_raw(sd: SpikeData) -> tuple[_raw.RawTraces, Floats | float]:
    if sd.raw_data is None or sd.raw_time is None:
        msg = "this needs raw data and none are attached; attach the traces with sd.with_raw_data(...)"
        raise ValueError(msg)
    return sd.raw_data, sd.raw_time
