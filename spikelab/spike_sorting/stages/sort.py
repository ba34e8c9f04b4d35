"""Sort: let the configured sorter work, and keep its spikes in one form whatever the sorter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.base import Sorting, SortJob
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.stage import StageRun, Summary

VERSION = 1


def settings(config: SortingPipelineConfig) -> Any:
    """Return the sorter, its version, and the settings that change what it finds."""
    name = config.sorter.sorter_name
    return {"sorter": name, **get_backend(name).settings(config)}


def run(stage: StageRun) -> Summary:
    """Write ``sorter_output/`` in the sorter's own format and ``spikes.npz`` in ours."""
    config = stage.job.config
    backend = get_backend(config.sorter.sorter_name)
    version = backend.check_installed(config)
    recording, _ = read_recording(stage.job.run.recording)
    output = stage.folder / stage.job.run.sorter_output.name
    output.mkdir()
    noted = dict(backend.sort(SortJob(recording, output, stage.job.run, config, stage.progress)) or {})
    notes, warnings = noted.pop("notes", ()), noted.pop("warnings", ())
    sorting = backend.read(output, recording.get_num_samples())
    write_spikes(stage.folder / "spikes.npz", sorting)
    return {
        "version": version,
        **noted,
        "warnings": [*warnings, *(remark("sorter-advice", note).to_dict() for note in notes)],
        "sorter": backend.name,
        "n_units": int(sorting.unit_ids.size),
        "n_spikes": int(sorting.samples.size),
        "direct": not stage.job.run.binary.exists(),
    }


def write_spikes(path: Path, sorting: Sorting) -> None:
    """Write `sorting` as plain arrays."""
    import numpy as np

    properties = {f"unit_{name}": np.asarray(values) for name, values in sorting.unit_properties.items()}
    arrays = {"samples": sorting.samples, "units": sorting.units, "unit_ids": sorting.unit_ids, **properties}
    np.savez(path, allow_pickle=False, **arrays)


def read_spikes(folder: Path) -> Sorting:
    """Return the spikes that `write_spikes` left in the stage's folder."""
    import numpy as np

    with np.load(folder / "spikes.npz", allow_pickle=False) as file:
        properties = {
            name.removeprefix("unit_"): file[name].tolist()
            for name in file.files
            if name.startswith("unit_") and name != "unit_ids"
        }
        return Sorting(file["samples"], file["units"], file["unit_ids"], properties)
