"""How busy channels are: samples in the band of spikes, and how often they fall far below their noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THRESHOLD_MAD = 5.0
BAND_HZ = (300.0, 6000.0)
"""Where spikes are looked for before a sort, whatever band it will take."""
_REACH_UM, _AT_ONCE = 35.0, 256
_MOST_CHANNELS = 64
"""More say nothing new of the rate, and take time to filter."""


@dataclass(frozen=True)
class Activity:
    """How often the channels of a recording fall below five times their noise.

    Parameters
    ----------
    crossings_Hz : float
        Crossings a second of one channel, on average over channels and windows.
    spread : float
        Standard error of that average, as a share of it: what other windows would have given.
    seconds : float
        How much of the recording was looked at (s).
    """

    crossings_Hz: float
    spread: float
    seconds: float

    def to_dict(self) -> dict[str, float]:
        """Return plain values."""
        return asdict(self)


def band_passed(window: NDArray[Any], fs_Hz: float, band_Hz: tuple[float, float] = BAND_HZ) -> NDArray[np.float32]:
    """Return `window`, shape (n_samples, n_channels), around 0 and within the band; no numbers count as 0.

    What is outside is left out of its spectrum. That rings beside steps, which do not matter here, and needs nothing
    but numpy: a filter would take a second to import, before each sort.

    Examples
    --------
    >>> import numpy as np
    >>> time_s = np.arange(2000)[:, None] / 20_000
    >>> slow, fast = (np.sin(2 * np.pi * rate_Hz * time_s) for rate_Hz in (50, 1000))
    >>> bool(np.allclose(band_passed(slow + fast, 20_000.0), fast, atol=1e-5))
    True
    """
    import numpy as np

    finite = np.nan_to_num(window, posinf=0.0, neginf=0.0).astype(np.float32)
    spectrum = np.fft.rfft(finite - finite.mean(axis=0), axis=0)
    frequency_Hz = np.fft.rfftfreq(len(finite), 1 / fs_Hz)
    spectrum[(frequency_Hz < min(band_Hz[0], 0.2 * fs_Hz)) | (frequency_Hz > band_Hz[1])] = 0
    return np.asarray(np.fft.irfft(spectrum, len(finite), axis=0), np.float32)


def crossings(traces: NDArray[np.float32]) -> int:
    """Return how often the channels of filtered `traces` (samples, channels) fall below five times their noise.

    The noise is the median deviation over 0.6745.

    Examples
    --------
    >>> import numpy as np
    >>> traces = np.random.default_rng(0).normal(size=(1000, 2)).astype("float32")
    >>> traces[[200, 201, 600], 1] = -30
    >>> crossings(traces)
    2
    """
    import numpy as np

    noise = np.median(np.abs(traces - np.median(traces, axis=0)), axis=0) / 0.6745
    below = traces < -THRESHOLD_MAD * noise
    return int(np.count_nonzero(below[1:] & ~below[:-1]))


def spread_channels(kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return at most 64 of the channels that the mask `kept` names, evenly over all of them."""
    import numpy as np

    named = np.flatnonzero(kept)
    step = -(-named.size // _MOST_CHANNELS) or 1
    return named[::step]


def activity(windows: Iterable[NDArray[Any]], fs_Hz: float) -> Activity | None:
    """Return how busy the channels of `windows`, each (n_samples, n_channels), are; None where there is nothing.

    Examples
    --------
    >>> from spikelab.simulation import simulate_recording
    >>> traces = simulate_recording("tetrode", duration_s=2.0, rate_Hz=(20, 20)).recording.get_traces()
    >>> 20 < activity([traces[:20000], traces[20000:]], 20_000.0).crossings_Hz < 80
    True
    """
    import numpy as np

    counts, lengths_s, n_channels = [], [], 1
    for window in windows:
        if window.size:
            n_channels = window.shape[1]
            lengths_s.append(len(window) / fs_Hz)
            counts.append(crossings(band_passed(window, fs_Hz)))
    if not counts:
        return None
    seconds = float(np.sum(lengths_s))
    mean = float(np.sum(counts)) / (seconds * n_channels)
    rates = np.array(counts) / (np.array(lengths_s) * n_channels)
    # A single window says nothing of the others: they may well be twice as busy.
    error = float(np.std(rates, ddof=1) / np.sqrt(len(rates))) if len(rates) > 1 else mean
    return Activity(mean, error / mean if mean > 0 else 0.0, seconds)


def channels_of_a_spike(places_um: NDArray[np.float64]) -> float:
    """Return on how many channels at `places_um`, shape (n_channels, 2 or 3), a spike crosses, on average.

    These are the channels within 35 um: so it is on simulated tetrodes, linear probes and arrays.

    Examples
    --------
    >>> import numpy as np
    >>> channels_of_a_spike(np.array([[0.0, 0.0], [0.0, 20.0], [0.0, 40.0]]))
    2.33
    """
    import numpy as np

    places = np.asarray(places_um, float)[:, :2]
    if not len(places) or not np.isfinite(places).all():
        return 1.0
    near = sum(_n_near(places, places[start : start + _AT_ONCE]) for start in range(0, len(places), _AT_ONCE))
    return round(near / len(places), 2)


def _n_near(places: NDArray[np.float64], some: NDArray[np.float64]) -> int:
    import numpy as np

    apart = places[None, :, :] - some[:, None, :]
    return int(np.count_nonzero((apart**2).sum(axis=2) <= _REACH_UM**2))
