"""HDF5 files: whether the filters that they are compressed with are here, judged without reading data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import HDF5PluginMissingError
from spikelab.spike_sorting.formats.hdf5 import is_hdf5
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.findings import Finding, about
from spikelab.spike_sorting.sources import plugin_folders

_REGISTERED_FROM, _REGISTERED_TO = 32_000, 32_767


def missing_filters(job: Job) -> HDF5PluginMissingError | None:
    """Return which filters this process lacks to decompress the HDF5 files of `job`, or None when it has all."""
    found = (_lacking(path, job.source.stream_id) for path in _hdf5_files(job))
    lacking = {code: name for filters in found for code, name in filters.items()}
    return _missing(job, lacking) if lacking else None


def check_plugin_folders(job: Job) -> list[Finding]:
    """Find folders in ``hdf5_plugin_path`` that are not there."""
    folders = plugin_folders(job.config.recording.hdf5_plugin_path)
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if not absent:
        return []
    message = f"hdf5_plugin_path names {', '.join(absent)}, which is no folder here"
    advice = f"Name the folder that holds the plugin; several are joined by {os.pathsep!r}."
    return [about(job, "hdf5-plugin-folder-missing", "warning", message, advice)]


# ---------------------------------------------------------------------------------------------- what is there


def _hdf5_files(job: Job) -> list[Path]:
    paths = (Path(file) for file in job.source.owner_card()["files"])
    return [path for path in paths if path.is_file() and is_hdf5(path)]


def _lacking(path: Path, stream_id: str | None) -> dict[int, str]:
    """Return the filters in `path` that this process does not have, code -> name."""
    import h5py

    with h5py.File(path, "r") as file:
        datasets = _filtered_datasets(file, stream_id)
    filters = {code: name for found in datasets.values() for code, name in found.items()}
    return {code: name for code, name in filters.items() if not h5py.h5z.filter_avail(code)}


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


def _missing(job: Job, filters: Mapping[int, str]) -> HDF5PluginMissingError:
    listed = " and ".join(f"{code} ({name})" if name else str(code) for code, name in sorted(filters.items()))
    configured = job.config.recording.hdf5_plugin_path
    where = f"not in hdf5_plugin_path={configured}" if configured else "hdf5_plugin_path is not set"
    msg = f"{job.path} is compressed with HDF5 filter {listed}, which is not installed ({where}); {_steps(filters)}"
    return HDF5PluginMissingError(msg, configured_path=configured)


def _steps(codes: Iterable[int]) -> str:
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
