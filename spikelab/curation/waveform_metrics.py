"""Signal-to-noise ratio and consistency of the waveforms, from the raw data, which are filtered once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.curation._filtered import Band, Block, iterate_blocks
from spikelab.curation._result import Floats, require_not_negative
from spikelab.spike_sorting._exceptions import EmptyWaveformMetricsError

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

_MAD_TO_SIGMA = 0.6744897501960817  # the 75th percentile of the normal distribution
_NOISE_VALUES = 2**24  # over all channels; 64 MB of float32


@dataclass(frozen=True)
class _Windows:
    """Samples around a spike, and around the peak of a waveform."""

    n_before: int
    n_after: int
    spread_before: int
    spread_after: int

    @property
    def reach(self) -> int:
        return max(self.n_before, self.n_after)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        return np.arange(-self.n_before, self.n_after)


@dataclass(frozen=True)
class _Spikes:
    """The spikes that are looked at, ordered by sample."""

    samples: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]

    def within(self, first: int, last: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Yield (unit, samples) of the spikes in [first, last)."""
        start, end = np.searchsorted(self.samples, (first, last))
        units, samples = self.units[start:end], self.samples[start:end]
        order = np.argsort(units, kind="stable")
        found, begins = np.unique(units[order], return_index=True)
        for unit, part in zip(found, np.split(samples[order], begins[1:]), strict=False):
            yield int(unit), part


class _Waveforms:
    """Mean and spread of the waveforms of every unit, updated batch by batch.

    Batches are combined as in Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing
    sample variances (1979), which loses no digits where a difference of sums would.
    """

    def __init__(self, n_units: int, n_channels: int, n_samples: int) -> None:
        self.count = np.zeros(n_units, dtype=np.int64)
        self.mean = np.zeros((n_units, n_channels, n_samples), dtype=np.float32)
        self.squares = np.zeros_like(self.mean)

    def add(self, unit: int, waveforms: Floats) -> None:
        """Take in waveforms of shape (channels, spikes, samples)."""
        n_old, n_new = int(self.count[unit]), waveforms.shape[1]
        n_all = n_old + n_new
        mean = waveforms.mean(axis=1)
        shift = mean - self.mean[unit]
        self.squares[unit] += ((waveforms - mean[:, None]) ** 2).sum(axis=1)
        self.squares[unit] += shift**2 * (n_old * n_new / n_all)
        self.mean[unit] += shift * (n_new / n_all)
        self.count[unit] = n_all


def compute_waveform_metrics(
    sd: SpikeData,
    ms_before: float = 1.0,
    ms_after: float = 2.0,
    freq_min: float | None = 300.0,
    freq_max: float | None = 6000.0,
    *,
    at_peak: bool = True,
    spread_ms_before: float = 0.5,
    spread_ms_after: float = 1.5,
    max_spikes: int = 300,
    seed: int = 0,
) -> tuple[SpikeData, dict[str, Floats]]:
    """Return the units with the attributes ``snr`` and ``std_norm``, measured on the filtered raw data.

    The SNR is the absolute peak of a unit's average waveform, on the channel where it is largest, over the
    noise of that channel: median absolute deviation of the filtered trace / 0.6745. ``std_norm`` is the
    standard deviation of the waveforms at that peak over the peak. The raw data are read and filtered once
    (Butterworth, order 5, forwards and backwards), block by block, so a memmap larger than memory will do.

    Parameters
    ----------
    sd : SpikeData
        Units with ``raw_data`` attached, or from the pipeline, whose recording is then read; never changed.
    ms_before, ms_after : float, default 1.0 and 2.0
        Window around a spike (ms).
    freq_min, freq_max : float or None, default 300 and 6000
        Pass band (Hz). None leaves that side open; both None when the data are filtered already.
    at_peak : bool, default True
        Take the deviation at the peak sample; otherwise its mean from `spread_ms_before` before to
        `spread_ms_after` after the peak.
    spread_ms_before, spread_ms_after : float, default 0.5 and 1.5
        That window (ms).
    max_spikes : int, default 300
        Spikes per unit to average, drawn at random where there are more.
    seed : int, default 0
        Seed of the draw; a unit's draw does not depend on the other units.

    Returns
    -------
    sd_measured : SpikeData
        A copy with the attributes ``snr`` and ``std_norm`` set on every unit.
    metrics : dict
        "snr" and "std_norm": shape (N,), float64. NaN where no spike has its whole window inside the data,
        for the ``snr`` on a channel whose noise measures 0, and for the ``std_norm`` of a single spike.

    Raises
    ------
    EmptyWaveformMetricsError
        When no raw data are attached, and the recording that was sorted cannot be read.
    ValueError
        When a window is negative or empty, the band is impossible, `max_spikes` is below 1, or a sample of the raw
        data is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.spikedata import SpikeData
    >>> raw = np.random.default_rng(0).normal(size=(2, 20_000))
    >>> raw[1, 100::100] -= 50.0
    >>> sd = SpikeData([np.arange(5.0, 1000.0, 5.0)], length=1000.0, raw_data=raw, raw_time=20.0)
    >>> measured, metrics = sd.compute_waveform_metrics()
    >>> bool(metrics["snr"][0] > 10), bool(metrics["std_norm"][0] < 0.2)
    (True, True)
    """
    _, metrics = measure_waveforms(
        sd, ms_before, ms_after, freq_min, freq_max, at_peak=at_peak, spread_ms_before=spread_ms_before,
        spread_ms_after=spread_ms_after, max_spikes=max_spikes, seed=seed,
    )  # fmt: skip
    measured = sd
    for name, values in metrics.items():
        measured = measured.set_neuron_attribute(name, values.tolist())
    return measured, metrics


