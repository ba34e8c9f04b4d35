"""Formats within HDF5 files: told apart by what the file holds, whatever its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.formats.format import BinaryLayout, Format, Stream
from spikelab.spike_sorting.formats.maxwell import maxwell_streams, read_maxwell

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MCS_STREAMS = "Data/Recording_0/AnalogStream"


def is_hdf5(path: Path) -> bool:
    """Return whether the file `path` begins as HDF5 files do."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def _holding(is_there: Callable[[Any], bool], what: str) -> Callable[[Path], str | None]:
    """Return a check of an HDF5 file for something that only one format has."""

    def problem(path: Path) -> str | None:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return None if is_there(file) else f"it has no {what}; it holds {sorted(file)[:8]}"
        except OSError as error:
            return f"it cannot be opened as HDF5 ({error})"

    return problem


# ---------------------------------------------------------------------------------------------------------- NWB


def _nwb_problem(path: Path) -> str | None:
    return _holding(lambda file: "nwb_version" in file.attrs, "attribute nwb_version")(path)


def _nwb_folder_problem(folder: Path) -> str | None:
    described = folder / ".zattrs"
    if described.is_file() and "nwb_version" in described.read_text(encoding="utf-8"):
        return None
    return "it has no .zattrs with nwb_version"


def _nwb_streams(path: Path) -> list[Stream]:
    from spikeinterface.extractors.extractor_classes import NwbRecordingExtractor

    paths = NwbRecordingExtractor.fetch_available_electrical_series_paths(file_path=str(path))
    return [Stream(series, series, has_spikes=_is_raw(series)) for series in paths]


def _is_raw(series: str) -> bool:
    return series.startswith("acquisition/") and "lfp" not in series.lower()


def _read_nwb(path: Path, stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    from spikeinterface.extractors import read_nwb_recording

    return read_nwb_recording(path, electrical_series_path=stream_id)


# --------------------------------------------------------------------------------------- Multi Channel Systems


def _mcs_streams(path: Path) -> list[Stream]:
    import h5py

    with h5py.File(path, "r") as file:
        labels = {name.removeprefix("Stream_"): _mcs_label(group) for name, group in file[_MCS_STREAMS].items()}
    numbers = sorted(labels, key=int)
    return [Stream(number, labels[number] or number, has_spikes=_is_electrodes(labels[number])) for number in numbers]


def _mcs_label(group: Any) -> str:
    label = group.attrs.get("Label", b"")
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _is_electrodes(label: str) -> bool:
    return not any(word in label.lower() for word in ("digital", "auxiliary", "analog data"))


def _read_mcs(path: Path, stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    from spikeinterface.extractors import read_mcsh5

    return read_mcsh5(path, stream_id=int(stream_id or 0))


# ------------------------------------------------------------------------------------------------------ 3Brain


def _read_biocam(path: Path, _stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    from spikeinterface.extractors import read_biocam

    return read_biocam(path)


HDF5_FORMATS = (
    Format(
        name="Maxwell",
        expects="the .raw.h5 file",
        suffixes=(".h5",),
        file_problem=_holding(lambda file: "version" in file and ("wells" in file or "sig" in file), "wells or sig"),
        streams=maxwell_streams,
        read=read_maxwell,
        has_probe=True,
    ),
    Format(
        name="NWB",
        expects="the .nwb file, or the .nwb.zarr folder",
        suffixes=(".nwb", ".h5"),
        file_problem=_nwb_problem,
        folder_problem=_nwb_folder_problem,
        streams=_nwb_streams,
        read=_read_nwb,
    ),
    Format(
        name="Multi Channel Systems HDF5",
        expects="the .h5 file that the DataManager exports",
        suffixes=(".h5",),
        file_problem=_holding(lambda file: _MCS_STREAMS in file, _MCS_STREAMS),
        streams=_mcs_streams,
        read=_read_mcs,
    ),
    Format(
        name="3Brain BioCAM",
        expects="the .brw file",
        suffixes=(".brw", ".h5"),
        file_problem=_holding(lambda file: "3BRecInfo" in file or "ExperimentSettings" in file.attrs, "3BRecInfo"),
        read=_read_biocam,
        has_probe=True,
    ),
)
