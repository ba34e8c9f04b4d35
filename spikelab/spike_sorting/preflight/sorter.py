"""The sorter: a backend for it, a version of it that was tested, and parameters that fit the recording."""

from __future__ import annotations

from spikelab.spike_sorting.backends.kilosort4.parameters import check_against_recording
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import RecordingFacts
from spikelab.spike_sorting.preflight.findings import Finding, about, of_error


def check_sorter(batch: Batch) -> list[Finding]:
    """Find sorters that are missing here, or of a version that was not tested; a container brings its own."""
    configs = [job.config for job in batch.jobs if not job.config.sorter.use_docker]
    programs = {_program(config): config for config in configs}
    missing = [batch.machine.installed(config) for config in programs.values()]
    return [of_error(error) for error in missing if error is not None]


def _program(config: SortingPipelineConfig) -> tuple[str, str | None, str | None]:
    """Return what tells the program that `config` runs from others."""
    return config.sorter.sorter_name, config.sorter.sorter_path, config.rt_sort.python


def check_params_fit(facts: RecordingFacts) -> list[Finding]:
    """Find parameters of Kilosort4 that say something else of the recording than it does itself."""
    sorter, header = facts.job.config.sorter, facts.header
    if header is None or sorter.sorter_name != "kilosort4":
        return []
    try:
        check_against_recording(sorter.sorter_params, header.n_channels, header.fs_Hz)
    except ValueError as error:
        advice = "Correct the parameter, or leave it out: the recording knows."
        return [about(facts.job, "settings-misfit", "error", str(error), advice)]
    return []