def measure_waveforms(
    sd: SpikeData,
    ms_before: float = 1.0,
    ms_after: float = 2.0,
    freq_min: float | None = 300.0,
    freq_max: float | None = 6000.0,
    *,
    at_peak: bool = True,
    spread_ms_before: float = 0.5,
    spread_ms_after: float = 1.5,
    max_spikes: int = 300,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float32], dict[str, Floats]]:
    """Return the average waveforms, shape (N, channels, samples), and what :func:`compute_waveform_metrics` does.

    A unit of which no spike could be cut out has a waveform of NaN.
    """
    require_not_negative(
        ms_before=ms_before,
        ms_after=ms_after,
        spread_ms_before=spread_ms_before,
        spread_ms_after=spread_ms_after,
    )
    source = with_traces(sd, "snr")
    fs_Hz = source.raw_fs_Hz
    windows = _windows(fs_Hz, ms_before, ms_after, spread_ms_before, spread_ms_after)
    spikes = _draw_spikes(source, windows, max_spikes, seed)
    waveforms, noise = _measure(source, Band(fs_Hz, freq_min, freq_max), spikes, windows)
    metrics = _summarise(waveforms, noise, windows, at_peak=at_peak)
    waveforms.mean[waveforms.count == 0] = np.nan
    return waveforms.mean, metrics


def measure_or_recall(
    sd: SpikeData, names: tuple[str, ...], ms_before: float, ms_after: float, *, at_peak: bool = True
) -> dict[str, Floats]:
    """Return the named metrics: stored ones where every unit has them, the others measured together.

    Raises
    ------
    EmptyWaveformMetricsError
        When units lack a metric and no raw data are attached.
    """
    missing = [name for name in names if _units_without(sd, name)]
    if missing and sd.raw_data is None and "recording" not in sd.metadata:
        n_without = _units_without(sd, missing[0])
        raise _no_raw_data(missing[0], f"{n_without} of {sd.N} units lack it and raw_data is not attached")
    measured = compute_waveform_metrics(sd, ms_before, ms_after, at_peak=at_peak)[1] if missing else {}
    stored = {name: recall(sd, name) for name in names if name not in missing}
    return {name: measured[name] if name in missing else stored[name] for name in names}


def recall(sd: SpikeData, name: str) -> Floats:
    """Return a numeric attribute, shape (N,), NaN where a unit has none.

    Raises
    ------
    ValueError
        When a value is no number.
    """
    values = [attributes.get(name) for attributes in sd.neuron_attributes]
    try:
        return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"attribute {name!r} must be one number per unit to be a criterion: {error}"
        raise ValueError(msg) from error


def _units_without(sd: SpikeData, name: str) -> int:
    return sum(attributes.get(name) is None for attributes in sd.neuron_attributes)


def with_traces(sd: SpikeData, metric_name: str) -> SpikeData:
    """Return the units with raw data: those attached, or the recording that was sorted.

    Raises
    ------
    EmptyWaveformMetricsError
        When there are none, in the name of the metric that needs them.
    """
    if sd.raw_data is not None:
        return sd
    try:
        return sd.with_source()
    except ValueError as error:
        raise _no_raw_data(metric_name, f"raw_data is not attached, and {error}") from error


def _no_raw_data(metric_name: str, found: str) -> EmptyWaveformMetricsError:
    message = (
        f"{metric_name} must be computed from raw data or be stored on every unit, but {found}; attach the "
        "traces with sd.with_raw_data(...), or set the attribute with "
        f"sd.set_neuron_attribute({metric_name!r}, values)"
    )
    return EmptyWaveformMetricsError(message, metric_name=metric_name)


