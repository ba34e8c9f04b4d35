"""SpikeData: the spike trains of units, what is known about each unit, and about the recording."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from spikelab import curation
from spikelab.spikedata import _convert, _epochs, _hdf5, _raw, _trains, _values

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Attributes = dict[str, Any]

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
        One dict per unit. ``unit_id`` names the unit; ``position`` or ``x`` and ``y`` (um) place it; an array
        named ``spike_*`` of the train's length has one entry per spike and follows the spikes.
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
        When times are not finite or lie outside the recording, or parts do not fit together; the message
        names the unit or field.

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
        attributes = _values.check_attributes(neuron_attributes, len(self._train))
        self._attributes = [
            entries if order is None else _values.pick_spikes(entries, order.size, order)
            for entries, order in zip(attributes, orders, strict=True)
        ]
        self._metadata = _values.check_metadata(metadata)
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
    def neuron_attributes(self) -> list[Attributes]:
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
        return _raw.sampling_rate_Hz(self._require_raw()[1])

    @property
    def unit_locations(self) -> Floats:
        """Positions (um), shape (N, 2), from ``position`` or ``x`` and ``y``; NaN where unknown."""
        return _values.locations_um(self._attributes)

    @property
    def times(self) -> Floats:
        """Times (ms) of all spikes of all units, ascending."""
        return np.sort(np.concatenate([np.zeros(0), *self._train]), kind="stable")

    def __repr__(self) -> str:
        n_spikes = sum(times.size for times in self._train)
        names = _values.attribute_names(self._attributes)
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

    # ------------------------------------------------------------ units

    def __getitem__(self, units: Any) -> SpikeData:
        """Return some units: an index, a slice, a list of indices or a boolean mask; always a SpikeData."""
        return self.subset(units)

    def subset(self, units: Any, by: str | None = None) -> SpikeData:
        """Return some of the units, in the order asked for.

        Parameters
        ----------
        units : int, slice, sequence of int, mask of bool, or values
            Indices (negative ones count from the end), a mask with one bool per unit, or values of `by`.
        by : str, optional
            Attribute whose values choose; a value that several units have chooses all of them.

        Returns
        -------
        SpikeData
            Length, start, metadata and raw data as here.

        Raises
        ------
        ValueError
            When a value is not there, a mask has the wrong length, or a unit is chosen twice.
        IndexError
            When an index is out of range.

        Examples
        --------
        >>> sd = SpikeData([[1.0], [2.0], [3.0]], length=5.0)
        >>> sd.subset([2, 0]).train[0].tolist()
        [3.0]
        """
        if by is None:
            return self._pick(_values.find_units(units, self.N))
        return self._pick(_values.find_units_by(self._attributes, units, by))

    def _pick(self, chosen: list[int]) -> SpikeData:
        return self.replace(
            train=[self._train[unit] for unit in chosen],
            neuron_attributes=[self._attributes[unit] for unit in chosen],
        )

    def get_neuron_attribute(self, name: str, default: Any = _values.MISSING) -> npt.NDArray[Any]:
        """Return one attribute of all units.

        Parameters
        ----------
        name : str
            Name of the attribute.
        default : object, optional
            Value for the units that do not have it.

        Returns
        -------
        ndarray, shape (N, ...)
            Numbers and text by their type, arrays of one shape stacked, anything else as objects.

        Raises
        ------
        ValueError
            When units lack it and there is no default.

        Examples
        --------
        >>> sd = SpikeData([[1.0], [2.0]], neuron_attributes=[{"snr": 5.0}, {}])
        >>> sd.get_neuron_attribute("snr", default=float("nan")).tolist()
        [5.0, nan]
        """
        return _values.attribute_column(self._attributes, name, default)

    def set_neuron_attribute(self, name: str, values: Sequence[Any] | npt.NDArray[Any]) -> SpikeData:
        """Return a copy in which every unit has the attribute; this object stays as it is.

        Parameters
        ----------
        name : str
            Name of the attribute.
        values : sequence of length N
            One value per unit; rows of an array are arrays.

        Raises
        ------
        ValueError
            When there is not one value per unit.

        Examples
        --------
        >>> SpikeData([[1.0], [2.0]]).set_neuron_attribute("label", ["good", "mua"]).neuron_attributes
        [{'label': 'good'}, {'label': 'mua'}]
        """
        return self.replace(neuron_attributes=_values.with_values(self._attributes, name, values))

    def replace(self, **parts: Any) -> SpikeData:
        """Return a copy with other constructor arguments, such as ``metadata=...``, validated anew."""
        own = {name: getattr(self, name) for name in _PARTS}
        return type(self)(**{**own, **parts})

    # ------------------------------------------------------------ time

    def subtime(self, start: float, end: float, shift_to: float | None = None) -> SpikeData:
        """Return the spikes in [start, end), and at `end` when the recording ends there.

        Parameters
        ----------
        start, end : float
            Window (ms) inside the recording.
        shift_to : float, optional
            Time (ms) that `start` becomes; default: times stay as they are.

        Returns
        -------
        SpikeData
            All units, silent ones too, with the window's length; attributes per spike, raw data and epochs
            are cut alike.

        Raises
        ------
        ValueError
            When the window is not inside the recording.

        Examples
        --------
        >>> sd = SpikeData([[1.0, 5.0, 9.0]], length=10.0).subtime(4.0, 8.0, shift_to=0.0)
        >>> sd.train[0].tolist(), sd.length
        ([1.0], 4.0)
        """
        return _epochs.window(self, start, end, shift_to)

    def concatenate(self, other: SpikeData) -> SpikeData:
        """Return this recording followed by another one of the same units.

        Parameters
        ----------
        other : SpikeData
            Its start becomes the end of this one.

        Returns
        -------
        SpikeData
            Attributes and metadata of both (this one's where they differ), attributes per spike joined;
            ``rec_chunks_ms`` and ``rec_chunk_names`` let :meth:`split_epochs` take it apart. No raw data.

        Raises
        ------
        ValueError
            When number or ids of the units differ.

        Examples
        --------
        >>> joined = SpikeData([[1.0]], length=10.0).concatenate(SpikeData([[2.0]], length=5.0))
        >>> joined.train[0].tolist(), joined.length
        ([1.0, 12.0], 15.0)
        """
        return _epochs.concatenate(self, other)

    def split_epochs(self) -> list[SpikeData]:
        """Return the recordings that were concatenated, each starting at 0 with its own length.

        Every spike goes to the epoch with ``start <= time < end``. An epoch has the attributes of the whole,
        with those per spike cut; ``firing_rate`` and ``num_spikes``, where units have them, counted anew; and
        its own entry of every attribute ``epoch_<name>`` (one entry per epoch) as ``<name>``, such as
        ``epoch_template``. Its metadata name it (``epoch_name``, ``epoch_index``, ``epoch_start_ms``).

        Raises
        ------
        ValueError
            When ``metadata["rec_chunks_ms"]``, a list of (start, end) in ms, is missing or malformed.

        Examples
        --------
        >>> sd = SpikeData([[1.0, 12.0]], length=15.0, metadata={"rec_chunks_ms": [(0.0, 10.0), (10.0, 15.0)]})
        >>> [(epoch.length, epoch.train[0].tolist()) for epoch in sd.split_epochs()]
        [(10.0, [1.0]), (5.0, [2.0])]
        """
        return _epochs.split(self)

    # ------------------------------------------------------------ counts and intervals

    def rates(self, unit: Literal["Hz", "kHz"] = "Hz") -> Floats:
        """Return the mean rate of each unit, shape (N,): spikes over `length`; 0 when there is no length."""
        if unit not in {"Hz", "kHz"}:
            msg = f"unit must be 'Hz' or 'kHz', got {unit!r}"
            raise ValueError(msg)
        counts = np.array([times.size for times in self._train], dtype=np.float64)
        per_ms = counts / self._length if self._length else np.zeros(self.N)
        return per_ms * (1000.0 if unit == "Hz" else 1.0)

    def interspike_intervals(self) -> list[Floats]:
        """Return the intervals (ms) between successive spikes of each unit, shapes (n_spikes - 1,)."""
        return [np.diff(times) for times in self._train]

    def idces_times(self) -> tuple[Ints, Floats]:
        """Return unit index and time (ms) of every spike, by time; spikes at one time by unit."""
        return _trains.merge_trains(self._train)

    def binned(self, bin_size_ms: float) -> Ints:
        """Return the number of spikes of all units in each bin, shape (n_bins,).

        Bins are half-open and begin at `start_time`; the last one includes the end of the recording.
        """
        n_bins = _trains.count_bins(self._length, bin_size_ms)
        every_time = np.concatenate([np.zeros(0), *self._train])
        bins = _trains.bin_of(every_time, self._start_time, bin_size_ms, n_bins)
        return np.bincount(bins, minlength=n_bins)

    def raster(self, bin_size_ms: float) -> Ints:
        """Return the number of spikes of each unit in each bin, shape (N, n_bins).

        Bins are half-open and begin at `start_time`; the last one includes the end of the recording.
        """
        dense: Ints = self.sparse_raster(bin_size_ms).toarray()
        return dense

    def sparse_raster(self, bin_size_ms: float) -> csr_array:
        """Return :meth:`raster` as a scipy sparse array, for many units and small bins."""
        from scipy.sparse import csr_array

        n_bins = _trains.count_bins(self._length, bin_size_ms)
        bins = [_trains.bin_of(times, self._start_time, bin_size_ms, n_bins) for times in self._train]
        columns = np.concatenate([np.zeros(0, dtype=np.int64), *bins])
        ends = np.cumsum([0, *(part.size for part in bins)])
        counts = csr_array((np.ones(columns.size, dtype=np.int64), columns, ends), shape=(self.N, n_bins))
        counts.sum_duplicates()
        return counts

    # ------------------------------------------------------------ raw data

    def with_raw_data(self, raw_data: Any, raw_time: float | npt.ArrayLike | None = None) -> SpikeData:
        """Return a copy with traces (channels, samples) attached, as the constructor takes them."""
        return self.replace(raw_data=raw_data, raw_time=raw_time)

    def with_source(self) -> SpikeData:
        """Return a copy with the traces of the recording that was sorted attached; they are read when used.

        Raises
        ------
        ValueError
            When this did not come from the pipeline, or the recording is no longer where it was.
        """
        return self.with_raw_data(*_raw.open_source(self.metadata, self.length))

    def raw_samples(self, times: npt.ArrayLike) -> Ints:
        """Return the sample of `raw_data` nearest to each time (ms).

        Negative before the data, n_samples or more after them.
        """
        return _raw.nearest_samples(np.asarray(times, dtype=np.float64), self._require_raw()[1], self._start_time)

    def get_waveform_traces(
        self, unit: int, ms_before: float = 1.0, ms_after: float = 2.0, channels: Sequence[int] | None = None
    ) -> npt.NDArray[Any]:
        """Return the raw traces around every spike of a unit.

        Parameters
        ----------
        unit : int
            Index of the unit.
        ms_before, ms_after : float, default 1.0 and 2.0
            Window (ms); the spike is at sample ``round(ms_before * rate)``.
        channels : sequence of int, optional
            Indices of the channels; default: all.

        Returns
        -------
        ndarray, shape (n_spikes, n_samples, n_channels)
            Spikes whose window is not wholly inside the data are left out.

        Raises
        ------
        ValueError
            When no raw data are attached, or a window is negative.

        Examples
        --------
        >>> sd = SpikeData([[5.0]], length=10.0, raw_data=np.zeros((2, 100)), raw_time=10.0)
        >>> sd.get_waveform_traces(0).shape
        (1, 30, 2)
        """
        traces, axis = self._require_raw()
        if ms_before < 0 or ms_after < 0:
            msg = f"ms_before and ms_after must be zero or more, got {ms_before} and {ms_after}"
            raise ValueError(msg)
        n_before, n_after = (round(ms * _raw.sampling_rate_Hz(axis) / 1000.0) for ms in (ms_before, ms_after))
        return _raw.read_snippets(traces, self.raw_samples(self._train[unit]), n_before, n_after, channels)

    def _require_raw(self) -> tuple[_raw.RawTraces, Floats | float]:
        if self._raw_data is None or self._raw_time is None:
            msg = "this needs raw data and none are attached; attach the traces with sd.with_raw_data(...)"
            raise ValueError(msg)
        return self._raw_data, self._raw_time

    # ------------------------------------------------------------ curation

    curate = curation.curate
    curate_by_min_spikes = curation.curate_by_min_spikes
    curate_by_firing_rate = curation.curate_by_firing_rate
    curate_by_isi_violations = curation.curate_by_isi_violations
    curate_by_redundancy = curation.curate_by_redundancy
    curate_by_snr = curation.curate_by_snr
    curate_by_std_norm = curation.curate_by_std_norm
    compute_waveform_metrics = curation.compute_waveform_metrics
    build_curation_history = staticmethod(curation.build_curation_history)

    # ------------------------------------------------------------ from and to

    @classmethod
    def from_idces_times(
        cls, idces: npt.ArrayLike, times: npt.ArrayLike, *, N: int | None = None, **parts: Any
    ) -> SpikeData:
        """Return the units of paired vectors: spike k belongs to unit ``idces[k]`` and is at ``times[k]`` ms.

        Parameters
        ----------
        idces : array-like of int, shape (n_spikes,)
            Unit of each spike.
        times : array-like of float, shape (n_spikes,)
            Time (ms) of each spike, in any order; several may coincide.
        N : int, optional
            Number of units; default: the highest index + 1.
        **parts : object
            Further arguments of the constructor (length, start_time, ...).

        Raises
        ------
        ValueError
            When the vectors differ in length or an index is out of range.

        Examples
        --------
        >>> SpikeData.from_idces_times([1, 0, 1], [3.0, 3.0, 1.0], length=5.0).train[1].tolist()
        [1.0, 3.0]
        """
        return cls(_trains.group_by_unit(idces, times, N), **parts)

    @classmethod
    def from_raster(cls, raster: Any, bin_size_ms: float, *, start_time: float = 0.0, **parts: Any) -> SpikeData:
        """Return units with as many spikes in each bin as a raster counts, evenly spread inside the bin.

        Parameters
        ----------
        raster : array-like or scipy sparse, shape (N, n_bins)
            Spike counts.
        bin_size_ms : float
            Width of a bin (ms).
        start_time : float, default 0.0
            Time (ms) at which the first bin begins.
        **parts : object
            Further arguments of the constructor; `length` is that of all bins unless given.

        Raises
        ------
        ValueError
            When the raster is no matrix of counts or the bin size is not positive.

        Examples
        --------
        >>> SpikeData.from_raster([[0, 2]], bin_size_ms=10.0).train[0].tolist()
        [12.5, 17.5]
        """
        _trains.count_bins(0.0, bin_size_ms)
        counts = raster.toarray() if hasattr(raster, "toarray") else np.asarray(raster)
        trains = _trains.spread_counts(counts, bin_size_ms, start_time)
        return cls(trains, start_time=start_time, **{"length": counts.shape[1] * bin_size_ms, **parts})

    @classmethod
    def from_sorting(cls, sorting: Any, recording: Any = None) -> SpikeData:
        """Return a SpikeInterface sorting of one segment.

        Parameters
        ----------
        sorting : spikeinterface.BaseSorting
            Its properties become attributes, its ids ``unit_id``. Sample n is at ``n * 1000 / fs`` ms.
        recording : spikeinterface.BaseRecording, optional
            What was sorted: gives the length, the channel locations, and the raw data, which are read when
            used.

        Returns
        -------
        SpikeData
            With length of the recording, also of one that is registered with the sorting; without either, up
            to the last spike.

        Raises
        ------
        ValueError
            When there are several segments, or the rates of the two differ.
        """
        return _convert.from_sorting(cls, sorting, recording)

    def to_sorting(self, fs_Hz: float) -> Any:
        """Return a SpikeInterface ``NumpySorting``: times relative to `start_time`, rounded to samples.

        Unit ids are the attribute ``unit_id`` where it names every unit once, else indices. Attributes that
        all units have as numbers, text or arrays of one shape become properties.

        Parameters
        ----------
        fs_Hz : float
            Sampling rate (Hz).

        Raises
        ------
        ValueError
            When the rate is not positive.
        """
        return _convert.to_sorting(self, fs_Hz)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything but the raw data to one HDF5 file, whole or not at all.

        An older file at `path` is replaced when the new one is on the disk. Equal data give equal bytes.
        Tuples in attributes and metadata become lists.

        Parameters
        ----------
        path : path-like
            The file; its folder must exist.

        Raises
        ------
        ValueError
            When an attribute or the metadata hold a value that the file cannot; the message names it.
        OSError
            When the disk does not take it.
        """
        _hdf5.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, verify: bool = True) -> SpikeData:
        """Read a file that :meth:`save` wrote; nothing in it is ever executed.

        Parameters
        ----------
        path : path-like
            The file.
        verify : bool, default True
            Compare the checksum first. False is for a file that was changed with another program on purpose; a
            damaged one may then crash HDF5.

        Raises
        ------
        ValueError
            When it is no such file, is damaged or changed, or was written by a newer release.
        FileNotFoundError
            When there is none.
        """
        return _hdf5.load(cls, path, verify=verify)
