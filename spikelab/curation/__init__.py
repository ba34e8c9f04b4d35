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
from spikelab.curation.history import build_curation_history, chain_histories
from spikelab.curation.merging import curate_by_merge_duplicates
from spikelab.curation.redundancy import curate_by_redundancy
from spikelab.curation.waveform_metrics import compute_waveform_metrics

__all__ = [
    "CriterionResult",
    "build_curation_history",
    "chain_histories",
    "compute_waveform_metrics",
    "curate",
    "curate_by_firing_rate",
    "curate_by_isi_violations",
    "curate_by_merge_duplicates",
    "curate_by_min_spikes",
    "curate_by_redundancy",
    "curate_by_snr",
    "curate_by_std_norm",
]
