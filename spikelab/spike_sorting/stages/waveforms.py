"""Waveforms: templates, noise, amplitudes, locations and quality metrics by SpikeInterface's analyzer."""

from __future__ import annotations

import io
from typing import Any

from spikelab.spike_sorting._exceptions import InsufficientActivityError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.base import Sorting
from spikelab.spike_sorting.backends.binary import job_kwargs
from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.sort import read_spikes
from spikelab.spike_sorting.stages.stage import StageRun, Summary

VERSION = 1

UNFILTERED = "unfiltered_templates.npy"
"""Average waveforms before the band-pass, which takes a tenth or more of a spike's amplitude."""

METRICS = (
    "num_spikes",
    "firing_rate",
    "presence_ratio",
    "amplitude_cutoff",
    "rp_violation",
)
"""Quality metrics of SpikeInterface that every unit carries, besides SNR, ISI and std_norm, which are ours."""


def settings(config: SortingPipelineConfig) -> Any:
    """Return the settings that change templates and metrics."""
    names = ("ms_before", "ms_after", "max_waveforms_per_unit", "save_waveform_files")
    waveform = {name: getattr(config.waveform, name) for name in names}
    band = [config.recording.freq_min, config.recording.freq_max]
    return thaw({"waveform": waveform, "band": band, "seed": config.execution.random_seed})


def run(stage: StageRun) -> Summary:
    """Write the analyzer of the filtered recording, without a copy of its traces."""
    import numpy as np

    config, folder = stage.job.config, stage.job.run
    recording, _ = read_recording(folder.recording)
    spikes = read_spikes(folder.stage("sort"))
    if spikes.unit_ids.size == 0:
        msg = "the sorter found no unit"
        raise InsufficientActivityError(msg, sorter=config.sorter.sorter_name, units_at_failure=0)
    analyzer = _new_analyzer(stage, filtered(recording, config), spikes)
    wanted = extensions(config)
    for number, (extension, options) in enumerate(wanted.items()):
        stage.progress.report(extension, number / len(wanted))
        analyzer.compute({extension: options}, **job_kwargs(config.execution, recording))
    stage.progress.report("unfiltered templates", 1.0)
    templates = io.BytesIO()
    np.save(templates, unfiltered_templates(recording, analyzer, config))
    # Unlike np.save, Python's own write tells when the end of a file did not reach a full disk.
    (stage.folder / UNFILTERED).write_bytes(templates.getbuffer())
    return {"n_units": int(spikes.unit_ids.size), "extensions": list(wanted)}


def extensions(config: SortingPipelineConfig) -> dict[str, dict[str, Any]]:
    """Return what is computed, in order of dependence, with its options."""
    waveform = config.waveform
    window = {"ms_before": waveform.ms_before, "ms_after": waveform.ms_after}
    seed = config.execution.random_seed
    kept = {"waveforms": window} if waveform.save_waveform_files else {}
    return {
        "random_spikes": {"max_spikes_per_unit": waveform.max_waveforms_per_unit, "seed": seed},
        "noise_levels": {"random_slices_kwargs": {"seed": seed}},
        **kept,
        "templates": {"operators": ["average", "std"], **window},
        "spike_amplitudes": {},
        "unit_locations": {"method": "center_of_mass"},
        "quality_metrics": {"metric_names": list(METRICS), "skip_pc_metrics": True},
    }


def unfiltered_templates(recording: Any, analyzer: Any, config: SortingPipelineConfig) -> Any:
    """Return average waveforms of the same spikes without the band-pass, (units, samples, channels), uV."""
    from spikeinterface.core import estimate_templates
    from spikeinterface.preprocessing import scale_to_uV

    templates = analyzer.get_extension("templates")
    return estimate_templates(
        scale_to_uV(recording),
        analyzer.get_extension("random_spikes").get_random_spikes(),
        analyzer.unit_ids,
        templates.nbefore,
        templates.nafter,
        return_in_uV=False,
        **job_kwargs(config.execution, recording),
    )


def _new_analyzer(stage: StageRun, recording: Any, spikes: Sorting) -> Any:
    from spikeinterface.core import create_sorting_analyzer

    return create_sorting_analyzer(
        _to_numpy_sorting(spikes, recording.sampling_frequency),
        recording,
        format="binary_folder",
        folder=stage.folder / stage.job.run.analyzer.name,
        sparse=False,
        return_in_uV=True,
        seed=stage.job.config.execution.random_seed,
        job_kwargs=job_kwargs(stage.job.config.execution, recording),
    )


def _to_numpy_sorting(spikes: Sorting, fs_Hz: float) -> Any:
    from spikeinterface.core import NumpySorting

    labels = spikes.unit_ids[spikes.units]
    return NumpySorting.from_samples_and_labels([spikes.samples], [labels], fs_Hz, unit_ids=spikes.unit_ids)
