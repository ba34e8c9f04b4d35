"""Windows of a recording, from which everything else here is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WINDOW_S = 0.05
_FEWEST, _MOST, _VALUES = 12, 60, 1 << 24
"""Windows, and how many samples of all channels they may have together."""


@dataclass(frozen=True, eq=False)
class Glance:
    """Some of a recording, as its file has it.

    Parameters
    ----------
    windows : tuple of ndarray, shape (n_samples, n_channels)
        Samples of the file, not scaled, in the order of time.
    fs_Hz : float
        Sampling rate.
    starts : tuple of int, default ()
        First sample of each window in the recording, where that is known.
    """

    windows: tuple[NDArray[Any], ...]
    fs_Hz: float
    starts: tuple[int, ...] = ()

    @property
    def n_channels(self) -> int:
        """Channels."""
        return int(self.windows[0].shape[1])

    @property
    def seconds(self) -> float:
        """How much was looked at (s)."""
        return sum(map(len, self.windows)) / self.fs_Hz

    def of_channels(self, kept: NDArray[np.bool_]) -> Glance:
        """Return the same windows of the channels that the mask `kept` names."""
        return Glance(tuple(window[:, kept] for window in self.windows), self.fs_Hz, self.starts)


def glance_at(recording: Any) -> Glance:
    """Return windows of 50 ms spread over `recording`, its first and its last samples among them.

    Twelve to sixty windows: as many as keep 1,024 channels within a second of reading and looking.

    Parameters
    ----------
    recording : BaseRecording
        One segment; nothing of it but these windows is read.

    Examples
    --------
    >>> from spikelab.simulation import simulate_recording
    >>> glance = glance_at(simulate_recording("tetrode", duration_s=2.0).recording)
    >>> len(glance.windows), glance.windows[0].shape
    (40, (1000, 4))
    """
    import numpy as np

    fs_Hz, n_samples = float(recording.sampling_frequency), int(recording.get_num_samples())
    length = max(1, min(n_samples, round(_WINDOW_S * fs_Hz)))
    affordable = _VALUES // max(1, length * recording.get_num_channels())
    wanted = min(max(_FEWEST, affordable), _MOST, -(-n_samples // length))
    starts = np.unique(np.linspace(0, n_samples - length, wanted, dtype=np.int64)).tolist()
    windows = (recording.get_traces(start_frame=start, end_frame=start + length) for start in starts)
    return Glance(tuple(np.asarray(window) for window in windows), fs_Hz, tuple(starts))
