"""Units of a concatenated recording, epoch by epoch: what they are in each, and in how many they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spikelab.curation._result import CriterionResult, apply, judge, require_not_negative
from spikelab.curation.waveform_metrics import measure_waveforms

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData


def curate_by_epoch_presence(
    sd: SpikeData, min_presence: float = 1.0, min_rate_ratio: float = 0.1
) -> tuple[SpikeData, CriterionResult]:
    """Keep the units that fire in most epochs of a concatenated recording.

    Parameters
    ----------
    sd : SpikeData
        Units with ``metadata["rec_chunks_ms"]``; never changed.
    min_presence : float, default 1.0
        Least share of the epochs (0 to 1) in which a unit that stays is present.
    min_rate_ratio : float, default 0.1
        A unit is present in an epoch when its rate there is at least this share of its rate over all epochs, and it
        has a spike there.

    Returns
    -------
    sd_curated : SpikeData
        The units that passed, in their order.
    result : dict
        "metric": shape (N,), float64, shares of epochs (0 to 1); "passed": shape (N,), bool; N = all units given.

    Raises
    ------
    ValueError
        When a threshold is negative, or the recording has no epochs.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> chunks = {"rec_chunks_ms": [(0.0, 10.0), (10.0, 20.0)]}
    >>> sd = SpikeData([[1.0, 12.0], [3.0]], length=20.0, metadata=chunks)
    >>> curate_by_epoch_presence(sd)[1]["metric"].tolist()
    [1.0, 0.5]
    """
    require_not_negative(min_presence=min_presence, min_rate_ratio=min_rate_ratio)
    epochs = [epoch for epoch in sd.split_epochs() if epoch.observed_ms > 0]
    counts = np.array([[train.size for train in epoch.train] for epoch in epochs], dtype=np.float64).reshape(-1, sd.N)
    lengths_ms = np.array([epoch.observed_ms for epoch in epochs])
    rates = counts / lengths_ms[:, None]
    overall = counts.sum(axis=0) / max(lengths_ms.sum(), np.finfo(float).tiny)
    is_present = (counts > 0) & (rates >= min_rate_ratio * overall)
    presence = is_present.mean(axis=0) if epochs else np.zeros(sd.N)
    return apply(sd, judge(presence, presence >= min_presence))


def compute_epoch_attributes(sd: SpikeData, **options: Any) -> SpikeData:
    """Return the units with what they are in each epoch of a concatenated recording.

    Sets ``epoch_num_spikes`` and ``epoch_firing_rate`` (Hz), shape (n_epochs,), and with raw data attached
    ``epoch_avg_waveform``, shape (n_epochs, channels, samples), ``epoch_snr`` and ``epoch_std_norm``; the data are
    filtered once, epoch by epoch. :meth:`SpikeData.split_epochs` then gives each epoch its own.

    Parameters
    ----------
    sd : SpikeData
        Units with ``metadata["rec_chunks_ms"]``; never changed.
    **options : object
        Arguments of :func:`compute_waveform_metrics`.

    Returns
    -------
    SpikeData
        A copy with these attributes; a unit without a spike in an epoch has NaN there.

    Raises
    ------
    ValueError
        When the recording has no epochs.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> chunks = {"rec_chunks_ms": [(0.0, 10.0), (10.0, 20.0)]}
    >>> sd = compute_epoch_attributes(SpikeData([[1.0, 2.0, 12.0]], length=20.0, metadata=chunks))
    >>> [float(epoch.neuron_attributes[0]["firing_rate"]) for epoch in sd.split_epochs()]
    [200.0, 100.0]
    """
    epochs = sd.split_epochs()
    columns: dict[str, list[Any]] = {
        "num_spikes": [np.array([train.size for train in epoch.train]) for epoch in epochs],
        "firing_rate": [epoch.rates("Hz") for epoch in epochs],
    }
    if sd.raw_data is not None:
        measured = [measure_waveforms(epoch, **options) for epoch in epochs]
        columns["avg_waveform"] = [waveforms for waveforms, _ in measured]
        for name in ("snr", "std_norm"):
            columns[name] = [metrics[name] for _, metrics in measured]
    for name, by_epoch in columns.items():
        sd = sd.set_neuron_attribute(
            f"epoch_{name}", [np.array([values[u] for values in by_epoch]) for u in range(sd.N)]
        )
    return sd
