"""Review: look at what came out, and say what deserves a second look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.samples.glance import glance_at
from spikelab.spike_sorting.stages.load import read_recording
from spikelab.spike_sorting.stages.stage import StageRun, Summary
from spikelab.spike_sorting.suspicions.evidence import Evidence
from spikelab.spike_sorting.suspicions.registry import suspicions_of
from spikelab.spike_sorting.suspicions.signal import crossings_in

if TYPE_CHECKING:
    from spikelab.spike_sorting.run_folder import RunFolder

VERSION = 1


def settings(config: SortingPipelineConfig) -> Any:
    """Return the band in which crossings are looked for."""
    return [config.recording.freq_min, config.recording.freq_max]


def run(stage: StageRun) -> Summary:
    """Write nothing; the summary has the suspicions."""
    evidence = evidence_of(stage.job.run, stage.job.config)
    return {"suspicions": [one.to_dict() for one in suspicions_of(evidence)]}


def evidence_of(run: RunFolder, config: SortingPipelineConfig) -> Evidence:
    """Return what there is to judge of a sort whose curation is done."""
    from spikelab.spikedata import SpikeData

    recording, _ = read_recording(run.recording)
    loaded, sorted_ = (run.read_marker(name) or {"summary": {}} for name in ("load", "sort"))
    warned = {warning["code"] for warning in loaded["summary"].get("warnings", ())}
    return Evidence(
        found=SpikeData.load(run.assembled),
        kept=SpikeData.load(run.stage("curate") / run.curated.name),
        n_channels=int(recording.get_num_channels()),
        batch_samples=sorted_["summary"].get("batch_samples"),
        gain_is_known="no-gain" not in warned,
        crossings=crossings_in(glance_at(filtered(recording, config))),
    )
