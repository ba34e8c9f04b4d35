"""A sort at a glance: drift over time and a sample of the spikes, small enough to lie beside every result."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OVERVIEW = "sort_overview.npz"
"""Name of the file, in the folder of the sorter and in that of the results."""
MAX_SPIKES = 20_000
"""Spikes in a sample: more would make a file large and a plot slow, not clearer."""


@dataclass(frozen=True, eq=False)
class Overview:
    """What a sorter tells of drift and of single spikes.

    Parameters
    ----------
    n_spikes : ndarray, shape (), int64
        Spikes of which the sample was drawn.
    time_s, depth_um, amplitude : ndarray, shape (n_drawn,), float32
        Time, y position and size (in the sorter's own units) of each spike drawn.
    drift_time_s : ndarray, shape (n_batches,), float32
        Middle of each stretch of the recording for which drift was estimated; empty where it was not.
    drift_depth_um : ndarray, shape (n_depths,), float32
        Depths for which it was estimated.
    drift_um : ndarray, shape (n_batches, n_depths), float32
        By how much the sorter has moved its templates there.
    """

    n_spikes: NDArray[np.int64]
    time_s: NDArray[np.float32]
    depth_um: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    drift_time_s: NDArray[np.float32]
    drift_depth_um: NDArray[np.float32]
    drift_um: NDArray[np.float32]

    def is_consistent(self) -> bool:
        """Return whether its arrays fit together, as those of a foreign file may not."""
        drift = (*self.drift_time_s.shape, *self.drift_depth_um.shape)
        shapes = {self.time_s.shape, self.depth_um.shape, self.amplitude.shape}
        are_numbers = all(getattr(self, field.name).dtype.kind in "fi" for field in fields(self))
        return are_numbers and len(shapes) == self.time_s.ndim == 1 and self.drift_um.shape == drift


def write_overview(path: Path, overview: Overview) -> None:
    """Write `overview` as plain arrays."""
    import numpy as np

    np.savez_compressed(path, **{field.name: getattr(overview, field.name) for field in fields(overview)})


def read_overview(path: Path) -> Overview | None:
    """Return what `write_overview` left, or None when there is nothing that can be read."""
    import numpy as np

    try:
        # Numpy does not close a file that it has opened itself and cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            overview = Overview(**{field.name: file[field.name] for field in fields(Overview)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return overview if overview.is_consistent() else None
