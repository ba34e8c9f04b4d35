"""HDF5 files: whether the filters that they are compressed with are here, judged without reading data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import (
    HDF5PluginMissingError,
    RecordingUnreadableError,
    SpikeSortingClassifiedError,
)
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.findings import Finding, about

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REGISTERED_FROM, _REGISTERED_TO = 32_000, 32_767
_TIMEOUT_S = 60.0
_READ_THERE = """
import json, sys
import h5py
missing, error = [], None
for name, datasets in json.loads(sys.argv[1]).items():
    with h5py.File(name, "r") as file:
        for path, filters in datasets.items():
            missing += [code for code in filters if not h5py.h5z.filter_avail(code)]
            data = file[path]
            for where in (0.0, 0.5, 1.0):
                chunk = [int(where * (n - 1)) // c * c for n, c in zip(data.shape, data.chunks)]
                try:
                    data[tuple(slice(start, start + c) for start, c in zip(chunk, data.chunks))]
                except OSError as caught:
                    error = error or f"{name}: chunk {chunk} of {path}: {caught}"
print(json.dumps({"missing": sorted(set(missing)), "error": error}))
"""

Datasets = Mapping[str, Mapping[int, str]]
"""Filters (code -> name) of each dataset, by its path in the file."""


@dataclass(frozen=True)
class FilterAnswer:
    """Whether the compressed data of a recording can be read.

    Parameters
    ----------
    error : SpikeSortingClassifiedError or None
        Why not.
    is_readable_here : bool
        Whether this process can, not only one with ``hdf5_plugin_path``.
    """

    error: SpikeSortingClassifiedError | None = None
    is_readable_here: bool = True


def look_at_filters(job: Job) -> FilterAnswer:
    """Return whether the HDF5 files of `job`, if it has any, can be decompressed.

    Where this process lacks a filter and the settings name a folder for plugins, another process is asked:
    HDF5 reads its search path only once, and this process is the caller's.
    """
    lacking = {str(path): found for path in _hdf5_files(job) if (found := _lacking(path, job.source.stream_id))}
    if not lacking:
        return FilterAnswer()
    configured = job.config.recording.hdf5_plugin_path
    if configured is None:
        return FilterAnswer(_missing(job, lacking), is_readable_here=False)
    return FilterAnswer(_ask_elsewhere(job, lacking, configured), is_readable_here=False)


def check_plugin_folders(job: Job) -> list[Finding]:
    """Find folders in ``hdf5_plugin_path`` that are not there."""
    absent = [folder for folder in _plugin_folders(job) if not Path(folder).expanduser().is_dir()]
    if not absent:
        return []
    message = f"hdf5_plugin_path names {', '.join(absent)}, which is no folder here"
    advice = f"Name the folder that holds the plugin; several are joined by {os.pathsep!r}."
    return [about(job, "hdf5-plugin-folder-missing", "warning", message, advice)]


def _plugin_folders(job: Job) -> list[str]:
    return [part for part in (job.config.recording.hdf5_plugin_path or "").split(os.pathsep) if part]


# ---------------------------------------------------------------------------------------------- what is there


def _hdf5_files(job: Job) -> list[Path]:
    paths = (Path(file) for file in job.source.owner_card()["files"])
    return [path for path in paths if path.is_file() and _is_hdf5(path)]


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def _lacking(path: Path, stream_id: str | None) -> dict[str, dict[int, str]]:
    """Return the datasets of `path` with filters that this process does not have."""
    import h5py

    with h5py.File(path, "r") as file:
        datasets = _filtered_datasets(file, stream_id)
    lacking = {
        name: {code: label for code, label in filters.items() if not h5py.h5z.filter_avail(code)}
        for name, filters in datasets.items()
    }
    return {name: filters for name, filters in lacking.items() if filters}


def _filtered_datasets(file: Any, stream_id: str | None) -> dict[str, dict[int, str]]:
    """Return the filters of each dataset; of a plate, of the wanted well alone."""
    import h5py

    well = f"wells/{stream_id}"
    top = file[well] if stream_id and well in file else file
    found: dict[str, dict[int, str]] = {}

    def visit(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            found[item.name] = _filters_of(item)

    top.visititems(visit)
    return found


def _filters_of(dataset: Any) -> dict[int, str]:
    properties = dataset.id.get_create_plist()
    filters = (properties.get_filter(number) for number in range(properties.get_nfilters()))
    return {int(code): name.decode(errors="replace") for code, _, _, name in filters}


# -------------------------------------------------------------------------------------------------- what then


def _ask_elsewhere(job: Job, lacking: Mapping[str, Datasets], configured: str) -> SpikeSortingClassifiedError | None:
    """Let a process with the plugins of `configured` read the first, middle and last chunk."""
    folders = [configured, *filter(None, [os.environ.get("HDF5_PLUGIN_PATH")])]
    environment = {**os.environ, "HDF5_PLUGIN_PATH": os.pathsep.join(folders)}
    asked = {file: {name: list(filters) for name, filters in datasets.items()} for file, datasets in lacking.items()}
    command = [sys.executable, "-c", _READ_THERE, json.dumps(asked)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
        said = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        msg = f"{job.path}: reading it with the plugins in {configured} ends without an answer"
        return RecordingUnreadableError(msg, path=job.path)
    if said["missing"]:
        return _missing(job, lacking)
    return RecordingUnreadableError(said["error"], path=job.path) if said["error"] else None


def _missing(job: Job, lacking: Mapping[str, Datasets]) -> HDF5PluginMissingError:
    filters = {
        code: name for datasets in lacking.values() for found in datasets.values() for code, name in found.items()
    }
    listed = " and ".join(f"{code} ({name})" if name else str(code) for code, name in sorted(filters.items()))
    configured = job.config.recording.hdf5_plugin_path
    where = f"not in hdf5_plugin_path={configured}" if configured else "hdf5_plugin_path is not set"
    msg = f"{job.path} is compressed with HDF5 filter {listed}, which is not installed ({where}); {_steps(filters)}"
    return HDF5PluginMissingError(msg, configured_path=configured)


def _steps(codes: Sequence[int] | Mapping[int, str]) -> str:
    if all(_REGISTERED_FROM <= code <= _REGISTERED_TO for code in codes):
        python = sys.executable
        return (
            f"run `{python} -m pip install hdf5plugin`, then set hdf5_plugin_path to what "
            f"`{python} -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)'` prints"
        )
    return (
        "get the plugin (for Maxwell files libcompression, from MaxWell Biosystems), put it into a folder and set "
        "hdf5_plugin_path, or the variable HDF5_PLUGIN_PATH before Python starts, to that folder"
    )
