"""What the detection network learns from: band-passed traces, and where spikes have their troughs in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import RT_SORT_MEA
from spikelab.spike_sorting.descriptions import is_recording, load_description
from spikelab.spike_sorting.run_folder import RunFolder

if TYPE_CHECKING:
    from spikelab.simulation import GroundTruth

    Source = str | Path | GroundTruth | tuple[Any, Any]

Ints = npt.NDArray[np.int64]

_BEFORE_MS, _AFTER_MS = 1.0, 3.0
_FEWEST_SPIKES = 10
_FILTERED_S, _SHORTEST_S = 5.0, 1.0


@dataclass(frozen=True, eq=False)
class Events:
    """Troughs: one channel and one sample each, in no order.

    Attributes
    ----------
    channels, samples : ndarray, shape (n_events,), int64
    """

    channels: Ints
    samples: Ints

    def between(self, start: int, stop: int) -> Events:
        """Return those of the samples [start, stop), counted from the first of these."""
        inside = (self.samples >= start) & (self.samples < stop)
        return Events(self.channels[inside], self.samples[inside] - start)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A recording to learn from.

    Attributes
    ----------
    traces : ndarray, shape (n_channels, n_samples), float32
        Band-passed, over the interquartile range of a typical channel.
    fs_Hz : float
        Sampling rate (Hz).
    clear : Events
        Troughs that are to be found.
    faint : Events
        Troughs that may be found or not.
    """

    traces: npt.NDArray[np.float32]
    fs_Hz: float
    clear: Events
    faint: Events

    def split(self, frac: float) -> tuple[Labelled, Labelled]:
        """Return all but the last `frac` of the recording, and that."""
        n_samples = self.traces.shape[1]
        border = n_samples - round(frac * n_samples)
        before, after = (
            Labelled(self.traces[:, a:b], self.fs_Hz, self.clear.between(a, b), self.faint.between(a, b))
            for a, b in ((0, border), (border, n_samples))
        )
        return before, after


@dataclass(frozen=True)
class Extent:
    """How much of a recording is read, and what counts as a clear trough.

    Attributes
    ----------
    duration_s : float
        Its first so many seconds.
    n_channels : int
        At most so many channels, drawn at random.
    clear_iqr, faint_iqr : float
        Mean troughs at least so deep are clear, faint (interquartile ranges).
    """

    duration_s: float = 30.0
    n_channels: int = 64
    clear_iqr: float = 2.0
    faint_iqr: float = 0.7


def read_labelled(source: Source, extent: Extent, rng: np.random.Generator) -> Labelled:
    """Return traces and troughs of a source.

    Parameters
    ----------
    source : path, GroundTruth or (recording, sorting)
        A results folder of spikelab, a simulation, or a SpikeInterface recording with the sorting of it.
    extent : Extent
        How much of it.
    rng : numpy.random.Generator
        Draws the channels.

    Raises
    ------
    RecordingUnreadableError
        The recording of a results folder is no longer there.
    ValueError
        It is none of these, shorter than a second, or silent.
    """
    recording, trains = _opened(source)
    channels = np.sort(rng.permutation(recording.get_num_channels())[: extent.n_channels])
    traces = _read(recording, channels, extent.duration_s)
    iqr = float(np.median(np.subtract(*np.percentile(traces, [75, 25], axis=1))))
    if iqr <= 0:
        msg = f"most channels of the recording are silent: nothing can be learnt from {recording}"
        raise ValueError(msg)
    traces /= iqr
    return _label(traces, float(recording.sampling_frequency), trains, extent)


def _opened(source: Source) -> tuple[Any, list[Ints]]:
    """Return the recording, and the sample of each spike of each unit."""
    if isinstance(source, (str, Path)):
        return _opened_results(Path(source))
    recording, sorting = source if isinstance(source, tuple) else (source.recording, source.sorting)
    if not is_recording(recording) or not hasattr(sorting, "get_unit_spike_train"):
        msg = f"expected (recording, sorting), found ({type(recording).__name__}, {type(sorting).__name__})"
        raise ValueError(msg)
    return recording, [np.asarray(sorting.get_unit_spike_train(unit), dtype=np.int64) for unit in sorting.unit_ids]


