"""What a sort is expected to take, as values: ranges, what they were judged by, and how long each stage takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from spikelab.spike_sorting._settings import FrozenMap


@dataclass(frozen=True)
class Range:
    """An estimate with its uncertainty.

    Parameters
    ----------
    low, high : float
        Between these it is expected four times out of five.
    likely : float
        The best guess.

    Examples
    --------
    >>> Range(480.0, 720.0, 1080.0).as_time()
    '12 min (8 to 18)'
    """

    low: float
    likely: float
    high: float

    def as_time(self) -> str:
        """Return a range of seconds for people: "12 min (8 to 18)", all in the unit of the best guess."""
        unit, size = next(((unit, size) for unit, size in _UNITS_OF_TIME if self.likely >= size), ("s", 1.0))
        low, likely, high = (_rounded(value / size) for value in (self.low, self.likely, self.high))
        return f"{likely} {unit} ({low} to {high})"

    def as_size(self) -> str:
        """Return a range of gigabytes for people: "12 GB (8 to 18)"; one number where it is known."""
        low, likely, high = map(_rounded, (self.low, self.likely, self.high))
        return f"{likely} GB" if low == high else f"{likely} GB ({low} to {high})"


_UNITS_OF_TIME = (("h", 3600.0), ("min", 60.0))


def _rounded(value: float) -> str:
    """Return `value` with as many digits as an estimate has: two."""
    digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
    return f"{round(value, digits):g}"


@dataclass(frozen=True)
class Workload:
    """What decides how much work a sort is.

    Parameters
    ----------
    sorter : str
        The sorter.
    device : {"cpu", "cuda"}
        What it computes on.
    n_channels : int
        Channels that are sorted.
    fs_Hz : float
        Sampling rate.
    duration_s : float
        Length of what is sorted (s).
    spikes_Hz : float
        Spikes a second that are expected, of all channels together.
    tracks_drift : bool
        Whether the sorter estimates drift first, for which Kilosort4 detects spikes once more.
    n_parallel : int, default 1
        Recordings in flight at once, which share the machine.
    """

    sorter: str
    device: str
    n_channels: int
    fs_Hz: float
    duration_s: float
    spikes_Hz: float
    tracks_drift: bool
    n_parallel: int = 1

    @property
    def gigasamples(self) -> float:
        """Samples of all channels (10^9)."""
        return self.n_channels * self.fs_Hz * self.duration_s / 1e9

    @property
    def megaspikes(self) -> float:
        """Spikes that are expected (10^6)."""
        return self.spikes_Hz * self.duration_s / 1e6


@dataclass(frozen=True)
class Estimate:
    """What a sort is expected to take on this machine.

    Parameters
    ----------
    name : str
        The recording.
    results_folder : str
        Where its results go.
    workload : Workload
        What decides how much work it is.
    crossings_Hz : float or None
        How often a channel falls below five times its noise, a second; None where nothing could be measured.
    probe_s : float
        Seconds in which that was counted.
    wall_time_s : Range
        Time from the call to the report (s).
    stages_s : mapping of str to float
        The best guess for each stage that takes long (s); "other" is all else.
    disk_inter_gb, disk_results_gb : Range
        Most in the intermediate folder at one time, and what stays in the results folder (GB).
    ram_gb : Range
        Memory of the sort (GB).
    vram_gb : Range or None
        Memory on a GPU (GB); None where it computes on the CPU.
    n_former_runs : int
        Sorts on this machine that the times were corrected by; 0 means benchmarks of another machine alone.
    """

    name: str
    results_folder: str
    workload: Workload
    crossings_Hz: float | None
    probe_s: float
    wall_time_s: Range
    stages_s: Mapping[str, float]
    disk_inter_gb: Range
    disk_results_gb: Range
    ram_gb: Range
    vram_gb: Range | None
    n_former_runs: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages_s", FrozenMap(self.stages_s))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = asdict(replace(self, stages_s={}))
        return {**plain, "stages_s": dict(self.stages_s)}
