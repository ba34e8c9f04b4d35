"""Spike trains that look wrong: holes at batch borders, stretches of silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.suspicions.evidence import Evidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BORDER_MS, _FEWEST_AT_BORDERS, _FEWEST_BORDERS = 5.0, 20.0, 2
_HOLE, _HEAP = 0.5, 2.0
_SILENT_S, _SILENT_FRAC, _EXPECTED_IN_SILENCE = 10.0, 0.05, 50.0


def batch_borders(evidence: Evidence) -> Remark | None:
    """Find spikes that are missing, or too many, within 2.5 ms of where the sorter's batches meet.

    The share of spikes there is compared to that of windows of the same length at every other place in a batch: the
    border is suspicious where it is the emptiest or the fullest of all of them, and far from their mean.
    """
    import numpy as np

    sd, n = evidence.found, evidence.batch_samples
    fs_Hz = sd.metadata.get("fs_Hz")
    if not n or not fs_Hz:
        return None
    batch_ms = n / float(fs_Hz) * 1000
    inner = _between_borders(evidence.times_ms, batch_ms, sd.length)
    n_bins = int(batch_ms // _BORDER_MS)
    if n_bins < 10 or sd.length < (_FEWEST_BORDERS + 1) * batch_ms:
        return None
    counts = np.bincount((inner / (batch_ms / n_bins)).astype(int) % n_bins, minlength=n_bins)
    at_border, elsewhere = int(counts[0]), counts[1:]
    expected = float(elsewhere.mean())
    ratio = at_border / expected if expected else 1.0
    is_hole = ratio < _HOLE and at_border < elsewhere.min()
    is_heap = ratio > _HEAP and at_border > elsewhere.max()
    if expected < _FEWEST_AT_BORDERS or not (is_hole or is_heap):
        return None
    found = f"{at_border} spikes lie within {_BORDER_MS / 2:g} ms of borders of batches ({n} samples)"
    return remark("batch-borders", f"{found}; {expected:.0f} are expected")


def _between_borders(times_ms: NDArray[np.float64], batch_ms: float, length_ms: float) -> NDArray[np.float64]:
    """Return the places of spikes in their batch, moved by half a window so that borders lie within one.

    Half a batch at both ends of the recording is left out: the first and the last border are no borders.
    """
    moved = times_ms[(times_ms >= batch_ms / 2) & (times_ms < (length_ms // batch_ms - 0.5) * batch_ms)]
    return (moved + _BORDER_MS / 2) % batch_ms


def silent_stretch(evidence: Evidence) -> Remark | None:
    """Find a stretch without a spike of any unit: ten seconds and a twentieth of the recording, where many are due."""
    import numpy as np

    times, sd = evidence.times_ms, evidence.found
    if not times.size:
        return None
    ends = np.concatenate([[sd.start_time], times, [sd.start_time + sd.length]])
    gaps = np.diff(ends)
    at = int(gaps.argmax())
    longest_s, expected = gaps[at] / 1000, times.size * gaps[at] / sd.length
    if longest_s < max(_SILENT_S, _SILENT_FRAC * sd.length / 1000) or expected < _EXPECTED_IN_SILENCE:
        return None
    found = f"no unit fires from {ends[at] / 1000:.4g} s to {ends[at + 1] / 1000:.4g} s"
    return remark("silent-stretch", f"{found}; {expected:.0f} spikes are expected")
