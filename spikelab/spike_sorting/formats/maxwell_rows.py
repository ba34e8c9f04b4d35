"""Maxwell files in which rows of samples and electrodes do not pair off one by one, as in those of before 2019.

SpikeInterface takes the first rows for the mapped electrodes, which are others.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseRecordingSegment

from spikelab.spike_sorting.formats.maxwell import located

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OLD_FS_HZ = 20_000.0
_OLD_RANGE_V, _OLD_STEPS, _DEFAULT_AMPLIFICATION = 3.3, 1024, 512.0


class MaxwellRowsRecording(BaseRecording):  # type: ignore[misc]
    """The electrodes of a Maxwell recording that are connected to a channel, each with the row of its channel.

    Parameters
    ----------
    file_path : path
        The file.
    well : str
        Well.
    rec_name : str or None
        Recording in the well; None for a file of the old layout.
    """

    def __init__(self, file_path: str | Path, well: str, rec_name: str | None) -> None:
        import h5py

        file = h5py.File(file_path, "r")
        data, mapping = located(file, well, rec_name)
        mapping = mapping[mapping["channel"] >= 0]
        rows = _rows(file, well, rec_name, mapping["channel"], len(data))
        settings = file["settings"] if rec_name is None else file["wells"][well][rec_name]["settings"]
        fs_Hz = _OLD_FS_HZ if rec_name is None else float(settings["sampling"][0])
        super().__init__(fs_Hz, mapping["channel"].astype(str), data.dtype)
        self.add_recording_segment(_Rows(data, rows, fs_Hz))
        self.set_channel_gains(_gain_uV(settings))
        self.set_channel_offsets(0.0)
        self.set_property("electrode", mapping["electrode"])
        self.set_dummy_probe_from_locations(np.column_stack([mapping["x"], mapping["y"]]).astype(np.float64))
        self._kwargs = {"file_path": str(Path(file_path).absolute()), "well": well, "rec_name": rec_name}


def _rows(file: Any, well: str, rec_name: str | None, channels: NDArray[Any], n_rows: int) -> NDArray[np.int64]:
    """Return the row of each channel: said by the file, or one by one, or the channel's own number."""
    routed = f"wells/{well}/{rec_name}/groups/routed/channels"
    numbers = channels.astype(np.int64)
    if rec_name is not None and routed in file:
        said = {int(channel): row for row, channel in enumerate(file[routed][:])}
        if missing := sorted(set(numbers.tolist()) - set(said)):
            msg = f"electrodes are mapped to channels {missing[:8]}, which were not recorded"
            raise ValueError(msg)
        return np.array([said[channel] for channel in numbers.tolist()])
    if n_rows == len(numbers):
        return np.arange(n_rows)
    if numbers.size and numbers.max() < n_rows:
        return numbers
    msg = (
        f"{len(numbers)} electrodes are mapped to channels up to {numbers.max(initial=-1)}, the data has {n_rows} rows"
    )
    raise ValueError(msg)


def _gain_uV(settings: Any) -> float:
    if "lsb" in settings:
        return float(settings["lsb"][0]) * 1e6
    amplification = float(settings["gain"][0]) if "gain" in settings else _DEFAULT_AMPLIFICATION
    return _OLD_RANGE_V / (_OLD_STEPS * amplification) * 1e6


class _Rows(BaseRecordingSegment):  # type: ignore[misc]
    def __init__(self, data: Any, rows: NDArray[np.int64], fs_Hz: float) -> None:
        super().__init__(sampling_frequency=fs_Hz)
        self._data, self._rows = data, rows

    def get_num_samples(self) -> int:
        return int(self._data.shape[1])

    def get_traces(self, start_frame: int, end_frame: int, channel_indices: Any) -> NDArray[Any]:
        wanted = self._rows if channel_indices is None else self._rows[channel_indices]
        # HDF5 reads rows in rising order only; a run of rows is much faster than a list of them.
        first, last = int(wanted.min()), int(wanted.max()) + 1
        block = self._data[first:last, start_frame:end_frame]
        return np.asarray(block[wanted - first].T)
