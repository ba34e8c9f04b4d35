"""Thresholds that people know by the name of the institute they come from, judged by SpikeInterface."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.curation._result import CriterionResult, judge
from spikelab.curation.quality_metrics import compute_quality_metrics

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

Thresholds = Mapping[str, Mapping[str, Any]]

THRESHOLDS: Mapping[str, Thresholds] = {
    "allen": {
        "isi_violations_ratio": {"greater": None, "less": 0.5},
        "amplitude_cutoff": {"greater": None, "less": 0.1},
        "presence_ratio": {"greater": 0.9, "less": None},
    },
    "ibl": {
        "sliding_rp_violation": {"greater": None, "less": 0.1},
        "noise_cutoff": {"greater": None, "less": 5.0},
        "amplitude_median": {"greater": 50.0, "less": None, "abs": True},
    },
}
"""Presets that are thresholds on metrics, in the form that SpikeInterface has for them: limits are inclusive.

"allen": Allen Institute, Visual Coding Neuropixels (Siegle et al., Nature 2021). "ibl": International Brain Laboratory,
"Spike sorting pipeline for the International Brain Laboratory" (2022): contamination of at most 10 % by the sliding
refractory period, noise cutoff below 5, median amplitude above 50 uV.
"""
_PRINCIPAL_COMPONENTS = ("isolation_distance", "l_ratio")
"""Thresholds of Bombcell that it leaves out by itself where there are no principal components."""

PRESETS = (*THRESHOLDS, "bombcell")
LABELS = ("noise", "mua", "good", "non_soma")
"""Labels of Bombcell; the metric of its criterion is their number in this list."""


def evaluate_preset(sd: SpikeData, preset: str) -> dict[str, CriterionResult]:
    """Judge all units by a preset.

    Raises
    ------
    ValueError
        When there is no such preset.
    EmptyWaveformMetricsError
        When a metric is missing that needs raw data, and there are none.
    """
    if preset not in PRESETS:
        msg = f"preset must be one of {list(PRESETS)}, got {preset!r}"
        raise ValueError(msg)
    if preset == "bombcell":
        labels = bombcell_labels(sd)
        numbers = np.array([LABELS.index(label) for label in labels], dtype=np.float64)
        return {"bombcell": judge(numbers, numbers == LABELS.index("good"))}
    thresholds = THRESHOLDS[preset]
    metrics = compute_quality_metrics(sd, list(thresholds))[1]
    return {name: _judge(metrics[name], {name: threshold}) for name, threshold in thresholds.items()}


def bombcell_labels(sd: SpikeData) -> list[str]:
    """Return Bombcell's label of each unit: "good", "mua", "noise" or "non_soma", as SpikeInterface implements it.

    Metrics that the units do not carry are measured on the raw data; isolation distance and L-ratio count only where
    all units carry them.

    Parameters
    ----------
    sd : SpikeData
        The units; never changed.

    Returns
    -------
    list of str, length N

    Raises
    ------
    EmptyWaveformMetricsError
        When a metric is missing that needs raw data, and there are none.
    """
    if sd.N == 0:
        return []
    import pandas as pd
    from spikeinterface.curation import bombcell_get_default_thresholds, bombcell_label_units

    thresholds = bombcell_get_default_thresholds()
    for section in thresholds.values():
        for name in _PRINCIPAL_COMPONENTS:
            if any(attributes.get(name) is None for attributes in sd.neuron_attributes):
                section.pop(name, None)
    names = [name for section in thresholds.values() for name in section]
    table = pd.DataFrame(compute_quality_metrics(sd, names)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        labels = bombcell_label_units(external_metrics=table, thresholds=thresholds)
    return [str(label) for label in labels["bombcell_label"]]


def _judge(values: Any, threshold: Thresholds) -> CriterionResult:
    """Return SpikeInterface's verdict on one metric; a unit without a value fails."""
    if not len(values):
        return judge(values, np.zeros(0, dtype=bool))
    import pandas as pd
    from spikeinterface.curation import threshold_metrics_label_units

    labels = threshold_metrics_label_units(pd.DataFrame({next(iter(threshold)): values}), dict(threshold))
    return judge(values, (labels["label"] == "good").to_numpy(dtype=bool))