def _opened_results(folder: Path) -> tuple[Any, list[Ints]]:
    from spikelab.spikedata import SpikeData

    curated = RunFolder(folder, folder).curated
    if not curated.is_file():
        msg = f"expected a results folder of spikelab with {curated.name}, found none in {folder}"
        raise ValueError(msg)
    sd = SpikeData.load(curated)
    if "recording" not in sd.metadata:
        msg = f"{curated} does not say which recording was sorted; give (recording, sorting) instead"
        raise ValueError(msg)
    recording = load_description(sd.metadata["recording"])
    return recording, [np.rint(train * recording.sampling_frequency / 1000).astype(np.int64) for train in sd.train]


def _read(recording: Any, channels: Ints, duration_s: float) -> npt.NDArray[np.float32]:
    """Return band-passed traces without their medians, shape (n_channels, n_samples)."""
    fs_Hz, chosen = float(recording.sampling_frequency), recording.select_channels(recording.channel_ids[channels])
    if not chosen.has_scaleable_traces():
        # In which unit the traces are makes no difference: they are divided by their own range.
        chosen.set_channel_gains(1.0)
        chosen.set_channel_offsets(0.0)
    n_samples = min(int(recording.get_num_samples()), round(duration_s * fs_Hz))
    if n_samples < _SHORTEST_S * fs_Hz:
        msg = f"expected at least {_SHORTEST_S:g} s to learn from, found {n_samples / fs_Hz:.2g} s of {recording}"
        raise ValueError(msg)
    lazy, block = filtered(chosen, RT_SORT_MEA), round(_FILTERED_S * fs_Hz)
    traces = np.empty((len(channels), n_samples), dtype=np.float32)
    for start in range(0, n_samples, block):
        end = min(n_samples, start + block)
        traces[:, start:end] = lazy.get_traces(start_frame=start, end_frame=end).T
    traces -= np.median(traces, axis=1, keepdims=True)
    return traces


# ------------------------------------------------------------------------------------------------ labels


def _label(traces: npt.NDArray[np.float32], fs_Hz: float, trains: Sequence[Ints], extent: Extent) -> Labelled:
    n_before, n_after = (round(ms * fs_Hz / 1000) for ms in (_BEFORE_MS, _AFTER_MS))
    clear: list[Events] = []
    faint: list[Events] = []
    for train in trains:
        inside = train[(train >= n_before) & (train < traces.shape[1] - n_after)]
        if not len(inside):
            continue
        mean = _mean_spike(traces, inside, n_before, n_after)
        troughs, depth = mean.argmin(axis=1) - n_before, -mean.min(axis=1)
        # The mean of a few spikes is too noisy to learn from, but what it shows is no noise either.
        is_clear = depth >= (extent.clear_iqr if len(inside) >= _FEWEST_SPIKES else np.inf)
        clear.append(_events(inside, np.flatnonzero(is_clear), troughs))
        faint.append(_events(inside, np.flatnonzero(~is_clear & (depth >= extent.faint_iqr)), troughs))
    return Labelled(traces, fs_Hz, _joined(clear), _joined(faint))


def _mean_spike(traces: npt.NDArray[np.float32], spikes: Ints, n_before: int, n_after: int) -> npt.NDArray[np.float64]:
    total = np.zeros((len(traces), n_before + n_after))
    for spike in spikes:
        total += traces[:, spike - n_before : spike + n_after]
    return total / len(spikes)


def _events(spikes: Ints, channels: Ints, troughs: Ints) -> Events:
    """Return the troughs of all spikes on some channels, channel after channel."""
    return Events(
        channels=np.repeat(channels, len(spikes)),
        samples=(troughs[channels][:, np.newaxis] + spikes).ravel(),
    )


def _joined(parts: Sequence[Events]) -> Events:
    none = np.zeros(0, dtype=np.int64)
    return Events(
        channels=np.concatenate([none, *[part.channels for part in parts]]),
        samples=np.concatenate([none, *[part.samples for part in parts]]),
    )
