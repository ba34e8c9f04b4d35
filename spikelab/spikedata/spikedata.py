"""SpikeData: the spike trains of units, what is known about each unit, and about the recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab import curation
from spikelab.spikedata import (
    _attributes,
    _counts,
    _epochs,
    _hdf5,
    _raw,
    _snippets,
    _trains,
    _units,
    _values,
    _windows,
    analyzer,
    comparison,
    nwb,
    phy,
    plots,
    pynapple,
    sorting,
)

Floats = npt.NDArray[np.float64]

_PARTS = ("train", "length", "start_time", "neuron_attributes", "metadata", "raw_data", "raw_time")


class SpikeData:
    """Spike trains of N units over one stretch of time, with attributes per unit and metadata.

    No method changes the object that it is called on; what one returns shares no mutable state with it.
    Arrays (trains, templates) are read-only, so copies share them.

    Parameters
    ----------
    train : sequence of array-like, shape (n_spikes,)
        Spike times (ms) of each unit; copied, and sorted when they are not.
    N : int, optional
        Number of units when the last ones are silent; default: the number of trains.
    length : float, optional
        Duration (ms); default: up to the last spike, which is seldom the duration of the recording.
    start_time : float, default 0.0
        Time (ms) at which the recording starts; may be negative, as in trials around an event.
    neuron_attributes : sequence of mapping, optional
        One dict per unit. ``unit_id`` (number or text) names the unit; ``position`` or ``x`` and ``y`` (um) place
        it; an array named ``spike_*`` has one entry per spike and follows the spikes.
    metadata : mapping, optional
        About the recording: ``fs_Hz``, ``rec_chunks_ms``, ...
    raw_data : array-like, shape (channels, samples), optional
        Traces (uV); a memmap, HDF5 dataset or lazy recording stays where it is. Never copied, never written.
    raw_time : float or array-like, shape (samples,), optional
        Sampling rate (kHz; the first sample is at `start_time`), or the time (ms) of every sample; default:
        the rate of ``metadata["fs_Hz"]``.

    Raises
    ------
    ValueError
        When times are no finite numbers or lie outside the recording, two units have one id, or parts do not
        fit together; the message names the unit and the field, and says what to do.

    Examples
    --------
    >>> sd = SpikeData([[10.0, 20.0], [15.0]], length=1000.0, neuron_attributes=[{"unit_id": 4}, {"unit_id": 7}])
    >>> sd.N, sd.rates().tolist()
    (2, [2.0, 1.0])
    >>> sd.subset([7], by="unit_id").train[0].tolist()
    [15.0]
    """

    def __init__(
        self,
        train: Sequence[Any],
        *,
        N: int | None = None,
        length: float | None = None,
        start_time: float = 0.0,
        neuron_attributes: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        raw_data: Any = None,
        raw_time: float | npt.ArrayLike | None = None,
    ) -> None:
        self._start_time = _trains.check_finite("start_time", start_time)
        self._train, orders = _trains.sort_trains(train, N)
        self._length = _trains.check_length(self._train, self._start_time, length)
        attributes = _attributes.check_attributes(neuron_attributes, [times.size for times in self._train])
        self._attributes = [
            entries if order is None else _attributes.pick_spikes(entries, order)
            for entries, order in zip(attributes, orders, strict=True)
        ]
        self._metadata = _attributes.check_metadata(metadata)
        self._raw_data, self._raw_time = _raw.check_raw(raw_data, raw_time, self._metadata)

    # ------------------------------------------------------------ parts

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self._train)

    @property
    def length(self) -> float:
        """Duration (ms)."""
        return self._length

    @property
    def observed_ms(self) -> float:
        """Duration (ms) in which spikes can be seen: `length` without ``metadata["blanked_ms"]``."""
        return _counts.observed_ms(self)

    @property
    def start_time(self) -> float:
        """Time (ms) at which the recording starts."""
        return self._start_time

    @property
    def end_time(self) -> float:
        """Time (ms) at which the recording ends."""
        return self._start_time + self._length

    @property
    def train(self) -> list[Floats]:
        """Spike times (ms) of each unit, ascending; the arrays are read-only."""
        return list(self._train)

    @property
    def neuron_attributes(self) -> list[_attributes.Attributes]:
        """Attributes of each unit, one dict per unit, this object's own."""
        return self._attributes

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the recording, this object's own dict."""
        return self._metadata

    @property
    def raw_data(self) -> _raw.RawTraces | None:
        """Traces (channels, samples), read-only; None when none are attached."""
        return self._raw_data

    @property
    def raw_time(self) -> Floats | float | None:
        """Times (ms) of the samples of `raw_data`, or their rate (kHz)."""
        return self._raw_time

    @property
    def raw_fs_Hz(self) -> float:
        """Sampling rate (Hz) of `raw_data`."""
        return _snippets.raw_fs_Hz(self)

    @property
    def unit_locations(self) -> Floats:
        """Positions (um), shape (N, 2), from ``position`` or ``x`` and ``y``; NaN where unknown."""
        return _attributes.locations_um(self._attributes)

    @property
    def times(self) -> Floats:
        """Times (ms) of all spikes of all units, ascending."""
        return np.sort(np.concatenate([np.zeros(0), *self._train]), kind="stable")

    def __repr__(self) -> str:
        n_spikes = sum(times.size for times in self._train)
        names = _attributes.attribute_names(self._attributes)
        parts = [f"{self.N} units", f"{n_spikes:,} spikes", f"{self._length / 1000.0:,.3f} s"]
        if self._start_time:
            parts.append(f"from {self._start_time:g} ms")
        if self.N and self._length:
            lowest, middle, highest = np.quantile(self.rates(), [0.0, 0.5, 1.0])
            parts.append(f"{lowest:.3g} to {highest:.3g} Hz (median {middle:.3g})")
        if self._raw_data is not None:
            parts.append(f"raw data {self._raw_data.shape[0]} x {self._raw_data.shape[1]}")
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"SpikeData({', '.join(parts)}; attributes: {shown or 'none'})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpikeData):
            return NotImplemented
        return all(_values.same(getattr(self, name), getattr(other, name)) for name in _PARTS)

    # Attributes and metadata can be set: a hash could change under a set that holds the object.
    __hash__ = None  # type: ignore[assignment]

    def replace(self, **parts: Any) -> SpikeData:
        """Return a copy with other constructor arguments, such as ``metadata=...``, validated anew."""
        return type(self)(**{**self._parts(), **parts})

    def copy(self) -> SpikeData:
        """Return an equal object that shares no mutable state with this one; arrays are read-only and shared."""
        return self.replace()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> SpikeData:
        # Whatever could change is copied by every constructor; raw data may be a whole recording on a disk.
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: arrays that were pickled one by one would come back writable.
        return _rebuild, (type(self), self._parts())

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PARTS}

    # ------------------------------------------------------------ methods, each where its subject is
    # Every one is a function of a SpikeData that returns another one, or numbers.

    # Some of the units, and what is known about them.
    subset = _units.subset
    get_neuron_attribute = _attributes.get_neuron_attribute
    set_neuron_attribute = _attributes.set_neuron_attribute

    def __getitem__(self, units: Any) -> SpikeData:
        """Return some units: an index, a slice, a list of indices or a boolean mask; always a SpikeData."""
        return self.subset(units)

    # Time.
    subtime = _windows.subtime
    concatenate = _epochs.concatenate
    split_epochs = _epochs.split_epochs

    # Counts and intervals.
    rates = _counts.rates
    interspike_intervals = _counts.interspike_intervals
    idces_times = _counts.idces_times
    binned = _counts.binned
    raster = _counts.raster
    sparse_raster = _counts.sparse_raster
    from_idces_times = classmethod(_counts.from_idces_times)
    from_raster = classmethod(_counts.from_raster)

    # Raw traces.
    with_raw_data = _snippets.with_raw_data
    with_source = _snippets.with_source
    raw_samples = _snippets.raw_samples
    get_waveform_traces = _snippets.get_waveform_traces

    # Which units stay.
    curate = curation.curate
    curate_by_min_spikes = curation.curate_by_min_spikes
    curate_by_firing_rate = curation.curate_by_firing_rate
    curate_by_isi_violations = curation.curate_by_isi_violations
    curate_by_epoch_presence = curation.curate_by_epoch_presence
    curate_by_merge_duplicates = curation.curate_by_merge_duplicates
    curate_by_redundancy = curation.curate_by_redundancy
    curate_by_snr = curation.curate_by_snr
    curate_by_std_norm = curation.curate_by_std_norm
    compute_epoch_attributes = curation.compute_epoch_attributes
    compute_quality_metrics = curation.compute_quality_metrics
    compute_waveform_metrics = curation.compute_waveform_metrics
    bombcell_labels = curation.bombcell_labels
    build_curation_history = staticmethod(curation.build_curation_history)
    apply_curation = curation.apply_curation

    # Pictures.
    plot_unit_footprints = plots.plot_unit_footprints
    plot_unit_locations = plots.plot_unit_locations
    plot_raster = plots.plot_raster
    plot_autocorrelograms = plots.plot_autocorrelograms
    plot_isi_histograms = plots.plot_isi_histograms
    plot_amplitudes = plots.plot_amplitudes

    # The file, and other programs.
    save = _hdf5.save
    load = classmethod(_hdf5.load)
    append_metadata = staticmethod(_hdf5.append_metadata)
    from_sorting = classmethod(sorting.from_sorting)
    to_sorting = sorting.to_sorting
    from_analyzer = classmethod(analyzer.from_analyzer)
    from_phy = classmethod(phy.from_phy)
    to_phy = phy.to_phy
    from_nwb = classmethod(nwb.from_nwb)
    to_nwb = nwb.to_nwb
    to_pynapple = pynapple.to_pynapple
    compare_sorter = comparison.compare_sorter
    compare_ground_truth = comparison.compare_ground_truth


def _rebuild(cls: type[SpikeData], parts: dict[str, Any]) -> SpikeData:
    return cls(**parts)
