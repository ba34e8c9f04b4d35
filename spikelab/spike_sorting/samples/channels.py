"""What is wrong with single channels: flat, no numbers, at a rail, dead, noisy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.samples.glance import Glance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOSTLY = 0.9
SATURATED_FRAC, _CLIPPED_FRAC = 0.05, 0.001
_FEWEST_LEVELS = 16
"""Fewer distinct values than this have no rail: coarse steps pile up by themselves."""
_DEAD, _NOISY = 1 / 5, 5.0
"""Noise of a channel, as a multiple of the median of all; SpikeInterface's methods "std" and "mad" call 5 noisy."""
_FEWEST_TO_COMPARE = 4
_WINDOWS_FOR_NOISE = 8
_SLOW_HZ, _SHORTEST_S, _VOTES, _DEAD_BY_IBL = 300.0, 0.02, 12, 1
_LONG, _FEWEST_ON_LONG, _MOST_UNLIKE = 8.0, 32, 1 / 3


def flat(glance: Glance) -> NDArray[np.bool_]:
    """Return which channels have one single value in each window."""
    import numpy as np

    found = np.ones(glance.n_channels, dtype=bool)
    for window in glance.windows:
        found &= (window == window[0]).all(axis=0)
    return found


def stuck_at_rail(glance: Glance) -> NDArray[np.bool_]:
    """Return which channels only have the largest or smallest value that their converter has.

    That is the limit of the data type, or, of an unsigned one, the largest value of 8 bits or more.
    """
    import numpy as np

    dtype = glance.windows[0].dtype
    if dtype.kind not in "iu":
        return np.zeros(glance.n_channels, dtype=bool)
    limits = np.iinfo(dtype)
    rails = {int(limits.max)} | ({int(limits.min)} if dtype.kind == "i" else set())
    rails |= {2**bits - 1 for bits in range(8, 8 * dtype.itemsize)}
    found = np.ones(glance.n_channels, dtype=bool)
    for window in glance.windows:
        found &= np.isin(window, np.array(sorted(rails), dtype=dtype)).all(axis=0)
    return found


def share_not_finite(glance: Glance) -> NDArray[np.float64]:
    """Return the share of samples of each channel that are NaN or infinite."""
    import numpy as np

    if glance.windows[0].dtype.kind != "f":
        return np.zeros(glance.n_channels)
    counts = sum(np.count_nonzero(~np.isfinite(window), axis=0) for window in glance.windows)
    return np.asarray(counts / sum(map(len, glance.windows)), np.float64)


def share_at_rail(glance: Glance) -> NDArray[np.float64]:
    """Return the share of samples of each channel that pile up at its own largest and smallest value.

    A value is a rail where more samples have it than the whole tenth of the range next to it: noise gets rarer
    towards its extremes, a signal that is cut off piles up there.
    """
    import numpy as np

    samples = np.concatenate(glance.windows)
    if samples.dtype.kind == "f":
        samples = np.where(np.isfinite(samples), samples, np.nanmedian(_finite(samples), axis=0))
    low, high = samples.min(axis=0).astype(np.float64), samples.max(axis=0).astype(np.float64)
    tenth = (high - low) / 10
    above, below = samples > high - tenth, samples < low + tenth
    at_high, at_low = samples == samples.max(axis=0), samples == samples.min(axis=0)
    share = np.zeros(glance.n_channels)
    for at, near in ((at_high, above), (at_low, below)):
        n_at, n_near = at.sum(axis=0), near.sum(axis=0)
        share += np.where(n_at > n_near - n_at, n_at, 0) / len(samples)
    return np.where(_has_levels(samples, low, high), share, 0.0)


def _finite(samples: NDArray[Any]) -> NDArray[Any]:
    """Return `samples` with NaN for infinities, and one number where a channel has none at all."""
    import numpy as np

    finite = np.where(np.isfinite(samples), samples, np.nan)
    finite[0, np.isnan(finite).all(axis=0)] = 0.0
    return finite


