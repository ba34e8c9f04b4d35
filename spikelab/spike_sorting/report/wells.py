"""What the map of a plate says of a well: its units, their rate, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable

from spikelab.spike_sorting.outcome import SKIPPED
from spikelab.spike_sorting.report.batch import Entry, Plate
from spikelab.spike_sorting.report.wording import UNKNOWN, count, decimal

COLOURS = (("units", "units kept"), ("rate", "firing rate"), ("status", "what came of it"))
"""What the colours of a plate can show; the first is shown at first."""


def label(entry: Entry) -> str:
    """Return the name of a well on its plate."""
    return entry.result.rec_name.rsplit("_", 1)[-1]


def units_share(entry: Entry, plate: Plate) -> float:
    """Return how strongly a well is coloured: its units kept beside those of the richest well of the plate."""
    return _share(plate, entry, lambda well: float(well.result.n_curated_units or 0))


def rate_share(entry: Entry, plate: Plate) -> float:
    """Return how strongly a well is coloured: its rate beside that of the busiest well of the plate."""
    return _share(plate, entry, rate_Hz)


def _share(plate: Plate, entry: Entry, read: Callable[[Entry], float]) -> float:
    values = [read(well) for row in plate.rows for well in row if well is not None]
    most, own = max((value for value in values if math.isfinite(value)), default=0.0), read(entry)
    return round(own / most, 3) if most and math.isfinite(own) else 0.0


def rate_Hz(entry: Entry) -> float:
    """Return the mean firing rate of the units kept (Hz); NaN where there are none, or the length is unknown."""
    n_spikes, n_kept = entry.result.n_spikes, entry.result.n_curated_units
    if not n_spikes or not n_kept or not entry.duration_s > 0:
        return math.nan
    return n_spikes / n_kept / entry.duration_s


def rate_text(entry: Entry) -> str:
    """Return the mean firing rate of the units kept for a well on the map."""
    return decimal(rate_Hz(entry), 1)


def standing(entry: Entry) -> tuple[str, str, str]:
    """Return what came of a well: a name for its colour, a sign, and words."""
    result = entry.result
    n_remarks = len(result.suspicions) + len(result.warnings)
    if result.succeeded:
        return ("look", "!", f"{n_remarks} to look at") if n_remarks else ("sorted", "\u2713", "sorted")
    if result.status == SKIPPED:
        return "skipped", UNKNOWN, result.status.replace("_", " ")
    return "failed", "\u2715", result.status.replace("_", " ")


def caption(plate: Plate) -> str:
    """Return what stands under a plate."""
    n_missing = sum(well is None for row in plate.rows for well in row)
    missing = f" {count(n_missing, 'well')} not in this report." if n_missing else ""
    return f"Units kept, of units found; mean firing rate of the units kept. Wells in reading order.{missing}"
