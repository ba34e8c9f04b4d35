"""Samples of any type as 16-bit ones, which sorters read: scaled and shifted to a sane range, never clipped in silence.

Samples of 8 and 16 bits keep their values. Others are centred on the median of their channel and divided by a step that
is a small part of the noise, so that neither spikes nor noise change: one step for all channels, for sorters compare
them. What lies beyond the range of 16 bits even so is set to its end, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BOTTOM, _TOP = -32_768, 32_767
_FINEST, _COARSEST = 1 / 32, 1 / 4
"""Step as a part of the noise: fine enough to add nothing (0.004 % of the variance), and still fine (0.5 %)."""
_HEADROOM = 1.25
"""The loudest of the samples that are looked at may not be the loudest of all."""
_N_WINDOWS, _WINDOW_S = 20, 0.25


@dataclass(frozen=True)
class Scaling:
    """How samples become 16-bit ones: ``round((sample - centre) / step)``.

    Parameters
    ----------
    centres : tuple of float
        Value of each channel that becomes 0, in the samples' unit; empty: 0 for all.
    step : float, default 1.0
        How many of the samples' unit one step is.
    """

    centres: tuple[float, ...] = ()
    step: float = 1.0

    @property
    def is_exact(self) -> bool:
        """Whether values stay what they are."""
        return not self.centres and self.step == 1.0


def choose_scaling(recording: Any) -> Scaling:
    """Return the scaling for `recording`, from windows all over it.

    Samples of 8 bits stay what they are, and unsigned ones of 16 bits are shifted by half of their range.
    """
    import numpy as np

    dtype = recording.dtype
    if dtype.kind in "iu" and dtype.itemsize == 1:
        return Scaling()
    if dtype.kind == "u" and dtype.itemsize == 2:
        return Scaling((-float(_BOTTOM),) * recording.get_num_channels())
    samples = _glance(recording)
    centres = np.median(samples, axis=0)
    if dtype.kind in "iu":
        centres = np.rint(centres)
        if np.abs(samples).max(initial=0) * _HEADROOM <= _TOP:
            return Scaling()
    reach = float(np.abs(samples - centres).max(initial=0)) * _HEADROOM
    step = _step(_noise(samples), reach / _TOP)
    if dtype.kind in "iu" and step <= 1.0:
        step = 1.0
    return Scaling(tuple(centres.tolist()), step)


def _step(noise: float, needed: float) -> float:
    """Return a step that holds the noise, and the whole range where one `needed` for that is fine enough."""
    if not noise:
        return needed or 1.0
    finest = noise * _FINEST
    return max(finest, needed) if needed <= noise * _COARSEST else finest


def convert(traces: NDArray[Any], scaling: Scaling) -> tuple[NDArray[np.int16], int]:
    """Return `traces` as 16-bit samples, and how many of them lay beyond their range.

    Parameters
    ----------
    traces : ndarray, shape (n_samples, n_channels)
        Samples; those that are no number become the centre of their channel.
    scaling : Scaling
        From `choose_scaling`.
    """
    import numpy as np

    if scaling.is_exact and traces.dtype.kind in "iu" and traces.dtype.itemsize < 2:
        return traces.astype(np.int16), 0
    values = traces.astype(np.float64)
    if scaling.centres:
        values -= scaling.centres
    values /= scaling.step
    np.rint(values, out=values)
    beyond = int(np.count_nonzero((values < _BOTTOM) | (values > _TOP)))
    np.clip(values, _BOTTOM, _TOP, out=values)
    return np.nan_to_num(values, copy=False, nan=0.0).astype(np.int16), beyond


def _glance(recording: Any) -> NDArray[np.float64]:
    """Return windows all over the recording, one after the other, shape (n_samples, n_channels), without NaN."""
    import numpy as np

    n_samples = recording.get_num_samples()
    window = max(1, min(n_samples, round(recording.sampling_frequency * _WINDOW_S)))
    starts = np.unique(np.linspace(0, n_samples - window, _N_WINDOWS, dtype=int))
    windows = [recording.get_traces(start_frame=int(start), end_frame=int(start) + window) for start in starts]
    return np.nan_to_num(np.concatenate(windows).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _noise(samples: NDArray[np.float64]) -> float:
    """Return the noise of a typical channel: of the differences of neighbours, which slow waves do not enter."""
    import numpy as np

    differences = np.abs(np.diff(samples, axis=0))
    of_channels = np.median(differences, axis=0) / (0.6745 * np.sqrt(2)) if len(differences) else np.zeros(1)
    active = of_channels[of_channels > 0]
    return float(np.median(active)) if active.size else 0.0