def _has_levels(samples: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which channels have enough distinct values for a rail, or jump between two that are far apart."""
    import numpy as np

    second = np.where(samples < samples.max(axis=0), samples, samples.min(axis=0)).max(axis=0).astype(np.float64)
    step = high - second
    has_steps = (high > low) & ((high - low) >= _FEWEST_LEVELS * step)
    jumps = (second == low) & ((high - low) >= _FEWEST_LEVELS) if samples.dtype.kind in "iu" else second == low
    return np.asarray(has_steps | (jumps & (high > low)), np.bool_)


def saturated_and_clipped(share: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which channels are at a rail often, and which are so now and then."""
    saturated = share >= SATURATED_FRAC
    return saturated, (share >= _CLIPPED_FRAC) & ~saturated


def without_numbers(share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which channels have hardly any numbers."""
    return share > _MOSTLY


# --------------------------------------------------------------------------------------- compared to the others


def noise_levels(glance: Glance, band_Hz: tuple[float, float]) -> NDArray[np.float64]:
    """Return the noise of each channel in the band, in the units of the file.

    In each window it is the median deviation over 0.6745; of the windows in which the channel is not silent, the
    median counts.
    """
    import numpy as np
    from scipy.signal import butter, sosfiltfilt

    step = max(1, len(glance.windows) // _WINDOWS_FOR_NOISE)
    high = min(band_Hz[1], 0.45 * glance.fs_Hz)
    band = butter(3, (min(band_Hz[0], high / 2), high), "bandpass", fs=glance.fs_Hz, output="sos")
    levels = []
    for window in glance.windows[::step]:
        finite = np.nan_to_num(window, posinf=0.0, neginf=0.0).astype(np.float32)
        finite -= finite.mean(axis=0)
        # Windows shorter than the filter's own ends are as they are.
        filtered = sosfiltfilt(band, finite, axis=0).astype(np.float32) if len(finite) > 30 else finite
        levels.append(np.median(np.abs(filtered), axis=0) / 0.6745)
    noise = np.array(levels, np.float64)
    silent = (noise <= 0).all(axis=0)
    return np.asarray(np.nanmedian(np.where((noise > 0) | silent, noise, np.nan), axis=0), np.float64)


def dead_and_noisy(noise: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which channels have far less and far more noise than the median channel."""
    import numpy as np

    none = np.zeros(noise.size, dtype=bool)
    if noise.size < _FEWEST_TO_COMPARE or not np.median(noise) > 0:
        return none, none
    usual = float(np.median(noise))
    return noise < _DEAD * usual, noise > _NOISY * usual


def unlike_others(glance: Glance, places_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which channels of a long probe do not follow what all of them share.

    SpikeInterface's "coherence+psd", made for such probes, judges each window; the verdict of most windows counts.
    Where a third of the channels were found, it is the comparison that fails: then there is none.
    """
    import numpy as np
    from scipy.signal import butter, sosfilt
    from spikeinterface.preprocessing.detect_bad_channels import detect_bad_channels_ibl

    none = np.zeros(glance.n_channels, dtype=bool)
    if not is_long(places_um) or min(map(len, glance.windows)) < _SHORTEST_S * glance.fs_Hz:
        return none
    order = np.lexsort((places_um[:, 0], places_um[:, 1]))
    votes = np.zeros(glance.n_channels)
    fast = butter(3, _SLOW_HZ, "highpass", fs=glance.fs_Hz, output="sos")
    windows = glance.windows[:: max(1, len(glance.windows) // _VOTES)]
    for window in windows:
        finite = np.nan_to_num(window, posinf=0.0, neginf=0.0).astype(np.float32)
        filtered = sosfilt(fast, finite - finite[0], axis=0)[:, order]
        votes[order] += detect_bad_channels_ibl(filtered, glance.fs_Hz, psd_hf_threshold=np.inf) == _DEAD_BY_IBL
    found = votes > len(windows) / 2
    return found if found.mean() < _MOST_UNLIKE else none


def is_long(places_um: NDArray[np.float64]) -> bool:
    """Return whether the probe is one along which channels can be compared: long, with many channels."""
    import numpy as np

    if len(places_um) < _FEWEST_ON_LONG:
        return False
    width, height = np.ptp(places_um[:, :2], axis=0)
    return bool(height > _LONG * max(width, 1.0))


CHECKS_OF_CHANNELS: Mapping[str, str] = {
    "channels-not-finite": "without numbers",
    "channels-saturated": "at the end of their range",
    "channels-flat": "constant in every sampled window",
    "channels-dead": "with less than a fifth of the noise of the others",
    "channels-noisy": "with more than five times the noise of the others",
    "channels-unlike": "unlike all others of a long probe",
}
"""What excludes a channel, by code, in the order in which it is told; in words, after the number of channels."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is measured of each channel.

    Parameters
    ----------
    flat, stuck : ndarray of bool, shape (n_channels,)
        One value in each window; only the outermost values of the converter.
    lost, rail : ndarray of float64, shape (n_channels,)
        Share of samples without a number, and of those at a rail.
    noise : ndarray of float64, shape (n_channels,)
        Noise in the band of spikes, in the units of the file.
    """

    flat: NDArray[np.bool_]
    stuck: NDArray[np.bool_]
    lost: NDArray[np.float64]
    rail: NDArray[np.float64]
    noise: NDArray[np.float64]


def measure(glance: Glance, band_Hz: tuple[float, float]) -> Measured:
    """Return what is measured of each channel; noise in the band of spikes `band_Hz`."""
    return Measured(
        flat(glance),
        stuck_at_rail(glance),
        share_not_finite(glance),
        share_at_rail(glance),
        noise_levels(glance, band_Hz),
    )


def bad_channels(glance: Glance, measured: Measured, places_um: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Return the channels that cannot be sorted, each by one code of `CHECKS_OF_CHANNELS`.

    Parameters
    ----------
    glance : Glance
        Windows of the recording.
    measured : Measured
        What they show of each channel.
    places_um : ndarray, shape (n_channels, 2), float64
        Positions (um).
    """
    import numpy as np

    found = {
        "channels-not-finite": without_numbers(measured.lost),
        "channels-saturated": measured.stuck | saturated_and_clipped(measured.rail)[0],
        "channels-flat": measured.flat,
    }
    left = ~np.logical_or.reduce(list(found.values()))
    dead, noisy = (_spread(left, mask) for mask in dead_and_noisy(measured.noise[left]))
    found |= {"channels-dead": dead, "channels-noisy": noisy}
    left &= ~dead & ~noisy
    found["channels-unlike"] = _spread(left, unlike_others(glance.of_channels(left), places_um[left]))
    taken = np.zeros(glance.n_channels, dtype=bool)
    for code, mask in found.items():
        found[code] = mask & ~taken
        taken |= mask
    return found


def _spread(among: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `mask`, which is about the channels `among`, as a mask of all channels."""
    import numpy as np

    whole = np.zeros(among.size, dtype=bool)
    whole[np.flatnonzero(among)[mask]] = True
    return whole