def _windows(
    fs_Hz: float, ms_before: float, ms_after: float, spread_ms_before: float, spread_ms_after: float
) -> _Windows:
    durations_ms = (ms_before, ms_after, spread_ms_before, spread_ms_after)
    windows = _Windows(*(round(duration_ms * fs_Hz / 1000.0) for duration_ms in durations_ms))
    if windows.offsets.size == 0:
        msg = f"ms_before + ms_after must span a sample ({1000.0 / fs_Hz} ms), got {ms_before} and {ms_after}"
        raise ValueError(msg)
    return windows


def _draw_spikes(sd: SpikeData, windows: _Windows, max_spikes: int, seed: int) -> _Spikes:
    if max_spikes < 1:
        msg = f"max_spikes must be 1 or more, got {max_spikes}"
        raise ValueError(msg)
    n_samples = sd.raw_data.shape[1] if sd.raw_data is not None else 0
    drawn = [_draw(_whole(sd.raw_samples(t), windows, n_samples), max_spikes, seed) for t in sd.train]
    samples = np.concatenate([np.zeros(0, dtype=np.int64), *drawn])
    units = np.repeat(np.arange(sd.N), [part.size for part in drawn])
    order = np.argsort(samples, kind="stable")
    return _Spikes(samples[order], units[order])


def _whole(samples: npt.NDArray[np.int64], windows: _Windows, n_samples: int) -> npt.NDArray[np.int64]:
    return samples[(samples >= windows.n_before) & (samples + windows.n_after <= n_samples)]


def _draw(samples: npt.NDArray[np.int64], max_spikes: int, seed: int) -> npt.NDArray[np.int64]:
    if samples.size <= max_spikes:
        return samples
    return np.random.default_rng(seed).choice(samples, max_spikes, replace=False)


def _measure(sd: SpikeData, band: Band, spikes: _Spikes, windows: _Windows) -> tuple[_Waveforms, Floats]:
    """Return the waveforms of all units and the noise of all channels, in one pass over the data."""
    raw_data: Any = sd.raw_data
    n_channels, n_samples = raw_data.shape
    waveforms = _Waveforms(sd.N, n_channels, windows.offsets.size)
    stride = max(n_samples * n_channels // _NOISE_VALUES, 1)
    background = []
    for block in iterate_blocks(raw_data, band, windows.reach):
        background.append(block.core[:, -block.first % stride :: stride].astype(np.float32))
        _take_waveforms(block, spikes, windows, waveforms)
    return waveforms, _noise(background, n_channels)


def _take_waveforms(block: Block, spikes: _Spikes, windows: _Windows, waveforms: _Waveforms) -> None:
    for unit, samples in spikes.within(block.first, block.last):
        waveforms.add(unit, block.traces[:, (samples - block.offset)[:, None] + windows.offsets])


def _noise(background: list[npt.NDArray[np.float32]], n_channels: int) -> Floats:
    if not background:
        return np.full(n_channels, math.nan)
    # Channel by channel: the median works on copies, and copies of everything would outgrow the blocks.
    noise = [_mad(np.concatenate([part[channel] for part in background])) for channel in range(n_channels)]
    return np.array(noise, dtype=np.float64) / _MAD_TO_SIGMA


def _mad(trace: npt.NDArray[np.float32]) -> float:
    return float(np.median(np.abs(trace - np.median(trace))))


def _summarise(waveforms: _Waveforms, noise: Floats, windows: _Windows, *, at_peak: bool) -> dict[str, Floats]:
    snr, std_norm = (np.full(waveforms.count.size, math.nan) for _ in range(2))
    spread = (windows.spread_before, windows.spread_after) if not at_peak else (0, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        for unit in np.flatnonzero(waveforms.count).tolist():
            channel, peak = _find_peak(waveforms.mean[unit])
            amplitude = np.abs(waveforms.mean[unit, channel, peak]).astype(np.float64)
            snr[unit] = amplitude / noise[channel] if noise[channel] > 0 else math.nan
            std_norm[unit] = _spread(waveforms, unit, channel, peak, spread) / amplitude
    return {"snr": snr, "std_norm": std_norm}


def _find_peak(mean: npt.NDArray[np.float32]) -> tuple[int, int]:
    channel, peak = np.unravel_index(np.argmax(np.abs(mean)), mean.shape)
    return int(channel), int(peak)


def _spread(waveforms: _Waveforms, unit: int, channel: int, peak: int, around: tuple[int, int]) -> float:
    """Return the standard deviation over the spikes, averaged over the samples around the peak."""
    if waveforms.count[unit] < 2:
        return math.nan
    span = slice(max(peak - around[0], 0), peak + around[1] + 1)
    variance = waveforms.squares[unit, channel, span].astype(np.float64) / waveforms.count[unit]
    return float(np.sqrt(variance).mean())
