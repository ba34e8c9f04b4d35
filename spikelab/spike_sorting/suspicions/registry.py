"""All checks of a finished sort, in the order in which people read what they find.

A check is a pure function that returns a remark, or None. To add one, write it into the file of its subject, its name
here, and its code into `remarks.CODES`.
"""

from __future__ import annotations

from collections.abc import Callable

from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.suspicions import signal, trains, units
from spikelab.spike_sorting.suspicions.evidence import Evidence

CHECKS: tuple[Callable[[Evidence], Remark | None], ...] = (
    units.none_kept,
    units.all_mua,
    units.location,
    units.amplitudes,
    units.units_per_channel,
    units.alike,
    signal.crossings_unexplained,
    trains.silent_stretch,
    trains.batch_borders,
)


def suspicions_of(evidence: Evidence) -> list[Remark]:
    """Return what of a finished sort deserves a look."""
    found = (check(evidence) for check in CHECKS)
    return [one for one in found if one is not None]
