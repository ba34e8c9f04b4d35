"""Units that look wrong: their number, size, place, likeness, and what the sorter itself thinks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.suspicions.evidence import Evidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata import SpikeData

_MANY_PER_CHANNEL, _SPARE, _CHANNELS_PER_UNIT, _FEWEST_CHANNELS = 3, 10, 100, 100
_SMALLEST_UV, _LARGEST_UV = 10.0, 2000.0
_LOUD_SHARE, _FEWEST_LOUD, _SCATTERED, _FEWEST_CHANNELS_FOR_PLACE = 0.4, 3, 0.6, 8
_FAR_UM = 100.0
_WIDE_UM = 100.0
"""A footprint reaches some 50 um to each side: units are loud all over channels that do not reach further."""
_ALIKE, _NEAR_UM, _MOST_ALIKE, _LAG_MS = 0.95, 50.0, 0.25, 0.25
_FEWEST_UNITS = 4
_MOST_NAMED = 10


def none_kept(evidence: Evidence) -> Remark | None:
    """Find sorts of which curation has left nothing."""
    if evidence.kept.N or not evidence.found.N:
        return None
    return remark("none-kept", f"{evidence.found.N} units were found, and none was kept")


def units_per_channel(evidence: Evidence) -> Remark | None:
    """Find numbers of units far from what so many channels have: more than 10 and three for each, or under 1 in 100."""
    n_units, n_channels = evidence.found.N, evidence.n_channels
    many = n_units > _SPARE + _MANY_PER_CHANNEL * n_channels
    few = n_channels >= _FEWEST_CHANNELS and n_units * _CHANNELS_PER_UNIT < n_channels
    if not (many or few):
        return None
    return remark("units-per-channel", f"{n_units} units on {n_channels} channels are {'many' if many else 'few'}")


def amplitudes(evidence: Evidence) -> Remark | None:
    """Find units kept whose spikes are smaller or larger than neurons' are."""
    import numpy as np

    if not evidence.gain_is_known:
        return None
    sizes_uV = np.abs(_values(evidence.kept, "amplitude"))
    odd = (sizes_uV < _SMALLEST_UV) | (sizes_uV > _LARGEST_UV)
    if not odd.any():
        return None
    sizes = f"{np.nanmin(sizes_uV[odd]):.3g} to {np.nanmax(sizes_uV[odd]):.3g} uV"
    return remark("amplitudes", f"{_units(evidence.kept, odd)} of {sizes}")


def location(evidence: Evidence) -> Remark | None:
    """Find units that are large on channels all over the probe, or lie far from the channel where they are largest.

    Next to its largest channel, a unit is largest on that channel's neighbours. Scattered is one whose loud channels
    (0.4 of the largest peak-to-peak amplitude) are, in the mean, nearly as far from the largest one as all channels.
    """
    import numpy as np

    sd, places = evidence.found, evidence.places_um
    if len(places) < _FEWEST_CHANNELS_FOR_PLACE or sd.N < 2:
        return None
    far = np.array([_is_far(unit, places) for unit in sd.neuron_attributes])
    judged = np.array([_scatter(unit, places) for unit in sd.neuron_attributes])
    scattered = judged > _SCATTERED
    n_judged = int(np.isfinite(judged).sum())
    if not far.any() and not (scattered.sum() >= 2 and scattered.sum() >= 0.3 * n_judged):
        return None
    return remark("location", f"{_units(sd, far | scattered)} far from, or not only around, their largest channel")


def _is_far(unit: dict[str, Any], places: NDArray[np.float64]) -> bool:
    import numpy as np

    position, channel = unit.get("position"), unit.get("channel")
    if position is None or channel is None or not 0 <= int(channel) < len(places):
        return False
    distance = float(np.linalg.norm(np.asarray(position, np.float64)[:2] - places[int(channel)]))
    return distance > _FAR_UM


def _scatter(unit: dict[str, Any], places: NDArray[np.float64]) -> float:
    """Return how far loud channels are from the largest one, relative to all channels; NaN where that says nothing."""
    import numpy as np

    template = unit.get("template_full")
    if template is None or np.shape(template)[-1] != len(places):
        return float("nan")
    reach = np.ptp(np.asarray(template, np.float64), axis=0)
    peak = int(reach.argmax())
    distance = np.linalg.norm(places - places[peak], axis=1)
    loud = reach >= _LOUD_SHARE * reach[peak]
    if loud.sum() < _FEWEST_LOUD or np.linalg.norm(np.ptp(places, axis=0)) < _WIDE_UM:
        return float("nan")
    others = np.arange(len(places)) != peak
    return float(distance[loud & others].mean() / distance[others].mean())


def alike(evidence: Evidence) -> Remark | None:
    """Find sorts in which a quarter of the units kept has a twin: within 50 um, with nearly the same waveform."""
    import numpy as np

    from spikelab.curation._similarity import compare_neighbours, read_waveforms

    sd = evidence.kept
    fs_Hz = sd.metadata.get("fs_Hz")
    if sd.N < _FEWEST_UNITS or not fs_Hz or any(unit.get("avg_waveform") is None for unit in sd.neuron_attributes):
        return None
    positions = np.column_stack([_values(sd, "x"), _values(sd, "y")])
    pairs = compare_neighbours(positions, read_waveforms(sd), _NEAR_UM, round(_LAG_MS * float(fs_Hz) / 1000))
    twins = pairs.similarity >= _ALIKE
    units = np.zeros(sd.N, dtype=bool)
    units[pairs.first[twins]] = units[pairs.second[twins]] = True
    if twins.sum() < 2 or units.mean() < _MOST_ALIKE:
        return None
    return remark("alike", f"{_units(sd, units)} with a neighbour of nearly the same waveform")


def all_mua(evidence: Evidence) -> Remark | None:
    """Find sorts of which the sorter calls no unit good."""
    labels = [unit.get("ks_label") for unit in evidence.found.neuron_attributes]
    if len(labels) < _FEWEST_UNITS or set(labels) != {"mua"}:
        return None
    return remark("all-mua", f"the sorter calls all {len(labels)} units mua, and none good")


def _values(sd: SpikeData, name: str) -> NDArray[np.float64]:
    import numpy as np

    return np.array([unit.get(name, np.nan) for unit in sd.neuron_attributes], np.float64)


def _units(sd: SpikeData, mask: NDArray[np.bool_]) -> str:
    """Return "2 of 7 units (12, 15)"."""
    names = [str(unit.get("unit_id", k)) for k, unit in enumerate(sd.neuron_attributes) if mask[k]]
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"{len(names)} of {sd.N} units ({', '.join(names[:_MOST_NAMED])}{more})"
