"""RT-Sort: whether its interpreter can import it and load the detection model, and whether its window fits."""

from __future__ import annotations

from spikelab.spike_sorting.backends.rt_sort.launch import window_samples
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import RecordingFacts
from spikelab.spike_sorting.preflight.findings import Finding, about, of_error


def check_rt_sort(batch: Batch) -> list[Finding]:
    """Find an RT-Sort that cannot be imported and a model that cannot be loaded, each asked for once."""
    configs = {_asked(job.config): job.config for job in batch.jobs if job.config.sorter.sorter_name == "rt_sort"}
    failures = [batch.machine.rt_sort(config) for config in configs.values()]
    return [of_error(error) for error in failures if error is not None]


def check_window(facts: RecordingFacts) -> list[Finding]:
    """Find a window of RT-Sort that begins after the end of the recording."""
    config, header = facts.job.config, facts.header
    if header is None or config.sorter.sorter_name != "rt_sort":
        return []
    try:
        window_samples(config.rt_sort, header.n_samples, header.fs_Hz)
    except ValueError as error:
        advice = "Correct the window, or leave it out to sort the whole recording."
        return [about(facts.job, "settings-misfit", "error", str(error), advice)]
    return []


def _asked(config: SortingPipelineConfig) -> tuple[object, ...]:
    options = config.rt_sort
    named = options.python, options.model_path, options.probe, options.device, *sorted(options.params)
    return config.sorter.use_docker, *named
