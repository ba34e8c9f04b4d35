"""Several criteria at once, each judged on all units."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from spikelab.curation import criteria
from spikelab.curation._result import CriterionResult, judge
from spikelab.curation.presets import evaluate_preset
from spikelab.curation.waveform_metrics import recall

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


def curate(
    sd: SpikeData,
    min_spikes: int | None = None,
    min_rate_hz: float | None = None,
    isi_max: float | None = None,
    isi_threshold_ms: float = 1.5,
    isi_min_ms: float = 0.0,
    isi_method: criteria.IsiMethod = "percent",
    min_snr: float | None = None,
    max_std_norm: float | None = None,
    metrics: Mapping[str, tuple[str, float]] | None = None,
    *,
    preset: str | None = None,
    epoch: int | None = None,
    at_peak: bool = True,
    ms_before: float = 1.0,
    ms_after: float = 2.0,
) -> tuple[SpikeData, dict[str, CriterionResult]]:
    """Keep the units that pass every criterion that is not None.

    All criteria are judged on all units, so the outcome does not depend on their order.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    min_spikes : int, optional
        Fewest spikes; result "spike_count".
    min_rate_hz : float, optional
        Lowest rate (Hz); result "firing_rate".
    isi_max : float, optional
        Largest refractory violation (percent, or a ratio for "hill"); result "isi_violation".
    isi_threshold_ms, isi_min_ms : float, default 1.5 and 0.0
        Refractory and censored period (ms).
    isi_method : {"percent", "hill"}, default "percent"
        As in :func:`curate_by_isi_violations`.
    min_snr : float, optional
        Lowest signal-to-noise ratio; result "snr".
    max_std_norm : float, optional
        Largest deviation over amplitude; result "std_norm".
    metrics : mapping of str to (operator, threshold), optional
        Criteria on numeric attributes of the units, such as ``{"presence_ratio": (">=", 0.9)}``, with the
        operators >=, >, <=, < and ==; the result is named after the attribute. A unit without a value
        (absent, None, NaN) fails.
    preset : {"allen", "ibl", "bombcell"}, optional
        Thresholds that people know, on SpikeInterface's metrics; each metric has a result of its own. "allen":
        isi_violations_ratio at most 0.5, amplitude_cutoff at most 0.1, presence_ratio at least 0.9. "ibl":
        sliding_rp_violation at most 0.1, noise_cutoff at most 5, amplitude_median at least 50 uV. "bombcell": units
        labelled "good"; the metric is 0 for noise, 1 mua, 2 good, 3 non_soma. Metrics that units do not carry are
        measured with :func:`compute_quality_metrics`.
    epoch : int, optional
        Judge on this epoch of a concatenated recording alone, and keep or remove units of the whole. What units carry
        as ``epoch_<name>`` (one entry per epoch) counts as the epoch's ``<name>``.
    at_peak : bool, default True
        As in :func:`curate_by_std_norm`.
    ms_before, ms_after : float, default 1.0 and 2.0
        Window around a spike (ms) when SNR or std_norm have to be computed.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed everything, in their order.
    results : dict of dict
        For each criterion "metric": shape (N,), float64, and "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When a threshold is negative, or a method, attribute, operator, preset or epoch is unknown.
    EmptyWaveformMetricsError
        When SNR or std_norm are asked for, units lack them and there is no raw data.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 20.0, 40.0], [5.0]], length=1000.0)
    >>> curated, results = sd.curate(min_spikes=2, isi_max=1.0)
    >>> curated.N, {name: int((~result["passed"]).sum()) for name, result in results.items()}
    (1, {'spike_count': 1, 'isi_violation': 0})
    """
    judged = sd if epoch is None else _epoch(sd, epoch)
    results: dict[str, CriterionResult] = {}
    if min_spikes is not None:
        results["spike_count"] = criteria.evaluate_min_spikes(judged, min_spikes)
    if min_rate_hz is not None:
        results["firing_rate"] = criteria.evaluate_firing_rate(judged, min_rate_hz)
    if isi_max is not None:
        results["isi_violation"] = criteria.evaluate_isi_violations(
            judged, isi_max, isi_threshold_ms, isi_min_ms, isi_method
        )
    thresholds = {"snr": min_snr, "std_norm": max_std_norm}
    asked = {name: threshold for name, threshold in thresholds.items() if threshold is not None}
    results |= criteria.evaluate_waveforms(judged, asked, ms_before, ms_after, at_peak=at_peak)
    if preset is not None:
        _add(results, evaluate_preset(judged, preset), "in the preset")
    _add(
        results, {name: _evaluate_attribute(judged, name, rule) for name, rule in (metrics or {}).items()}, "in metrics"
    )
    return _keep_passing_all(sd, results), results


def _epoch(sd: SpikeData, epoch: int) -> SpikeData:
    epochs = sd.split_epochs()
    if not 0 <= epoch < len(epochs):
        msg = f"epoch must be 0 to {len(epochs) - 1}, one of the {len(epochs)} of the recording, got {epoch}"
        raise ValueError(msg)
    return epochs[epoch]


def _add(results: dict[str, CriterionResult], more: Mapping[str, CriterionResult], where: str) -> None:
    for name, result in more.items():
        if name in results:
            msg = f"criterion {name!r} is asked for twice: as an argument of its own and {where}"
            raise ValueError(msg)
        results[name] = result


def _evaluate_attribute(sd: SpikeData, name: str, rule: tuple[str, float]) -> CriterionResult:
    symbol, threshold = _parse_rule(name, rule)
    available = sorted({key for attributes in sd.neuron_attributes for key in attributes})
    if name not in available and sd.N > 0:
        msg = f"metrics names {name!r}, which no unit has as an attribute; available: {available}"
        raise ValueError(msg)
    values = recall(sd, name)
    # Comparisons with NaN are False: a unit that was not measured does not pass.
    return judge(values, _OPERATORS[symbol](values, threshold))


def _parse_rule(name: str, rule: tuple[str, float]) -> tuple[str, float]:
    try:
        symbol, threshold = rule
        number = float(threshold)
    except (TypeError, ValueError) as error:
        msg = f"metrics[{name!r}] must be (operator, number) such as ('>=', 0.9), got {rule!r}"
        raise ValueError(msg) from error
    if math.isnan(number):
        msg = f"metrics[{name!r}] must have a number to compare with, got {number}"
        raise ValueError(msg)
    if symbol not in _OPERATORS:
        msg = f"metrics[{name!r}] has the unknown operator {symbol!r}; available: {sorted(_OPERATORS)}"
        raise ValueError(msg)
    return symbol, number


def _keep_passing_all(sd: SpikeData, results: Mapping[str, CriterionResult]) -> SpikeData:
    passed = [True] * sd.N
    for result in results.values():
        passed = [so_far and bool(now) for so_far, now in zip(passed, result["passed"], strict=True)]
    return sd.subset(passed)
