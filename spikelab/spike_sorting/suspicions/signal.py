"""The signal beside its spikes: threshold crossings that no unit explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.samples.glance import Glance
from spikelab.spike_sorting.suspicions.evidence import Crossings, Evidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_THRESHOLD_MAD = 6.0
_NEAR_MS, _NEAR_UM = 1.5, 150.0
_FEWEST_CROSSINGS, _FEWEST_EXPLAINED = 30, 0.5


def crossings_in(glance: Glance) -> Crossings:
    """Return where each channel of a band-passed recording falls below six times its noise.

    Parameters
    ----------
    glance : Glance
        Windows of the band-passed recording, with their starts.
    """
    import numpy as np

    noise = np.median(np.abs(np.concatenate([window[::4] for window in glance.windows])), axis=0) / 0.6745
    limit = np.where(noise > 0, -_THRESHOLD_MAD * noise, -np.inf)
    times, channels = [np.empty(0)], [np.empty(0, np.int64)]
    for window, start in zip(glance.windows, glance.starts, strict=True):
        below = window < limit
        sample, channel = np.nonzero(below[1:] & ~below[:-1])
        times.append((start + sample + 1) / glance.fs_Hz * 1000)
        channels.append(channel)
    return Crossings(np.concatenate(times), np.concatenate(channels), glance.seconds)


def crossings_unexplained(evidence: Evidence) -> Remark | None:
    """Find signals of which less than half the crossings have a spike of a unit nearby: 1.5 ms and 150 um."""
    crossings = evidence.crossings
    if crossings is None or crossings.time_ms.size < _FEWEST_CROSSINGS:
        return None
    explained = explained_share(evidence.found.train, _homes(evidence), crossings, evidence.places_um)
    if explained >= _FEWEST_EXPLAINED:
        return None
    seen = f"{crossings.time_ms.size} crossings of {_THRESHOLD_MAD:g} times the noise in {crossings.seconds:.3g} s"
    return remark("crossings-unexplained", f"of {seen}, {explained:.0%} have a spike of a unit beside them")


def explained_share(
    trains_ms: list[NDArray[np.float64]],
    homes: NDArray[np.int64],
    crossings: Crossings,
    places_um: NDArray[np.float64],
) -> float:
    """Return the share of crossings with a spike of a unit beside them, in time and in space.

    Parameters
    ----------
    trains_ms : list of ndarray
        Spike times of each unit (ms).
    homes : ndarray, shape (n_units,), int64
        Channel on which each unit is largest.
    crossings : Crossings
        What is to be explained.
    places_um : ndarray, shape (n_channels, 2), float64
        Positions of channels (um).
    """
    import numpy as np

    explained = np.zeros(crossings.time_ms.size, dtype=bool)
    for channel in np.unique(crossings.channel):
        near = np.flatnonzero(np.linalg.norm(places_um[homes] - places_um[channel], axis=1) <= _NEAR_UM)
        spikes = np.sort(np.concatenate([np.empty(0), *(trains_ms[unit] for unit in near)]))
        here = crossings.channel == channel
        times = crossings.time_ms[here]
        first = np.searchsorted(spikes, times - _NEAR_MS)
        explained[here] = first < np.searchsorted(spikes, times + _NEAR_MS, side="right")
    return float(explained.mean())


def _homes(evidence: Evidence) -> NDArray[np.int64]:
    import numpy as np

    channels: list[Any] = [unit.get("channel", 0) for unit in evidence.found.neuron_attributes]
    return np.array(channels, np.int64)
