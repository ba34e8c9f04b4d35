"""When units fire: raster, autocorrelograms, intervals, and amplitudes over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spikedata.plots import _canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spikelab.spikedata.spikedata import SpikeData

Floats = npt.NDArray[np.float64]

_MAX_POINTS = 200_000
"""Spikes of one picture: more only make it slow. They are left out evenly, and the picture says so."""
_MAX_NAMES = 40


def plot_raster(
    sd: SpikeData,
    units: Any = None,
    *,
    start_ms: float | None = None,
    end_ms: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw every spike as a tick, one row for each unit, the first one at the bottom.

    Parameters
    ----------
    sd : SpikeData
        The units.
    units : int, slice, mask or sequence of int, optional
        Which units, by index, in this order; default: all.
    start_ms, end_ms : float, optional
        Part of the recording (ms); default: all of it. Of more than 200,000 spikes some are left out, evenly.
    ax : Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        When the part is not inside the recording.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> SpikeData([[10.0, 20.0], [15.0]], length=30.0).plot_raster().get_xlabel()
    'time (s)'
    """
    shown = sd if units is None else sd.subset(units)
    if start_ms is not None or end_ms is not None:
        first = sd.start_time if start_ms is None else start_ms
        shown = shown.subtime(first, sd.end_time if end_ms is None else end_ms)
    axes = _canvas.new_axes(ax, 8.0, min(1.5 + 0.12 * shown.N, 9.0))
    rows, times_ms = shown.idces_times()
    step = -(-times_ms.size // _MAX_POINTS) or 1
    height = max(min(300.0 / max(shown.N, 1), 12.0), 1.0)
    axes.plot(times_ms[::step] / 1000.0, rows[::step], "|", ms=height, mew=0.7, color=_canvas.DARK, rasterized=True)
    axes.set_xlim(shown.start_time / 1000.0, max(shown.end_time, shown.start_time + 1.0) / 1000.0)
    axes.set_ylim(-0.7, max(shown.N, 1) - 0.3)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("unit")
    if shown.N <= _MAX_NAMES:
        axes.set_yticks(range(shown.N), [_canvas.unit_name(shown, unit) for unit in range(shown.N)])
    if step > 1:
        _canvas.title(axes, f"one of {step} spikes")
    _canvas.tidy(axes)
    return axes


def plot_autocorrelograms(
    sd: SpikeData,
    units: Any = None,
    *,
    window_ms: float = 50.0,
    bin_ms: float = 1.0,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the rate of each unit around its own spikes.

    Parameters
    ----------
    sd : SpikeData
        The units.
    units : int, slice, mask or sequence of int, optional
        Which units, by index; default: all, up to 36.
    window_ms : float, default 50.0
        Largest lag (ms).
    bin_ms : float, default 1.0
        Width of a bin (ms).
    ax : Axes or sequence of Axes, optional
        One for each unit; default: a grid on a new figure.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        When the bin is not positive or does not fit into the window, or there is not one axes for each unit.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> len(SpikeData([[10.0, 20.0], [15.0]], length=30.0).plot_autocorrelograms().axes)
    2
    """
    _check_bins(window_ms, bin_ms)
    shown, remark = _canvas.choose(sd, units)
    figure, axes = _canvas.unit_axes(ax, shown.N, 2.4, 1.8)
    for unit, axis in enumerate(axes):
        lags_ms, rate_Hz = autocorrelogram(shown.train[unit], window_ms, bin_ms)
        axis.bar(lags_ms, rate_Hz, width=bin_ms, color=_canvas.BLUE)
        axis.set_xlim(-window_ms, window_ms)
        _from_zero(axis, rate_Hz)
        axis.set_xlabel("lag (ms)", fontsize=8)
        axis.set_ylabel("rate (Hz)", fontsize=8)
        _canvas.title(axis, f"unit {_canvas.unit_name(shown, unit)}, {shown.train[unit].size:,} spikes")
        _canvas.tidy(axis)
    _canvas.remark_on(figure, remark)
    return figure


def _from_zero(axis: Axes, heights: npt.NDArray[Any]) -> None:
    """Let bars stand on 0 with whole numbers beside them, also where there is none."""
    from matplotlib.ticker import MaxNLocator

    axis.set_ylim(0, 1.05 * max(heights.max(initial=0.0), 1.0))
    axis.yaxis.set_major_locator(MaxNLocator("auto", integer=True))


def autocorrelogram(train_ms: Floats, window_ms: float, bin_ms: float) -> tuple[Floats, Floats]:
    """Return the middles of the bins (ms) and the rate (Hz) there, the spike itself left out; both sides alike."""
    n_bins = round(window_ms / bin_ms)
    counts = np.zeros(n_bins, dtype=np.int64)
    first = np.arange(train_ms.size)
    for lag in range(1, train_ms.size):
        first = first[first + lag < train_ms.size]
        gaps_ms = train_ms[first + lag] - train_ms[first]
        is_near = gaps_ms < n_bins * bin_ms
        first = first[is_near]
        if not first.size:
            break
        counts += np.bincount((gaps_ms[is_near] / bin_ms).astype(np.int64), minlength=n_bins)[:n_bins]
    rate_Hz = counts / max(train_ms.size, 1) / bin_ms * 1000.0
    middles_ms = (np.arange(n_bins) + 0.5) * bin_ms
    return np.concatenate([-middles_ms[::-1], middles_ms]), np.concatenate([rate_Hz[::-1], rate_Hz])


def plot_isi_histograms(
    sd: SpikeData,
    units: Any = None,
    *,
    threshold_ms: float = 1.5,
    max_ms: float = 50.0,
    bin_ms: float = 0.5,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the intervals between successive spikes of each unit, and the refractory period.

    Parameters
    ----------
    sd : SpikeData
        The units.
    units : int, slice, mask or sequence of int, optional
        Which units, by index; default: all, up to 36.
    threshold_ms : float, default 1.5
        Refractory period (ms): a line; the title has the percentage of spikes below it.
    max_ms : float, default 50.0
        Longest interval that is drawn (ms).
    bin_ms : float, default 0.5
        Width of a bin (ms).
    ax : Axes or sequence of Axes, optional
        One for each unit; default: a grid on a new figure.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        When a bin is not positive or too wide, the threshold negative, or there is not one axes for each unit.

    Examples
    --------
    >>> from spikelab.spikedata import SpikeData
    >>> len(SpikeData([[10.0, 20.0], [15.0]], length=30.0).plot_isi_histograms().axes)
    2
    """
    from spikelab.curation import curate_by_isi_violations

    _check_bins(max_ms, bin_ms)
    shown, remark = _canvas.choose(sd, units)
    violation_pct = curate_by_isi_violations(shown, threshold_ms=threshold_ms)[1]["metric"]
    figure, axes = _canvas.unit_axes(ax, shown.N, 2.4, 1.8)
    edges_ms = np.arange(round(max_ms / bin_ms) + 1) * bin_ms
    for unit, axis in enumerate(axes):
        counts = np.histogram(np.diff(shown.train[unit]), edges_ms)[0]
        axis.bar(edges_ms[:-1], counts, width=bin_ms, align="edge", color=_canvas.BLUE)
        axis.axvline(threshold_ms, color=_canvas.ORANGE, lw=1.2, ls="--")
        axis.set_xlim(0, edges_ms[-1])
        _from_zero(axis, counts)
        axis.set_xlabel("interval (ms)", fontsize=8)
        axis.set_ylabel("intervals", fontsize=8)
        _canvas.title(axis, f"unit {_canvas.unit_name(shown, unit)}: {violation_pct[unit]:.2g} % < {threshold_ms:g} ms")
        _canvas.tidy(axis)
    _canvas.remark_on(figure, remark)
    return figure


def plot_amplitudes(sd: SpikeData, units: Any = None, *, ax: Axes | Sequence[Axes] | None = None) -> Figure:
    """Draw the amplitude of every spike over time.

    Parameters
    ----------
    sd : SpikeData
        Units with the attribute ``spike_amplitudes`` (uV, one for each spike), as the pipeline gives them.
    units : int, slice, mask or sequence of int, optional
        Which units, by index; default: all, up to 36. Of more than 200,000 spikes some are left out, evenly.
    ax : Axes or sequence of Axes, optional
        One for each unit; default: a grid on a new figure.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        When a unit has no amplitudes, or there is not one axes for each unit.

    Examples
    --------
    >>> import numpy as np
    >>> from spikelab.spikedata import SpikeData
    >>> attributes = [{"spike_amplitudes": np.array([-50.0, -60.0])}]
    >>> len(SpikeData([[10.0, 20.0]], length=30.0, neuron_attributes=attributes).plot_amplitudes().axes)
    1
    """
    shown, remark = _canvas.choose(sd, units)
    amplitudes = [_amplitudes(shown, unit) for unit in range(shown.N)]
    step = -(-sum(values.size for values in amplitudes) // _MAX_POINTS) or 1
    figure, axes = _canvas.unit_axes(ax, shown.N, 3.0, 1.8)
    size = 2.5 if max((values.size for values in amplitudes), default=0) > 2000 else 5.0
    for unit, (values, axis) in enumerate(zip(amplitudes, axes, strict=True)):
        axis.plot(
            shown.train[unit][::step] / 1000.0, values[::step], ".", ms=size, mew=0, alpha=0.6, color=_canvas.BLUE,
            rasterized=True,
        )  # fmt: skip
        axis.set_xlim(sd.start_time / 1000.0, max(sd.end_time, sd.start_time + 1.0) / 1000.0)
        lowest, highest = min(values.min(initial=0.0), 0.0), max(values.max(initial=0.0), 0.0)
        axis.set_ylim(1.08 * lowest, 1.08 * highest if highest or lowest else 1.0)
        axis.set_xlabel("time (s)", fontsize=8)
        axis.set_ylabel("amplitude (µV)", fontsize=8)
        _canvas.title(axis, f"unit {_canvas.unit_name(shown, unit)}")
        _canvas.tidy(axis)
    _canvas.remark_on(figure, remark or (f"one of {step} spikes" if step > 1 else ""))
    return figure


def _amplitudes(sd: SpikeData, unit: int) -> Floats:
    stored = sd.neuron_attributes[unit].get("spike_amplitudes")
    n_spikes = sd.train[unit].size
    if stored is None or np.shape(stored) != (n_spikes,):
        found = "none" if stored is None else f"shape {np.shape(stored)}"
        msg = (
            f"unit {_canvas.unit_name(sd, unit)} must have the attribute 'spike_amplitudes' (uV), one for each of its "
            f"{n_spikes} spikes, found {found}; set it with sd.set_neuron_attribute('spike_amplitudes', values)"
        )
        raise ValueError(msg)
    return np.asarray(stored, dtype=np.float64)


def _check_bins(window_ms: float, bin_ms: float) -> None:
    if not 0 < bin_ms <= window_ms:
        msg = f"bins must be longer than 0 and at most the window ({window_ms} ms), got {bin_ms} ms"
        raise ValueError(msg)
