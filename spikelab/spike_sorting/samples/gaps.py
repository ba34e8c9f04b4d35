"""Samples that were lost while recording, from the frame numbers or the times that a file keeps beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 22
_FRAME_NUMBERS = "groups/routed/frame_nos"


@dataclass(frozen=True)
class Gap:
    """A leap in the numbers of samples.

    Parameters
    ----------
    sample : int
        First sample after it.
    n_missing : int
        Samples that are missing; below 0 where the numbers go back.
    """

    sample: int
    n_missing: int


def gaps_in(numbers: Iterable[NDArray[Any]]) -> list[Gap]:
    """Return the leaps in the numbers of samples, given as blocks in order; without any they rise by one.

    Examples
    --------
    >>> import numpy as np
    >>> gaps_in([np.array([7, 8, 9]), np.array([15, 16])])
    [Gap(sample=3, n_missing=5)]
    """
    import numpy as np

    found: list[Gap] = []
    position, last = 0, None
    for block in numbers:
        values = np.asarray(block, dtype=np.int64)
        if last is not None:
            values = np.concatenate([[last], values])
        steps = np.diff(values)
        first = position + (1 if last is None else 0)
        found += [Gap(first + int(at), int(steps[at]) - 1) for at in np.flatnonzero(steps != 1)]
        position, last = position + len(block), int(values[-1]) if values.size else last
    return found


def gaps_of(recording: Any) -> list[Gap]:
    """Return the gaps of `recording`, one segment; none where its format has neither frame numbers nor times."""
    kind, fs_Hz = type(recording).__name__, recording.sampling_frequency
    if kind == "MaxwellRecordingExtractor":
        return gaps_in(_maxwell_frames(recording))
    if kind == "NwbRecordingExtractor":
        return gaps_in(_nwb_frames(recording))
    if not recording.has_time_vector():
        return []
    return gaps_in(_frames_from_times(recording.segments[0].get_times_kwargs()["time_vector"], fs_Hz))


def _maxwell_frames(recording: Any) -> Iterator[NDArray[Any]]:
    """Yield the frame numbers that Maxwell's new files keep for each recording of a well."""
    import h5py

    reader = recording.neo_reader
    with h5py.File(reader.filename, "r") as file:
        place = f"wells/{recording.stream_id}/{reader.rec_name}/{_FRAME_NUMBERS}"
        if place in file:
            frames = file[place]
            yield from (frames[start : start + _BLOCK] for start in range(0, frames.shape[0], _BLOCK))


def _nwb_frames(recording: Any) -> Iterator[NDArray[Any]]:
    """Yield frame numbers from the times that an NWB file may keep; SpikeInterface goes by the rate alone."""
    import h5py

    path = recording._kwargs["file_path"]
    if not h5py.is_hdf5(path):  # a .nwb.zarr folder
        return
    with h5py.File(path, "r") as file:
        times = file[recording.electrical_series_path].get("timestamps")
        if times is not None:
            yield from _frames_from_times(times, recording.sampling_frequency)


def _frames_from_times(times: Any, fs_Hz: float) -> Iterator[NDArray[Any]]:
    import numpy as np

    drift, last = 0, None
    for start in range(0, len(times), _BLOCK):
        # Clocks are not exact: from one sample to the next what counts is the nearest whole number of samples.
        block = np.asarray(times[start : start + _BLOCK], dtype=np.float64)
        steps = np.rint(np.diff(block, prepend=block[0] if last is None else last) * fs_Hz).astype(np.int64)
        frames = drift + np.cumsum(steps)
        yield frames
        drift, last = int(frames[-1]), float(block[-1])


def gaps_told(gaps: list[Gap], fs_Hz: float) -> str:
    """Return what is said of `gaps`, of which there are some."""
    first, back = gaps[0], sum(gap.n_missing < 0 for gap in gaps)
    n_missing = sum(max(gap.n_missing, 0) for gap in gaps)
    count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
    told = f"{count}: {n_missing} samples ({n_missing / fs_Hz * 1000:.4g} ms) are missing"
    where = f", the first at {first.sample / fs_Hz:.6g} s"
    return told + where + (f"; {back} times the numbers go back" if back else "")
