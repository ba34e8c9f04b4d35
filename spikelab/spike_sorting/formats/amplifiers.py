"""Formats of amplifiers and their programs, read by neo through SpikeInterface."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.formats.format import BinaryLayout, Format, Stream

_AUXILIARY = re.compile(
    r"sync|adc|aux|nidq|ni-daq|obx|digital|supply|trigger|temperature|stim|memory usage|\blfp?\b|^dc amplifier",
    re.IGNORECASE,
)
"""Names of streams in which there are no spikes."""
_LOWEST_RATE_HZ = 5000.0
"""Below this rate a stream is an LFP band."""


def _extractor(name: str) -> Any:
    from spikeinterface.extractors import extractor_classes

    return getattr(extractor_classes, f"{name}RecordingExtractor")


def _neo_streams(extractor: str, path: Path) -> list[Stream]:
    """Return the streams that neo finds in a file or folder, and in which of them spikes can be seen."""
    cls = _extractor(extractor)
    header = cls.get_neo_io_reader(cls.NeoRawIOClass, **cls.map_to_neo_kwargs(path)).header
    channels = header["signal_channels"]
    rates = {
        stream: channels["sampling_rate"][channels["stream_id"] == stream] for stream in set(channels["stream_id"])
    }
    return [
        Stream(str(id_), str(name), has_spikes=not _AUXILIARY.search(str(name)) and rates[id_].max() >= _LOWEST_RATE_HZ)
        for name, id_ in zip(header["signal_streams"]["name"], header["signal_streams"]["id"], strict=True)
        if id_ in rates
    ]


def _read_neo(extractor: str, path: Path, stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    return _extractor(extractor)(path, stream_id=stream_id)


def _neo_file(name: str, extractor: str, *suffixes: str) -> Format:
    """Return a format of single files that neo reads by their ending."""
    return Format(
        name=name,
        expects=f"the {' or '.join(suffixes)} file",
        suffixes=suffixes,
        streams=partial(_neo_streams, extractor),
        read=partial(_read_neo, extractor),
    )


def _neo_folder(name: str, extractor: str, expects: str, folder_problem: Callable[[Path], str | None]) -> Format:
    """Return a format of folders that neo reads."""
    return Format(
        name=name,
        expects=expects,
        folder_problem=folder_problem,
        streams=partial(_neo_streams, extractor),
        read=partial(_read_neo, extractor),
    )


def _lacking(*suffixes: str) -> Callable[[Path], str | None]:
    def problem(folder: Path) -> str | None:
        found = any(path.suffix.lower() in suffixes for path in folder.iterdir() if not path.name.startswith("."))
        return None if found else f"it has no {' or '.join(suffixes)} file"

    return problem


# --------------------------------------------------------------------------------------------------- SpikeGLX


def _spikeglx_problem(path: Path) -> str | None:
    meta = path.with_suffix(".meta")
    return None if meta.is_file() else f"there is no {meta.name} beside it"


def _spikeglx_folder_problem(folder: Path) -> str | None:
    """A run has its files in it, or in folders of its probes; a folder of several runs is no recording."""
    probes = [sub for sub in folder.iterdir() if sub.is_dir() and re.search(r"_imec\d+$", sub.name)]
    found = any(_has_pair(place) for place in (folder, *probes))
    return None if found else "it has no .bin file with its .meta"


def _has_pair(folder: Path) -> bool:
    return any(meta.with_suffix(".bin").is_file() for meta in folder.glob("*.meta"))


def _spikeglx_streams(path: Path) -> list[Stream]:
    """Return the streams of a run, or the one of a file."""
    if path.is_dir():
        return _neo_streams("SpikeGLX", path)
    own = _spikeglx_file(path)["stream_name"]
    return [stream for stream in _neo_streams("SpikeGLX", path.parent) if stream.id == own]


def _read_spikeglx(path: Path, stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    if path.is_dir():
        return _extractor("SpikeGLX")(path, stream_id=stream_id)
    own = _spikeglx_file(path)
    recording = _extractor("SpikeGLX")(path.parent, stream_id=stream_id or own["stream_name"])
    # neo reads all gates and triggers of a folder, as segments.
    return recording.select_segments([own["seg_index"]]) if recording.get_num_segments() > 1 else recording


def _spikeglx_file(path: Path) -> dict[str, Any]:
    """Return what neo knows of one .bin file."""
    cls = _extractor("SpikeGLX")
    reader = cls.get_neo_io_reader(cls.NeoRawIOClass, **cls.map_to_neo_kwargs(path.parent))
    found: list[dict[str, Any]] = [info for info in reader.signals_info_list if Path(info["bin_file"]) == path]
    if not found:
        msg = f"neo does not find {path.name} among the files of {path.parent}"
        raise ValueError(msg)
    return found[0]


def _spikeglx_cut(path: Path) -> str | None:
    """Return which .bin file is shorter than its .meta says: neo reads what is there."""
    metas = sorted(path.rglob("*.meta")) if path.is_dir() else [path.with_suffix(".meta")]
    for meta in metas:
        said = re.search(r"^fileSizeBytes=(\d+)\s*$", meta.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        file = meta.with_suffix(".bin")
        if said and file.is_file() and file.stat().st_size < int(said[1]):
            return f"{file.name} has {file.stat().st_size} bytes, and its .meta says {said[1]}"
    return None


# ------------------------------------------------------------------------------------------------- Open Ephys

_OEBIN_PLACES = (
    "structure.oebin",
    "recording*/structure.oebin",
    "experiment*/recording*/structure.oebin",
    "Record Node*/experiment*/recording*/structure.oebin",
)


def _open_ephys_problem(folder: Path) -> str | None:
    found = any(any(folder.glob(place)) for place in _OEBIN_PLACES)
    return None if found else "it has no recording with a structure.oebin"


# ------------------------------------------------------------------------------------------------------ Intan


def _intan_files(path: Path) -> list[Path]:
    """Return the header and, where it is in a file of its own, the data beside it."""
    return [path, *sorted(path.parent.glob("*.dat"))] if path.stem == "info" else [path]


# -------------------------------------------------------------------------------------------------- Blackrock


def _blackrock_streams(path: Path) -> list[Stream]:
    return [Stream(path.suffix[-1], f"nsx{path.suffix[-1]}")]


def _read_blackrock(path: Path, _stream_id: str | None, _layout: BinaryLayout | None) -> Any:
    # The file says which stream: of the files beside it none is read.
    return _extractor("Blackrock")(path)


# ------------------------------------------------------------------------------------------------- NeuroScope


def _neuroscope_problem(path: Path) -> str | None:
    xml = path.with_suffix(".xml")
    return None if xml.is_file() else f"there is no {xml.name} beside it"


# -------------------------------------------------------------------------------------- Multi Channel Systems


def _mcs_raw_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(5000)
    return None if b"EOH" in start and b"Sample rate" in start else "it has no header that ends with EOH"


AMPLIFIER_FORMATS = (
    Format(
        name="SpikeGLX",
        expects="the .bin file with its .meta beside it, or the folder of the run or of a probe",
        suffixes=(".bin",),
        file_problem=_spikeglx_problem,
        folder_problem=_spikeglx_folder_problem,
        streams=_spikeglx_streams,
        read=_read_spikeglx,
        files=lambda path: [path] if path.is_dir() else [path, path.with_suffix(".meta")],
        cut=_spikeglx_cut,
        has_probe=True,
    ),
    _neo_folder(
        "Open Ephys",
        "OpenEphysBinary",
        "the folder of the session, of a record node, an experiment or a recording",
        _open_ephys_problem,
    ),
    _neo_folder("Open Ephys (old)", "OpenEphysLegacy", "the folder of .continuous files", _lacking(".continuous")),
    Format(
        name="Intan",
        expects="the .rhd or .rhs file (info.rhd where the data are in files of their own)",
        suffixes=(".rhd", ".rhs"),
        streams=partial(_neo_streams, "Intan"),
        read=partial(_read_neo, "Intan"),
        files=_intan_files,
    ),
    Format(
        name="Blackrock",
        expects="the .ns5 or .ns6 file",
        suffixes=(".ns5", ".ns6"),
        streams=_blackrock_streams,
        read=_read_blackrock,
    ),
    Format(
        name="Blackrock, low rate",
        expects="the .ns1 to .ns4 file",
        suffixes=(".ns1", ".ns2", ".ns3", ".ns4"),
        streams=_blackrock_streams,
        read=_read_blackrock,
        in_folders=False,
    ),
    _neo_folder("Neuralynx", "Neuralynx", "the folder of .ncs files", _lacking(".ncs")),
    Format(
        name="Multi Channel Systems raw",
        expects="the .raw file that MC_DataTool writes with a header",
        suffixes=(".raw",),
        file_problem=_mcs_raw_problem,
        streams=partial(_neo_streams, "MCSRaw"),
        read=partial(_read_neo, "MCSRaw"),
    ),
    Format(
        name="NeuroScope",
        expects="the .dat file with its .xml beside it",
        suffixes=(".dat",),
        file_problem=_neuroscope_problem,
        streams=partial(_neo_streams, "NeuroScope"),
        read=partial(_read_neo, "NeuroScope"),
        files=lambda path: [path, path.with_suffix(".xml")],
    ),
    _neo_folder("Tucker-Davis (TDT)", "Tdt", "the folder of the block", _lacking(".tbk", ".tsq")),
    _neo_folder("Alpha Omega", "AlphaOmega", "the folder of .mpx files", _lacking(".mpx")),
    _neo_file("Plexon", "Plexon", ".plx"),
    _neo_file("Spike2", "Spike2", ".smr"),
    _neo_file("CED", "Ced", ".smrx"),
    _neo_file("SpikeGadgets", "SpikeGadgets", ".rec"),
    _neo_file("Axon", "Axon", ".abf"),
    _neo_file("EDF", "EDF", ".edf", ".bdf"),
    _neo_file("NIX", "Nix", ".nix"),
    _neo_file("NeuroExplorer", "NeuroExplorer", ".nex"),
    Format(
        name="NeuroNexus",
        expects="the .xdat.json file",
        suffixes=(".xdat.json",),
        streams=partial(_neo_streams, "NeuroNexus"),
        read=partial(_read_neo, "NeuroNexus"),
        files=lambda path: _beside(path, path.name.removesuffix(".xdat.json")),
    ),
    Format(
        name="Axona",
        expects="the .set file",
        suffixes=(".set",),
        read=lambda path, _stream, _layout: _extractor("Axona")(path),
        files=lambda path: _beside(path, path.stem),
    ),
)


def _beside(path: Path, stem: str) -> list[Path]:
    """Return the files of a recording that share a name up to the first dot or underscore after `stem`."""
    names: Iterable[Path] = (one for one in path.parent.iterdir() if one.is_file())
    return sorted(one for one in names if re.match(rf"{re.escape(stem)}[._]", one.name))
