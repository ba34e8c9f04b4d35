"""How long the stages of a sort take, by few coefficients for each sorter, from our benchmarks.

The table in ``docs/estimates.md`` says where each comes from. They are those of one machine: how much faster or slower
another one is shows in its former runs, see `history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikelab.spike_sorting.costs import Workload

SORT, WAVEFORMS, OTHER = "sort", "waveforms", "other"


@dataclass(frozen=True)
class Coefficients:
    """What a stage takes.

    Parameters
    ----------
    start_s : float
        However short the recording is (s).
    per_gigasample_s : float
        For 10^9 samples of all channels (s).
    per_megaspike_s : float
        For 10^6 spikes (s).
    per_hour_s : float
        For an hour of recording, however few channels it has (s).
    """

    start_s: float
    per_gigasample_s: float
    per_megaspike_s: float = 0.0
    per_hour_s: float = 0.0

    def seconds(self, work: Workload) -> float:
        """Return what the stage takes (s)."""
        return (
            self.start_s
            + self.per_gigasample_s * work.gigasamples
            + self.per_megaspike_s * work.megaspikes
            + self.per_hour_s * work.duration_s / 3600
        )


@dataclass(frozen=True)
class SorterModel:
    """What a sorter takes, and how far off that may be on a machine without former runs.

    Parameters
    ----------
    sort : Coefficients
        Of the stage that sorts.
    log_spread : float
        Standard deviation of the logarithm of what it takes, over machines: 0.7 is a factor of two.
    drift_share : float
        What estimating drift adds to the part that grows with the samples, as a share of it.
    """

    sort: Coefficients
    log_spread: float
    drift_share: float = 0.0

    def seconds(self, work: Workload) -> float:
        """Return what sorting takes (s)."""
        drift_s = self.drift_share * self.sort.per_gigasample_s * work.gigasamples if work.tracks_drift else 0.0
        return self.sort.seconds(work) + drift_s


MODELS: Mapping[tuple[str, str], SorterModel] = MappingProxyType(
    {
        ("kilosort4", "cpu"): SorterModel(Coefficients(5.0, 125.0, 120.0, 25.0), 0.5, drift_share=0.6),
        ("kilosort4", "cuda"): SorterModel(Coefficients(8.0, 40.0, 60.0, 60.0), 0.8, drift_share=0.6),
        ("kilosort2", "cuda"): SorterModel(Coefficients(40.0, 80.0, 60.0), 0.8),
        ("rt_sort", "cpu"): SorterModel(Coefficients(20.0, 400.0), 1.0),
        ("rt_sort", "cuda"): SorterModel(Coefficients(20.0, 60.0), 1.0),
    }
)
UNKNOWN = SorterModel(Coefficients(5.0, 100.0), 1.5)
"""Of a sorter without figures: hardly more than an order of magnitude, until it has sorted here."""
_WAVEFORMS = Coefficients(5.0, 45.0, 100.0)
_OTHER = Coefficients(10.0, 4.0, 20.0)
"""Workers, imports, checks, loading, curation and the report."""


def model_of(work: Workload) -> SorterModel:
    """Return the coefficients of the sorter on its device."""
    return MODELS.get((work.sorter, work.device), UNKNOWN)


def stage_seconds(work: Workload) -> dict[str, float]:
    """Return what each stage takes (s) on the machine of our benchmarks: "sort", "waveforms", and "other".

    Examples
    --------
    >>> work = Workload("kilosort4", "cpu", 64, 20_000.0, 120.0, 100.0, tracks_drift=False)
    >>> {stage: round(seconds) for stage, seconds in stage_seconds(work).items()}
    {'sort': 26, 'waveforms': 13, 'other': 11}
    """
    return {SORT: model_of(work).seconds(work), WAVEFORMS: _WAVEFORMS.seconds(work), OTHER: _OTHER.seconds(work)}
