"""Which units stay: functions ``SpikeData -> (SpikeData, result)`` that never change what they are given."""

from spikelab.curation._result import CriterionResult
from spikelab.curation.criteria import (
    curate_by_firing_rate,
    curate_by_isi_violations,
    curate_by_min_spikes,
    curate_by_snr,
    curate_by_std_norm,
)
from spikelab.curation.curate import curate
from spikelab.curation.epochs import compute_epoch_attributes, curate_by_epoch_presence
from spikelab.curation.history import apply_curation, build_curation_history, chain_histories
from spikelab.curation.merging import Merge, MergeResult, curate_by_merge_duplicates
from spikelab.curation.presets import bombcell_labels
from spikelab.curation.quality_metrics import compute_quality_metrics
from spikelab.curation.redundancy import curate_by_redundancy
from spikelab.curation.summary import curation_summary
from spikelab.curation.waveform_metrics import compute_waveform_metrics

__all__ = [
    "CriterionResult",
    "Merge",
    "MergeResult",
    "apply_curation",
    "bombcell_labels",
    "build_curation_history",
    "chain_histories",
    "compute_epoch_attributes",
    "compute_quality_metrics",
    "compute_waveform_metrics",
    "curate",
    "curate_by_epoch_presence",
    "curate_by_firing_rate",
    "curate_by_isi_violations",
    "curate_by_merge_duplicates",
    "curate_by_min_spikes",
    "curate_by_redundancy",
    "curate_by_snr",
    "curate_by_std_norm",
    "curation_summary",
]
