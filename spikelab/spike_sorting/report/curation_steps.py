"""The way from the units found to the units kept, read from a curation history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting.report.metrics import BY_CRITERION, METRICS, Metric
from spikelab.spike_sorting.report.plain import finite, mapping

_LABELS = {"merge_duplicates": "merged into another unit"}
"""Of what is no criterion of a unit's own quality."""


@dataclass(frozen=True)
class Step:
    """One criterion of a curation.

    Parameters
    ----------
    stage : int
        Stage in which it was applied.
    criterion : str
        Its name for people.
    threshold : str
        What it asked for; empty when unknown.
    n_failed : int
        Units that failed it, whatever else they failed.
    n_left : int
        Units that passed it and all before it.
    """

    stage: int
    criterion: str
    threshold: str
    n_failed: int
    n_left: int


def curation_steps(history: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the criteria of `history` in order; none when there is no history."""
    failed = mapping(history.get("failed"))
    left = {str(unit) for unit in history.get("initial") or ()}
    steps = []
    for entry in map(mapping, history.get("curations") or ()):
        name, stage = str(entry.get("criterion")), int(entry.get("stage") or 1)
        failing = {str(unit) for unit in failed.get(name) or ()}
        left -= failing
        threshold = _threshold(history, criterion_metric(name), stage)
        steps.append(Step(stage, criterion_label(name), threshold, len(failing), len(left)))
    return tuple(steps)


def failed_criteria(history: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return which criteria each removed unit failed, in words, by its id as text."""
    reasons: dict[str, dict[str, None]] = {}
    for name, units in mapping(history.get("failed")).items():
        for unit in units or ():
            reasons.setdefault(str(unit), {})[criterion_label(name)] = None
    return {unit: tuple(labels) for unit, labels in reasons.items()}


def thresholds(history: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the thresholds that were applied to each metric, by the metric's name, rising."""
    found: dict[str, tuple[float, ...]] = {}
    for metric in METRICS:
        values = {
            finite(stage.get(metric.parameter or "")) for stage in _stages(history) if _is_same_measure(metric, stage)
        }
        found[metric.name] = tuple(sorted(value for value in values if value is not None))
    return found


def criterion_metric(name: str) -> Metric | None:
    """Return the metric that the criterion `name` of a history judges, when the report knows it."""
    return BY_CRITERION.get(name) or BY_CRITERION.get(re.sub(r"_\d+$", "", name))


def criterion_label(name: str) -> str:
    """Return what people call the criterion `name` of a history."""
    metric = criterion_metric(name)
    return metric.label if metric else _LABELS.get(name, name)


def _stages(history: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parameters = mapping(history.get("curation_parameters"))
    if parameters and all(re.fullmatch(r"stage_\d+", key) for key in parameters):
        return [mapping(stage) for stage in parameters.values()]
    return [parameters]


def _is_same_measure(metric: Metric, stage: Mapping[str, Any]) -> bool:
    # The report measures violations in percent; a threshold of Hill's ratio would be a line at a wrong place.
    return metric.criterion != "isi_violation" or stage.get("isi_method", "percent") == "percent"


def _threshold(history: Mapping[str, Any], metric: Metric | None, stage: int) -> str:
    stages = _stages(history)
    if metric is None or stage > len(stages):
        return ""
    parameters = stages[stage - 1]
    value = finite(parameters.get(metric.parameter or ""))
    if value is None:
        return ""
    unit = metric.unit if metric.unit in {"%", "Hz"} else ""
    if not _is_same_measure(metric, parameters):
        unit = f"({parameters['isi_method']})"
    return f"{'at least' if metric.is_minimum else 'at most'} {value:g} {unit}".rstrip()
