"""Export: put what the user asked for into the results folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.stages.stage import StageRun, Summary

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

VERSION = 1


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that decide which files are written."""
    return thaw(asdict(config.compilation))


def run(stage: StageRun) -> Summary:
    """Write the result files; the numbers in the summary are those of the report."""
    run, options = stage.job.run, stage.job.config.compilation
    curated_folder = run.stage("curate")
    for path in (run.curated, run.curation_history):
        shutil.copyfile(curated_folder / path.name, stage.folder / path.name)
    if run.sorter_overview.is_file():
        shutil.copyfile(run.sorter_overview, stage.folder / run.overview.name)
    if options.save_raw_pkl:
        shutil.copyfile(run.assembled, stage.folder / run.raw.name)
    if options.compile_to_npz or options.compile_to_mat:
        _compile(stage)
    marker = run.read_marker("curate") or {"summary": {}}
    return dict(marker["summary"])


def _compile(stage: StageRun) -> None:
    import numpy as np

    from spikelab.spikedata import SpikeData

    run, options = stage.job.run, stage.job.config.compilation
    path = run.assembled if options.include_failed_units else run.stage("curate") / run.curated.name
    arrays = compiled_arrays(SpikeData.load(path), with_electrodes=options.save_electrodes)
    if options.compile_to_npz:
        np.savez_compressed(stage.folder / "sorted.npz", **arrays)
    if options.compile_to_mat:
        from scipy.io import savemat

        savemat(stage.folder / "sorted.mat", arrays, do_compression=True)


def compiled_arrays(sd: SpikeData, *, with_electrodes: bool) -> dict[str, Any]:
    """Return `sd` as plain arrays, readable without pickle: spike times with unit borders, and one value per unit."""
    import numpy as np

    names = ["unit_id", "channel", "channel_id", "x", "y", "amplitude", "snr", "std_norm"]
    if with_electrodes:
        names.append("electrode")
    present = [name for name in names if sd.N and all(name in unit for unit in sd.neuron_attributes)]
    return {
        "spike_times_ms": np.concatenate([np.empty(0), *sd.train]),
        "spike_times_index": np.cumsum([len(train) for train in sd.train], dtype=np.int64),
        "length_ms": np.float64(sd.length),
        **{name: np.asarray([unit[name] for unit in sd.neuron_attributes]) for name in present},
    }
