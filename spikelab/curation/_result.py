"""What a criterion returns, and how it becomes a curated SpikeData."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

Floats = npt.NDArray[np.float64]


class CriterionResult(TypedDict):
    """Metric and verdict of one criterion for every unit that was evaluated."""

    metric: Floats
    """Shape (N,): the value of each unit; NaN where it could not be measured."""
    passed: npt.NDArray[np.bool_]
    """Shape (N,): whether the unit meets the criterion; a NaN never does."""


def judge(metric: npt.NDArray[Any], passed: npt.NDArray[np.bool_]) -> CriterionResult:
    """Return the result of a criterion, with the metric as float64."""
    return {"metric": np.asarray(metric, dtype=np.float64), "passed": passed}


def apply(sd: SpikeData, result: CriterionResult) -> tuple[SpikeData, CriterionResult]:
    """Return the units that passed, and the result for all of them."""
    return sd.subset(result["passed"]), result


def require_not_negative(**thresholds: float) -> None:
    """Raise ValueError for the first threshold that is negative or not a number."""
    for field, value in thresholds.items():
        if math.isnan(value) or value < 0:
            msg = f"{field} must be zero or more, got {value}"
            raise ValueError(msg)
