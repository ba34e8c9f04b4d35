"""Maxwell files: which recordings they hold, and what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikelab.spike_sorting.formats.format import BinaryLayout, Stream

OLD_VERSION = 20160704
OLD_WELL = "well000"


def maxwell_streams(path: Path) -> list[Stream]:
    """Return one stream for each recording in a file: the wells, or ``well000/rec0000`` where a well has several."""
    import h5py

    with h5py.File(path, "r") as file:
        if "wells" not in file:
            return [Stream(OLD_WELL, OLD_WELL)]
        wells = {well: _recordings(group) for well, group in file["wells"].items()}
    if not any(wells.values()):
        msg = f"its wells {sorted(wells)} hold no recording of routed channels"
        raise ValueError(msg)
    ids = [id_ for well in sorted(wells) for id_ in _stream_ids(well, wells[well])]
    return [Stream(id_, id_) for id_ in ids]


def _recordings(well: Any) -> list[str]:
    return sorted(name for name, group in well.items() if "groups/routed" in group)


def _stream_ids(well: str, recordings: list[str]) -> list[str]:
    return [well] if len(recordings) == 1 else [f"{well}/{recording}" for recording in recordings]


def read_maxwell(path: Path, stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    """Return the recording of a well; `stream_id` may be None in a file of one recording."""
    from spikeinterface.extractors import read_maxwell as read

    well, recording = _place(path, stream_id)
    if _has_rows_of_its_own(path, well, recording):
        from spikelab.spike_sorting.formats.maxwell_rows import MaxwellRowsRecording

        return MaxwellRowsRecording(path, well, recording)
    return read(path, stream_id=well, rec_name=recording, install_maxwell_plugin=False)


def _place(path: Path, stream_id: str | None) -> tuple[str, str | None]:
    """Return well and recording of a stream; None as the recording of an old file."""
    import h5py

    if stream_id is None:
        stream_id = maxwell_streams(path)[0].id
    well, _, recording = stream_id.partition("/")
    with h5py.File(path, "r") as file:
        if "wells" not in file:
            return well, None
        return well, recording or _recordings(file["wells"][well])[0]


def _has_rows_of_its_own(path: Path, well: str, recording: str | None) -> bool:
    """Return whether the data have other rows than the mapping has electrodes: SpikeInterface takes one for each."""
    import h5py

    with h5py.File(path, "r") as file:
        data, mapping = located(file, well, recording)
        n_rows, n_samples = data.shape
    connected = mapping["channel"] >= 0
    if not connected.any():
        msg = f"none of {len(mapping)} electrodes is connected: the recording has 0 channels"
        raise ValueError(msg)
    if n_rows > n_samples:
        msg = f"its data are {n_rows} rows of {n_samples} samples: rows and samples seem to be swapped"
        raise ValueError(msg)
    return bool(n_rows != len(mapping) or not connected.all())


def located(file: Any, well: str, recording: str | None) -> tuple[Any, Any]:
    """Return the samples, a dataset of shape (rows, n_samples), and the mapping of electrodes to channels."""
    if recording is None:
        return file["sig"], file["mapping"][:]
    group = file["wells"][well][recording]
    return group["groups/routed/raw"], group["settings/mapping"][:]
