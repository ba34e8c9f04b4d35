"""What the checks of a finished sort judge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata import SpikeData


@dataclass(frozen=True, eq=False)
class Crossings:
    """Where the band-passed signal goes far below its noise, in windows of the recording.

    Parameters
    ----------
    time_ms : ndarray, shape (n_crossings,), float64
        When.
    channel : ndarray, shape (n_crossings,), int64
        On which channel.
    seconds : float
        Length of the windows together (s).
    """

    time_ms: NDArray[np.float64]
    channel: NDArray[np.int64]
    seconds: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """A finished sort.

    Parameters
    ----------
    found : SpikeData
        All units of the sorter, as the stage "assemble" leaves them.
    kept : SpikeData
        Those that curation kept.
    n_channels : int
        Channels that were sorted.
    batch_samples : int or None, default None
        Length of the pieces that the sorter works on one after the other; None where it has none.
    gain_is_known : bool, default True
        Whether amplitudes are in microvolts.
    crossings : Crossings or None, default None
        Threshold crossings of the signal; None where nobody has looked.
    """

    found: SpikeData
    kept: SpikeData
    n_channels: int
    batch_samples: int | None = None
    gain_is_known: bool = True
    crossings: Crossings | None = None

    @cached_property
    def times_ms(self) -> NDArray[np.float64]:
        """Times of all spikes of all units, rising (ms)."""
        import numpy as np

        return np.sort(np.concatenate([np.empty(0), *self.found.train]))

    @cached_property
    def places_um(self) -> NDArray[np.float64]:
        """Positions of the channels, shape (n_channels, 2)."""
        import numpy as np

        places = np.asarray(self.found.metadata.get("channel_locations", ()), np.float64)
        return places.reshape(-1, places.shape[-1])[:, :2] if places.size else np.empty((0, 2))
