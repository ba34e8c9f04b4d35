"""What the page shows of the unit that is chosen in its table: footprint, waveform, autocorrelogram; packed small.

A thousand units take about a megabyte: waveforms are bytes, a 127th of the largest value each, in base64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.facts import Facts
from spikelab.spike_sorting.report.plain import finite, to_number, to_plain
from spikelab.spike_sorting.report.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_CHANNELS, _MOST_SAMPLES = 14, 64
_WINDOW_MS, _BIN_MS = 50.0, 1.0
_MOST_SPIKES = 20_000
"""Spikes in a row by which the autocorrelogram is drawn: more of them look the same."""


def unit_details(facts: Facts) -> dict[str, Any]:
    """Return what the page needs of each unit, in their order; units of which nothing is left have None.

    ``places`` are the contacts (um). Of a unit, ``c`` are its channels as indices of these, the largest first, ``w``
    its waveforms there as int8 in steps of ``uV``, channel after channel, from ``t0`` on in steps of ``dt`` (ms, or
    samples where the rate is unknown), and ``a`` the counts of its autocorrelogram as uint16, ``n`` spikes long.
    """
    places = contacts_of(facts)
    fs_Hz = to_number(facts.recording.get("fs_Hz") or facts.metadata.get("fs_Hz"))
    return {
        "places": [[finite(x, 5), finite(y, 5)] for x, y in places],
        "bin_ms": _BIN_MS,
        "unit_of_time": "ms" if fs_Hz > 0 else "samples",
        "units": [_detail(unit, places, fs_Hz) for unit in facts.units],
    }


def contacts_of(facts: Facts) -> list[tuple[float, float]]:
    """Return the positions of the channels (um); NaN where one is unknown."""
    rows: Any = to_plain(facts.metadata.get("channel_locations"))
    if not isinstance(rows, list):
        return []
    return [
        (to_number(row[0]), to_number(row[1])) if isinstance(row, list) and len(row) >= 2 else (math.nan, math.nan)
        for row in rows
    ]


def template_of(unit: Unit) -> NDArray[np.float64] | None:
    """Return the mean waveform (samples, channels), or None when there is none that can be drawn."""
    import numpy as np

    stored = unit.attributes.get("template_full", unit.attributes.get("template"))
    template = np.asarray(stored)
    if template.ndim != 2 or template.size == 0 or template.dtype.kind not in "fiu":
        return None
    return template.astype(float) if np.isfinite(template).all() else None


def _detail(unit: Unit, places: Sequence[tuple[float, float]], fs_Hz: float) -> dict[str, Any] | None:
    detail = {**_waveforms(unit, places, fs_Hz), **_correlogram(unit)}
    return detail or None


def _waveforms(unit: Unit, places: Sequence[tuple[float, float]], fs_Hz: float) -> dict[str, Any]:
    import numpy as np

    template = template_of(unit)
    if template is None:
        return {}
    peak_channel = int(np.ptp(template, axis=0).argmax())
    channels = _near(peak_channel, template, places)
    step = -(-len(template) // _MOST_SAMPLES)
    trough = int(abs(template[:, peak_channel]).argmax())
    shown = template[trough % step :: step, channels]
    scale_uV = float(abs(shown).max()) / 127 or 1.0
    shift = to_number(unit.attributes.get("peak_sample"))
    first = trough % step - trough + (0 if math.isnan(shift) else shift)
    per_sample = 1000 / fs_Hz if fs_Hz > 0 else 1.0
    return {
        "w": _packed(np.round(shown.T / scale_uV).astype(np.int8)),
        "c": channels,
        "uV": finite(scale_uV),
        "t0": finite(first * per_sample),
        "dt": finite(step * per_sample),
    }


def _near(peak_channel: int, template: NDArray[np.float64], places: Sequence[tuple[float, float]]) -> list[int]:
    """Return the largest channel and those around it; where positions are unknown, the largest ones."""
    import numpy as np

    if len(places) != template.shape[1] or not all(map(math.isfinite, places[peak_channel])):
        order = np.argsort(-np.ptp(template, axis=0), kind="stable")
    else:
        apart = np.array(places) - np.array(places[peak_channel])
        distance = np.nan_to_num(np.hypot(apart[:, 0], apart[:, 1]), nan=np.inf)
        distance[peak_channel] = -1.0
        order = np.argsort(distance, kind="stable")
    return [int(channel) for channel in order[:_MOST_CHANNELS]]


def _correlogram(unit: Unit) -> dict[str, Any]:
    import numpy as np

    from spikelab.spikedata.plots.trains import autocorrelogram

    if unit.train_ms is None or unit.train_ms.size < 2:
        return {}
    train_ms = np.asarray(unit.train_ms[:_MOST_SPIKES], float)
    _, rate_Hz = autocorrelogram(train_ms, _WINDOW_MS, _BIN_MS)
    counts = np.round(rate_Hz[rate_Hz.size // 2 :] * train_ms.size * _BIN_MS / 1000)
    return {"a": _packed(np.minimum(counts, 65535).astype("<u2")), "n": int(train_ms.size)}


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
