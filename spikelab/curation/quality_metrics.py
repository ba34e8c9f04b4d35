"""Quality metrics that units do not carry yet, by SpikeInterface."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.curation._result import Floats
from spikelab.curation.waveform_metrics import recall, with_traces

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_OF_TRAINS = {
    "num_spikes": "num_spikes",
    "firing_rate": "firing_rate",
    "presence_ratio": "presence_ratio",
    "isi_violations_ratio": "isi_violation",
    "isi_violations_count": "isi_violation",
    "rp_contamination": "rp_violation",
    "rp_violations": "rp_violation",
    "sliding_rp_violation": "sliding_rp_violation",
    "firing_range": "firing_range",
}
"""Metrics that trains alone give, and what SpikeInterface calls their computation."""
_OF_AMPLITUDES = {
    "amplitude_cutoff": "amplitude_cutoff",
    "amplitude_median": "amplitude_median",
    "noise_cutoff": "noise_cutoff",
    "noise_ratio": "noise_cutoff",
    "amplitude_cv_median": "amplitude_cv",
    "amplitude_cv_range": "amplitude_cv",
    "sd_ratio": "sd_ratio",
    "drift_ptp": "drift",
    "drift_std": "drift",
    "drift_mad": "drift",
    "snr": "snr",
}
"""Metrics that need the traces."""
_OF_TEMPLATES = {
    "num_positive_peaks": "number_of_peaks",
    "num_negative_peaks": "number_of_peaks",
    "peak_to_trough_duration": "peak_to_trough_duration",
    "waveform_baseline_flatness": "waveform_baseline_flatness",
    "exp_decay": "exp_decay",
    "peak_after_to_trough_ratio": "waveform_ratios",
    "peak_before_to_trough_ratio": "waveform_ratios",
    "peak_before_to_peak_after_ratio": "waveform_ratios",
    "main_peak_to_trough_ratio": "waveform_ratios",
    "peak_before_width": "waveform_widths",
    "trough_width": "waveform_widths",
}
"""Metrics of the template, which need the traces as well."""


def compute_quality_metrics(sd: SpikeData, names: Sequence[str]) -> tuple[SpikeData, dict[str, Floats]]:
    """Return the units with quality metrics as SpikeInterface measures them; what all units carry stays.

    Parameters
    ----------
    sd : SpikeData
        The units; never changed. Metrics of amplitudes and templates need raw data (attached, or of the pipeline,
        whose recording is then read), filtered to 300-6000 Hz; those of trains do not, and are those of the whole
        recording, what is blanked of it included.
    names : sequence of str
        Names as SpikeInterface's tables have them, such as "presence_ratio" or "sliding_rp_violation".

    Returns
    -------
    sd_measured : SpikeData
        A copy with the attributes set on every unit.
    metrics : dict
        Each of the names: shape (N,), float64; NaN where it could not be measured.

    Raises
    ------
    ValueError
        When a name is unknown, or a sample of the raw data is NaN or infinite.
    EmptyWaveformMetricsError
        When a metric needs raw data and there are none.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> sd = SpikeData([[100.0, 200.0, 201.0]], length=120_000.0, metadata={"fs_Hz": 20_000.0})
    >>> measured, metrics = compute_quality_metrics(sd, ["presence_ratio"])
    >>> metrics["presence_ratio"].tolist()
    [0.5]
    """
    known = [*_OF_TRAINS, *_OF_AMPLITUDES, *_OF_TEMPLATES]
    missing = [name for name in names if _is_missing(sd, name)]
    unknown = [name for name in missing if name not in known]
    if unknown:
        carried = sorted({key for attributes in sd.neuron_attributes for key in attributes})
        msg = (
            f"metric {unknown[0]!r} is neither an attribute of all units ({carried}) nor one that can be measured "
            f"({known})"
        )
        raise ValueError(msg)
    measured = sd
    for name, values in _measure(sd, missing).items():
        measured = measured.set_neuron_attribute(name, values.tolist())
    return measured, {name: recall(measured, name) for name in names}


def measure_again(sd: SpikeData, units: Sequence[int]) -> SpikeData:
    """Return a copy in which the metrics that some units carry fit their trains and ``spike_amplitudes``."""
    chosen = sd.subset(units)
    carried = [name for name in _OF_TRAINS if any(name in attributes for attributes in chosen.neuron_attributes)]
    measured = _measure(chosen, carried) | _of_amplitudes(chosen)
    attributes = list(sd.neuron_attributes)
    for unit in units:
        # The others stay as they are: their templates may lie in a file, and a copy would read them.
        attributes[unit] = dict(attributes[unit])
    for name, values in measured.items():
        for unit, value in zip(units, values.tolist(), strict=True):
            if name in attributes[unit]:
                attributes[unit][name] = int(value) if name in _COUNTS and np.isfinite(value) else value
    return sd.replace(neuron_attributes=attributes)


_COUNTS = ("num_spikes", "isi_violations_count", "rp_violations")


def _of_amplitudes(sd: SpikeData) -> dict[str, Floats]:
    amplitudes = [np.abs(attributes.get("spike_amplitudes", np.zeros(0))) for attributes in sd.neuron_attributes]
    if not any(values.size for values in amplitudes):
        return {}
    from spikeinterface.metrics.quality.misc_metrics import amplitude_cutoff

    return {
        "amplitude_cutoff": np.array([amplitude_cutoff(values) for values in amplitudes], dtype=np.float64),
        "amplitude_median": np.array([np.median(values) if values.size else np.nan for values in amplitudes]),
    }


def _is_missing(sd: SpikeData, name: str) -> bool:
    return sd.N > 0 and any(attributes.get(name) is None for attributes in sd.neuron_attributes)


def _measure(sd: SpikeData, names: Sequence[str]) -> dict[str, Floats]:
    # Apart, for raw data may be of a part of the recording alone.
    of_trains = [name for name in names if name in _OF_TRAINS]
    of_traces = [name for name in names if name not in _OF_TRAINS]
    return {
        **_measure_with(sd, of_trains, has_traces=False),
        **(_measure_with(with_traces(sd, of_traces[0]), of_traces, has_traces=True) if of_traces else {}),
    }


def _measure_with(source: SpikeData, names: Sequence[str], *, has_traces: bool) -> dict[str, Floats]:
    if not names:
        return {}
    from spikelab.curation import _analyzer

    analyzer = _analyzer.analyzer_of(source, _rate_Hz(source), has_traces=has_traces)
    metrics = _computations(names, {**_OF_TRAINS, **_OF_AMPLITUDES})
    with warnings.catch_warnings():
        # What it has too few spikes for is NaN, which fails a criterion: that says it.
        warnings.simplefilter("ignore")
        table = _analyzer.measure(analyzer, metrics, _computations(names, _OF_TEMPLATES), has_traces=has_traces)
    # A silent unit has no entry in some of SpikeInterface's metrics.
    return {name: _column(table, name, source.N) for name in names}


def _column(table: Any, name: str, n_units: int) -> Floats:
    if name not in table:
        return np.full(n_units, np.nan)
    column: Floats = table[name].reindex(range(n_units)).astype("float64").to_numpy(na_value=np.nan)
    return column


def _computations(names: Iterable[str], by_name: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(by_name[name] for name in names if name in by_name))


def _rate_Hz(sd: SpikeData) -> float:
    if sd.raw_data is not None:
        return sd.raw_fs_Hz
    # Trains alone: any rate at which no two samples of a recorder coincide gives the same numbers.
    return float(sd.metadata.get("fs_Hz") or 30_000.0)
