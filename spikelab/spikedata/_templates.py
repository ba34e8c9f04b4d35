"""What the average waveform of a unit says of it: its peak, its channels, its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.curation._similarity import defined_channels


@dataclass(frozen=True)
class Peak:
    """The largest deflection of a template.

    Parameters
    ----------
    sample, channel : int
        Where it is.
    is_positive : bool
        Whether it is a peak rather than a trough.
    height_uV : float
        Its size.
    """

    sample: int
    channel: int
    is_positive: bool
    height_uV: float


def largest_peak(average: npt.NDArray[Any], pos_peak_thresh: float = 2.0) -> Peak:
    """Return the peak of a template (samples, channels), in uV.

    A positive peak counts only when it exceeds the negative one `pos_peak_thresh` times: spikes are troughs.
    """
    is_positive = bool(average.max() > pos_peak_thresh * -average.min())
    flat = int(average.argmax() if is_positive else average.argmin())
    sample, channel = (int(index) for index in np.unravel_index(flat, average.shape))
    return Peak(sample, channel, is_positive, float(abs(average[sample, channel])))


def template_attributes(average: npt.NDArray[Any]) -> dict[str, Any]:
    """Return a unit's template (samples, channels), whole and on the channels where it is defined, in uV."""
    on = np.flatnonzero(defined_channels(average.T))
    return {
        "template": average[:, on].astype(np.float32),
        "template_channels": on,
        "template_full": average.astype(np.float32),
        "avg_waveform": np.ascontiguousarray(average.T, dtype=np.float32),
    }


def average_of(attributes: Mapping[str, Any], n_channels: int) -> npt.NDArray[Any] | None:
    """Return the average waveform (samples, channels) that a unit carries; None where it has none on all channels."""
    average = attributes.get("template_full")
    if average is None and attributes.get("avg_waveform") is not None:
        average = np.asarray(attributes["avg_waveform"]).T
    usable = isinstance(average, np.ndarray) and average.ndim == 2 and average.shape[1] == n_channels
    return average if usable else None


def centre_um(average: npt.NDArray[Any], locations_um: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where a template (samples, channels) lies: its channels weighted by their squared peak-to-peak."""
    reach = np.ptp(average, axis=0).astype(np.float64)
    weights = np.where(defined_channels(average.T), reach, 0.0) ** 2
    centre: npt.NDArray[np.float64] = weights @ locations_um / weights.sum()
    return centre
