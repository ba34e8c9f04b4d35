"""One criterion each: which units have enough spikes, fire enough, are clean, stand out of the noise.

Every ``evaluate_*`` returns the verdict on all units; every ``curate_by_*`` applies it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from spikelab.curation import _metrics
from spikelab.curation._result import CriterionResult, apply, judge, require_not_negative
from spikelab.curation.waveform_metrics import measure_or_recall

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

IsiMethod = Literal["percent", "hill"]

_WAVEFORM_RULES: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "snr": ("min_snr", operator.ge),
    "std_norm": ("max_std_norm", operator.le),
}
"""What the threshold of each metric is called, and how a metric that passes compares with it."""


def curate_by_min_spikes(sd: SpikeData, min_spikes: int = 30) -> tuple[SpikeData, CriterionResult]:
    """Keep the units with at least `min_spikes` spikes.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    min_spikes : int, default 30
        Fewest spikes of a unit that stays.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, spike counts; "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When `min_spikes` is negative.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 2.0, 3.0], [5.0]], length=10.0)
    >>> curated, result = curate_by_min_spikes(sd, min_spikes=2)
    >>> curated.N, result["passed"].tolist()
    (1, [True, False])
    """
    return apply(sd, evaluate_min_spikes(sd, min_spikes))


def curate_by_firing_rate(sd: SpikeData, min_rate_hz: float = 0.05) -> tuple[SpikeData, CriterionResult]:
    """Keep the units that fire at `min_rate_hz` or more over the whole recording.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    min_rate_hz : float, default 0.05
        Lowest mean rate (Hz) of a unit that stays: spikes over ``sd.observed_ms``. No such time: rate 0.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, rates (Hz); "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When `min_rate_hz` is negative.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0, 2.0, 3.0], [5.0]], length=1000.0)
    >>> curate_by_firing_rate(sd, min_rate_hz=2.0)[1]["metric"].tolist()
    [3.0, 1.0]
    """
    return apply(sd, evaluate_firing_rate(sd, min_rate_hz))


def curate_by_isi_violations(
    sd: SpikeData,
    max_violation: float = 1.0,
    threshold_ms: float = 1.5,
    min_isi_ms: float = 0.0,
    method: IsiMethod = "percent",
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units whose spikes respect the refractory period.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    max_violation : float, default 1.0
        Largest violation of a unit that stays: percent (0-100) for "percent", a ratio for "hill".
    threshold_ms : float, default 1.5
        Refractory period (ms); an interval of exactly this length is no violation.
    min_isi_ms : float, default 0.0
        Shortest interval (ms) that the spike detection can report; read by "hill" only.
    method : {"percent", "hill"}, default "percent"
        "percent": spikes whose interval to the previous one is below the threshold, in percent of all spikes.
        "hill": ``n_violations * observed_ms / (2 * n_spikes**2 * (threshold_ms - min_isi_ms))`` [1]_, the number
        that SpikeInterface calls ``isi_violations_ratio`` where nothing of the recording is blanked.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, 0 for fewer than two spikes; "passed": shape (N,), bool; N = all units
        given.

    Raises
    ------
    ValueError
        When `method` is unknown, a number is negative, or "hill" is asked for without
        ``min_isi_ms < threshold_ms``.

    References
    ----------
    .. [1] Hill, Mehta, Kleinfeld: Quality metrics to accompany spike sorting of extracellular signals.
       Journal of Neuroscience 31(24), 8699-8705, 2011.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[0.0, 1.0, 50.0, 90.0]], length=100.0)
    >>> curate_by_isi_violations(sd)[1]["metric"].tolist()
    [25.0]
    """
    return apply(sd, evaluate_isi_violations(sd, max_violation, threshold_ms, min_isi_ms, method))


