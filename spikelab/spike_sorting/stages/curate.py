"""Curate: decide which units stay, in two stages, and write down why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.config import CurationConfig, SortingPipelineConfig
from spikelab.spike_sorting.stages.stage import StageRun, Summary
from spikelab.spike_sorting.supervision.publish import publish_json

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

VERSION = 5

Step = Callable[["SpikeData"], "tuple[SpikeData, dict[str, Any]]"]


def settings(config: SortingPipelineConfig) -> Any:
    """Return all settings of curation."""
    from dataclasses import asdict

    return thaw(asdict(config.curation))


def run(stage: StageRun) -> Summary:
    """Write the curated SpikeData and the history."""
    from spikelab.spikedata import SpikeData

    sd_raw = SpikeData.load(stage.job.run.assembled)
    sd_curated, history = curate_in_stages(sd_raw, stage.job.config.curation)
    sd_curated.save(stage.folder / stage.job.run.curated.name)
    publish_json(stage.folder / stage.job.run.curation_history.name, history)
    return {"n_units": sd_raw.N, "n_curated_units": sd_curated.N, "n_spikes": sum(map(len, sd_curated.train))}


def curate_in_stages(sd_raw: SpikeData, options: CurationConfig) -> tuple[SpikeData, dict[str, Any]]:
    """Return the units that pass all stages, and one history of them.

    The first stage (spikes, rate, refractory period) is about the train alone. Units that are one neuron merge after
    it, when that is asked for: before the second stage (spikes, SNR, spread), which is about the waveform and needs
    more spikes to be trusted. The last one takes away units that are what a larger unit left behind: only a unit that
    stays itself can be the larger one. Who wants no curation gets none.
    """
    from spikelab.curation import chain_histories

    steps: list[Step] = [partial(_judged, criteria=_first_criteria(options) if options.curate_first else {})]
    if options.merge_duplicates:
        steps.append(_merged)
    steps.append(partial(_judged, criteria=_second_criteria(options) if options.curate_second else {}))
    if options.redundancy_max is not None and (options.curate_first or options.curate_second):
        steps.append(partial(_without_redundant, redundancy_max=options.redundancy_max))
    sd, history = steps[0](sd_raw)
    for step in steps[1:]:
        sd, added = step(sd)
        history = chain_histories(history, added)
    return sd, history


def _first_criteria(options: CurationConfig) -> dict[str, Any]:
    return {
        "min_spikes": options.spikes_min_first,
        "min_rate_hz": options.fr_min,
        "isi_max": options.isi_viol_max,
        "isi_method": options.isi_violation_method,
        "epoch": options.curation_epoch,
    }


def _second_criteria(options: CurationConfig) -> dict[str, Any]:
    return {
        "min_spikes": options.spikes_min_second,
        "min_snr": options.snr_min,
        "max_std_norm": options.std_norm_max,
        "epoch": options.curation_epoch,
    }


def _judged(sd: SpikeData, criteria: dict[str, Any]) -> tuple[SpikeData, dict[str, Any]]:
    sd_curated, results = sd.curate(**criteria)
    return sd_curated, _history(sd, sd_curated, results, criteria)


def _merged(sd: SpikeData) -> tuple[SpikeData, dict[str, Any]]:
    sd_merged, result = sd.curate_by_merge_duplicates()
    return sd_merged, _history(sd, sd_merged, {"merge_duplicates": result}, {"merge_duplicates": True})


def _without_redundant(sd: SpikeData, redundancy_max: float) -> tuple[SpikeData, dict[str, Any]]:
    sd_curated, result = sd.curate_by_redundancy(redundancy_max)
    return sd_curated, _history(sd, sd_curated, {"redundancy": result}, {"max_redundancy": redundancy_max})


def _history(sd: SpikeData, sd_curated: SpikeData, results: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    return sd.build_curation_history(sd_original=sd, sd_curated=sd_curated, results=results, parameters=parameters)
