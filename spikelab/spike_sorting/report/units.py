"""The units of a result, kept and removed, with what a page shows of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.report.curation_steps import criterion_metric, failed_criteria
from spikelab.spike_sorting.report.metrics import measure
from spikelab.spike_sorting.report.plain import mapping, to_number, to_plain
from spikelab.spike_sorting.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata import SpikeData

_LABELS = ("ks_label", "KSLabel", "quality")


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit.

    Parameters
    ----------
    unit_id : str
        Its id.
    kept : bool
        Whether it passed curation.
    failed : tuple of str
        Criteria that it failed.
    values : mapping of str to float
        The metrics by name; NaN or absent where unknown.
    train_ms : ndarray or None
        Times of its spikes (ms); None when only its metrics are left.
    attributes : mapping
        All that the sort says of it.
    """

    unit_id: str
    kept: bool
    failed: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    train_ms: NDArray[np.float64] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def position_um(self) -> tuple[float, float]:
        """Where it is (x, y); NaN where unknown."""
        position = to_plain(self.attributes.get("position"))
        if not isinstance(position, list) or len(position) < 2:
            position = [self.attributes.get("x"), self.attributes.get("y")]
        return to_number(position[0]), to_number(position[1])

    @property
    def channel(self) -> str:
        """Name of the channel on which it is largest."""
        return _first_text(self.attributes, ("channel_id", "channel"))

    @property
    def label(self) -> str:
        """What the sorter itself thinks of it."""
        return _first_text(self.attributes, _LABELS)

    @property
    def verdict(self) -> str:
        """Kept, or why not."""
        return "kept" if self.kept else ", ".join(self.failed) or "removed"

    def value(self, name: str) -> float:
        """Return the metric `name`; NaN where unknown."""
        return self.values.get(name, float("nan"))


def load_curated(run: RunFolder) -> tuple[SpikeData | None, str]:
    """Return the curated units, and what is wrong with their file: None and a reason when it cannot be read."""
    return _load(run.curated)


def load_raw(run: RunFolder, curated: SpikeData) -> SpikeData | None:
    """Return all units of the sort that `curated` stems from, or None when they are not kept anywhere."""
    for path in (run.raw, run.assembled):
        raw, _ = _load(path)
        # The intermediate folder may have been used again for another sort since.
        if raw is not None and _digest(raw) == _digest(curated):
            return raw
    return None


def collect_units(curated: SpikeData, raw: SpikeData | None, history: Mapping[str, Any]) -> tuple[Unit, ...]:
    """Return the units kept, then the units removed, with as much of each as is left."""
    kept = _units_of(curated, {}, kept=True)
    kept_ids = {unit.unit_id for unit in kept}
    failed = failed_criteria(history)
    everything = _units_of(raw, failed, kept=False) if raw is not None else _units_of_history(history, failed)
    return (*kept, *(unit for unit in everything if unit.unit_id not in kept_ids))


def _load(path: Path) -> tuple[SpikeData | None, str]:
    from spikelab.spikedata import SpikeData

    if not path.is_file():
        return None, f"{path.name} is missing: units are not shown."
    try:
        return SpikeData.load(path), ""
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read, units are not shown: {error}"


def _digest(sd: SpikeData) -> Any:
    return sd.metadata.get("config_digest")


def _units_of(sd: SpikeData, failed: Mapping[str, tuple[str, ...]], *, kept: bool) -> list[Unit]:
    measured = measure(sd)
    units = []
    for index, attributes in enumerate(sd.neuron_attributes):
        unit_id = str(attributes.get("unit_id", index))
        values = {name: float(column[index]) for name, column in measured.items()}
        units.append(Unit(unit_id, kept, failed.get(unit_id, ()), values, sd.train[index], attributes))
    return units


def _units_of_history(history: Mapping[str, Any], failed: Mapping[str, tuple[str, ...]]) -> list[Unit]:
    return [
        Unit(str(unit), kept=False, failed=failed.get(str(unit), ()), values=_recalled(values))
        for unit, values in mapping(history.get("metrics")).items()
    ]


def _recalled(values: Mapping[str, Any]) -> dict[str, float]:
    known = {criterion_metric(name): value for name, value in mapping(values).items()}
    return {metric.name: to_number(value) for metric, value in known.items() if metric is not None}


def _first_text(attributes: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(attributes[name]) for name in names if attributes.get(name) is not None), "")