def curate_by_snr(
    sd: SpikeData, min_snr: float = 5.0, ms_before: float = 1.0, ms_after: float = 2.0
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units whose average waveform stands out of the noise.

    The attribute ``snr`` is used where every unit has it; otherwise it is computed from ``sd.raw_data`` as
    :func:`compute_waveform_metrics` does.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    min_snr : float, default 5.0
        Lowest signal-to-noise ratio of a unit that stays.
    ms_before, ms_after : float, default 1.0 and 2.0
        Window around a spike (ms) when the ratio has to be computed.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64; "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When a number is negative.
    EmptyWaveformMetricsError
        When units lack the attribute and there is no raw data.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0], [2.0]], length=5.0, neuron_attributes=[{"snr": 9.0}, {"snr": 2.0}])
    >>> curate_by_snr(sd)[1]["passed"].tolist()
    [True, False]
    """
    return apply(sd, evaluate_waveforms(sd, {"snr": min_snr}, ms_before, ms_after)["snr"])


def curate_by_std_norm(
    sd: SpikeData,
    max_std_norm: float = 1.0,
    at_peak: bool = True,
    ms_before: float = 1.0,
    ms_after: float = 2.0,
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units whose waveforms resemble each other.

    The attribute ``std_norm`` is used as it is where every unit has it; otherwise it is computed from
    ``sd.raw_data`` as :func:`compute_waveform_metrics` does.

    Parameters
    ----------
    sd : SpikeData
        The units to judge; never changed.
    max_std_norm : float, default 1.0
        Largest standard deviation over amplitude of a unit that stays.
    at_peak : bool, default True
        Take the deviation at the peak sample, or its mean from 0.5 ms before to 1.5 ms after the peak.
        Matters when the value has to be computed.
    ms_before, ms_after : float, default 1.0 and 2.0
        Window around a spike (ms) when the value has to be computed.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64; "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When a number is negative.
    EmptyWaveformMetricsError
        When units lack the attribute and there is no raw data.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[1.0], [2.0]], length=5.0, neuron_attributes=[{"std_norm": 0.2}, {"std_norm": 1.5}])
    >>> curate_by_std_norm(sd)[1]["passed"].tolist()
    [True, False]
    """
    results = evaluate_waveforms(sd, {"std_norm": max_std_norm}, ms_before, ms_after, at_peak=at_peak)
    return apply(sd, results["std_norm"])


def evaluate_min_spikes(sd: SpikeData, min_spikes: int) -> CriterionResult:
    """Judge all units by their spike count."""
    require_not_negative(min_spikes=min_spikes)
    counts = _metrics.spike_counts(sd)
    return judge(counts, counts >= min_spikes)


def evaluate_firing_rate(sd: SpikeData, min_rate_hz: float) -> CriterionResult:
    """Judge all units by their mean rate."""
    require_not_negative(min_rate_hz=min_rate_hz)
    rates = sd.rates("Hz")
    return judge(rates, rates >= min_rate_hz)


def evaluate_isi_violations(
    sd: SpikeData, max_violation: float, threshold_ms: float, min_isi_ms: float, method: str
) -> CriterionResult:
    """Judge all units by their refractory violations."""
    _check_isi(max_violation, threshold_ms, min_isi_ms, method)
    if method == "percent":
        violation = _metrics.isi_violation_percent(sd, threshold_ms)
    else:
        violation = _metrics.isi_violation_ratio(sd, threshold_ms, min_isi_ms)
    return judge(violation, violation <= max_violation)


def evaluate_waveforms(
    sd: SpikeData, thresholds: Mapping[str, float], ms_before: float, ms_after: float, *, at_peak: bool = True
) -> dict[str, CriterionResult]:
    """Judge all units by "snr" and "std_norm", as far as `thresholds` names them; the raw data are filtered once."""
    require_not_negative(**{_WAVEFORM_RULES[name][0]: value for name, value in thresholds.items()})
    values = measure_or_recall(sd, tuple(thresholds), ms_before, ms_after, at_peak=at_peak)
    return {
        name: judge(values[name], _WAVEFORM_RULES[name][1](values[name], threshold))
        for name, threshold in thresholds.items()
    }


def _check_isi(max_violation: float, threshold_ms: float, min_isi_ms: float, method: str) -> None:
    if method not in {"percent", "hill"}:
        msg = f"method must be 'percent' or 'hill', got {method!r}"
        raise ValueError(msg)
    require_not_negative(max_violation=max_violation, threshold_ms=threshold_ms, min_isi_ms=min_isi_ms)
    if method == "hill" and min_isi_ms >= threshold_ms:
        msg = f"min_isi_ms must be below threshold_ms ({threshold_ms}) for method 'hill', got {min_isi_ms}"
        raise ValueError(msg)
