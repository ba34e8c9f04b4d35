"""The numbers that a report shows of every unit, and the criteria that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikelab.spike_sorting.report.plain import to_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spikedata import SpikeData


@dataclass(frozen=True)
class Metric:
    """One number of a unit.

    Parameters
    ----------
    name : str
        Key in the report for machines.
    label, unit : str
        How a person calls it, and its unit.
    attribute : str or None
        Attribute of the units that holds it; None when it is measured on the train.
    criterion, parameter : str or None
        What curation calls the criterion on it, and its threshold.
    digits : int
        Decimals in a table of units.
    is_minimum : bool
        Whether that threshold is a lowest value.
    is_log : bool
        Whether it spreads over decades.
    """

    name: str
    label: str
    unit: str = ""
    attribute: str | None = None
    criterion: str | None = None
    parameter: str | None = None
    digits: int = 2
    is_minimum: bool = True
    is_log: bool = False

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS = (
    Metric("amplitude_uV", "amplitude", "µV", attribute="amplitude", digits=1),
    Metric("snr", "SNR", attribute="snr", criterion="snr", parameter="min_snr", digits=1),
    Metric(
        "std_norm",
        "waveform spread",
        "SD / amplitude",
        attribute="std_norm",
        criterion="std_norm",
        parameter="max_std_norm",
        is_minimum=False,
    ),
    Metric(
        "isi_violation_pct",
        "ISI violations",
        "%",
        criterion="isi_violation",
        parameter="isi_max",
        is_minimum=False,
    ),
    Metric("contamination_pct", "contamination", "%", attribute="ks_contam_pct", digits=1),
    Metric("firing_rate_Hz", "firing rate", "Hz", criterion="firing_rate", parameter="min_rate_hz", is_log=True),
    Metric(
        "spikes_per_unit",
        "spikes per unit",
        criterion="spike_count",
        parameter="min_spikes",
        digits=0,
        is_log=True,
    ),
    Metric("stim_latency_ms", "latency after stimulation", "ms", attribute="stim_latency_ms", digits=1),
)
_OF_PAIRS = Metric(
    "redundancy_pct",
    "spikes shared with a larger unit",
    "%",
    criterion="redundancy",
    parameter="max_redundancy",
    is_minimum=False,
)
"""Judged by curation, and shown of no unit: it depends on which other units there are."""
BY_CRITERION: Mapping[str, Metric] = {metric.criterion: metric for metric in (*METRICS, _OF_PAIRS) if metric.criterion}


def measure(sd: SpikeData) -> dict[str, NDArray[np.float64]]:
    """Return each metric by name, one value per unit of `sd`; NaN where it is not known."""
    import numpy as np

    from spikelab.curation import curate_by_isi_violations

    measured = {
        "spikes_per_unit": np.array([len(train) for train in sd.train], dtype=float),
        "firing_rate_Hz": np.asarray(sd.rates("Hz"), dtype=float),
        "isi_violation_pct": curate_by_isi_violations(sd)[1]["metric"],
    }
    for metric in METRICS:
        if metric.attribute is not None:
            values = [to_number(attributes.get(metric.attribute)) for attributes in sd.neuron_attributes]
            measured[metric.name] = np.array(values, dtype=float)
    return measured
