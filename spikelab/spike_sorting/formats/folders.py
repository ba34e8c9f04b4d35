"""SpikeInterface's own folders, and flat binary files, of which a person says what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikelab.spike_sorting.descriptions import is_recording
from spikelab.spike_sorting.formats.format import BinaryLayout, Format

_DESCRIPTIONS = ("binary.json", "si_folder.json", "provenance.json", "cached.json", "spikeinterface_info.json")
_BINARY_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")


def _folder_problem(folder: Path) -> str | None:
    found = any((folder / name).is_file() for name in _DESCRIPTIONS)
    return None if found else f"it has none of {', '.join(_DESCRIPTIONS)}"


def _zarr_problem(folder: Path) -> str | None:
    if folder.suffix == ".zarr" and not folder.name.endswith(".nwb.zarr"):
        return None
    return "its name does not end in .zarr"


def _load(path: Path, _stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    import spikeinterface

    loaded = spikeinterface.load(path)
    if not is_recording(loaded):
        msg = f"it holds a {type(loaded).__name__}; expected a recording"
        raise ValueError(msg)
    return loaded


def _not_a_folder(_path: Path) -> str | None:
    return "it is a file; expected a folder"


def _mda_problem(folder: Path) -> str | None:
    return None if (folder / "raw.mda").is_file() else "it has no raw.mda"


def _read_mda(path: Path, _stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    from spikeinterface.extractors import read_mda_recording

    return read_mda_recording(path)


def _read_flat(path: Path, _stream_id: str | None, layout: BinaryLayout | None) -> Any:
    from spikeinterface.core import BinaryRecordingExtractor

    layout = layout or BinaryLayout()
    _check_layout(path, layout)
    return BinaryRecordingExtractor(
        [path], layout.fs_Hz, layout.dtype, num_channels=layout.n_channels, file_offset=layout.offset_bytes
    )


def _check_layout(path: Path, layout: BinaryLayout) -> None:
    said = {"binary_fs (Hz)": layout.fs_Hz, "binary_n_chan": layout.n_channels}
    missing = [name for name, value in said.items() if value is None]
    if missing:
        msg = (
            f"a flat binary file does not say what it holds: set {' and '.join(missing)}, and binary_dtype if not int16"
        )
        raise ValueError(msg)
    n_bytes = path.stat().st_size - layout.offset_bytes
    if n_bytes <= 0:
        msg = f"it has {path.stat().st_size} bytes, and binary_offset skips {layout.offset_bytes} of them"
        raise ValueError(msg)


FOLDER_FORMATS = (
    Format(
        name="SpikeInterface folder",
        expects="the folder that recording.save made",
        folder_problem=_folder_problem,
        read=_load,
        has_probe=True,
    ),
    Format(
        name="SpikeInterface zarr",
        expects="the .zarr folder",
        suffixes=(".zarr",),
        file_problem=_not_a_folder,
        folder_problem=_zarr_problem,
        read=_load,
        has_probe=True,
    ),
    Format(
        name="MDA",
        expects="the folder with raw.mda, params.json and geom.csv",
        folder_problem=_mda_problem,
        read=_read_mda,
        has_probe=True,
    ),
)

FLAT_BINARY = Format(
    name="flat binary",
    expects="a .bin, .dat, .raw or .bat file, with binary_fs, binary_n_chan and binary_dtype",
    suffixes=(".bin", ".dat", ".raw", ".bat"),
    read=_read_flat,
    in_folders=False,
)
