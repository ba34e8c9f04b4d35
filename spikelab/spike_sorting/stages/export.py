"""Export: put what the user asked for into the results folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.stages.compiled import compiled_arrays, parts_of, waveform_arrays
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.stage import StageRun, Summary
from spikelab.spike_sorting.stages.unit_figures import FOLDER, write_unit_figures

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

VERSION = 2


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that decide which files are written."""
    figures = asdict(config.figures) if config.figures.create_unit_figures else None
    return thaw({**asdict(config.compilation), "unit_figures": figures})


def run(stage: StageRun) -> Summary:
    """Write the result files; the numbers in the summary are those of the report."""
    run, options = stage.job.run, stage.job.config.compilation
    curated_folder = run.stage("curate")
    for path in (run.curated, run.curation_history):
        shutil.copyfile(curated_folder / path.name, stage.folder / path.name)
    if run.sorter_overview.is_file():
        shutil.copyfile(run.sorter_overview, stage.folder / run.overview.name)
    if run.stimulation.is_file():
        shutil.copyfile(run.stimulation, stage.folder / run.stimulation_record.name)
    if options.save_raw_pkl:
        shutil.copyfile(run.assembled, stage.folder / run.raw.name)
    if options.compile_to_npz or options.compile_to_mat:
        _compile(stage)
    if stage.job.config.figures.create_unit_figures:
        _draw_units(stage)
    marker = run.read_marker("curate") or {"summary": {}}
    return dict(marker["summary"])


def _draw_units(stage: StageRun) -> None:
    from spikelab.spikedata import SpikeData

    sd = SpikeData.load(stage.job.run.stage("curate") / stage.job.run.curated.name)
    tell = partial(stage.progress.report, "unit figures")
    write_unit_figures(sd, stage.folder / FOLDER, stage.job.config.figures, tell)


def _compile(stage: StageRun) -> None:
    import numpy as np

    config = stage.job.config
    sd, kept = _units_to_compile(stage)
    arrays = compiled_arrays(sd, kept, with_electrodes=config.compilation.save_electrodes)
    if config.compilation.compile_waveforms:
        arrays |= _waveforms(stage, sd)
    if config.compilation.compile_to_npz:
        np.savez_compressed(stage.folder / "sorted.npz", **arrays)
    if config.compilation.compile_to_mat:
        from scipy.io import savemat

        savemat(stage.folder / "sorted.mat", arrays, do_compression=True, oned_as="column")


def _units_to_compile(stage: StageRun) -> tuple[SpikeData, list[bool]]:
    """Return the units kept, then those that failed where they are asked for, and which are kept."""
    from spikelab.spikedata import SpikeData

    run = stage.job.run
    curated = SpikeData.load(run.stage("curate") / run.curated.name)
    if not stage.job.config.compilation.include_failed_units:
        return curated, [True] * curated.N
    everything = SpikeData.load(run.assembled)
    kept = {str(part) for unit in curated.neuron_attributes for part in parts_of(unit)}
    failed = [i for i, unit in enumerate(everything.neuron_attributes) if str(unit["unit_id"]) not in kept]
    both = curated.replace(
        train=[*curated.train, *(everything.train[i] for i in failed)],
        neuron_attributes=[*curated.neuron_attributes, *(everything.neuron_attributes[i] for i in failed)],
    )
    return both, [True] * curated.N + [False] * len(failed)


def _waveforms(stage: StageRun, sd: SpikeData) -> dict[str, Any]:
    from spikeinterface import load_sorting_analyzer

    run, config = stage.job.run, stage.job.config
    recording, _ = read_recording(run.recording)
    return waveform_arrays(sd, load_sorting_analyzer(run.analyzer), filtered(recording, config), config)
