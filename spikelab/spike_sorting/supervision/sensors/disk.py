"""Free space and free inodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spikelab.spike_sorting._exceptions import DiskExhaustionError
from spikelab.spike_sorting.supervision.monitor import Level, Reading, Sensor
from spikelab.spike_sorting.supervision.sensors.common import GB, Limits, OncePerPoll, Watched

if TYPE_CHECKING:
    from spikelab.spike_sorting.config import ExecutionConfig
    from spikelab.spike_sorting.supervision.readings import DiskUse, Readings

INTER_FREE, RESULTS_FREE = "disk_free_inter_gb", "disk_free_results_gb"
"""Names of the sensors of free space."""
LARGEST_DISK_SHARE = 0.1
"""No limit on free space is above this share of the volume."""
FEWEST_INODES = (1000, 100)
"""Free inodes below which to warn and to stop, at most `LARGEST_DISK_SHARE` of all."""


def disk_sensors(execution: ExecutionConfig, watched: Watched, readings: Readings) -> list[Sensor]:
    """Return the sensors of both volumes; a volume with both folders is told of once."""
    warn, abort = execution.disk_warn_free_gb, execution.disk_abort_free_gb
    limits = Limits(warn, abort, margin=warn / 10, falling=True) if execution.disk_watchdog else None
    inter, results = _volume(readings, watched.inter_folder), _volume(readings, watched.results_folder)
    one_volume = inter is not None and results is not None and inter.volume == results.volume
    of_inter = OncePerPoll(lambda: readings.disk(watched.inter_folder))
    of_results = of_inter if one_volume else OncePerPoll(lambda: readings.disk(watched.results_folder))
    sensors: list[Sensor] = [
        DiskSpace(INTER_FREE, watched.inter_folder, limits, of_inter),
        DiskSpace(RESULTS_FREE, watched.results_folder, None if one_volume else limits, of_results),
    ]
    if limits is not None and inter is not None and inter.total_inodes:
        sensors.append(DiskInodes("inodes_free_inter", watched.inter_folder, of_inter))
    if limits is not None and results is not None and results.total_inodes and not one_volume:
        sensors.append(DiskInodes("inodes_free_results", watched.results_folder, of_results))
    return sensors


def _volume(readings: Readings, folder: Path) -> DiskUse | None:
    try:
        return readings.disk(folder)
    except OSError:
        return None


@dataclass
class DiskSpace:
    """Free space of a volume.

    Parameters
    ----------
    name : str
        Column of the curve.
    folder : Path
        Folder on it.
    limits : Limits or None
        In GB, scaled down on small volumes; None: only recorded.
    measure : callable
        Returns its volume at a time.
    """

    name: str
    folder: Path
    limits: Limits | None
    measure: Callable[[float], DiskUse]
    hold_s: float = 2.0
    falling: bool = True
    _abort_gb: float | None = field(default=None, init=False)

    def read(self, now_s: float) -> Reading:
        """Return the free space."""
        use = self.measure(now_s)
        free_gb = use.free_bytes / GB
        detail = f"{free_gb:.3g} GB of {use.total_bytes / GB:.3g} GB free on the volume of {self.folder}"
        if self.limits is None:
            return Reading(Level.OK, free_gb, detail)
        limits = scaled_limits(self.limits, use.total_bytes / GB)
        self._abort_gb = limits.abort
        level, near = limits.judge(free_gb)
        return Reading(level, free_gb, f"{detail}; {limits} GB", near)

    def error(self, reading: Reading) -> DiskExhaustionError:
        """Return the failure of a run that is stopped for this."""
        return DiskExhaustionError(
            f"the disk is nearly full: {reading.detail}",
            folder=str(self.folder),
            free_gb_at_trip=reading.value,
            abort_threshold_gb=self._abort_gb,
        )


@dataclass(frozen=True)
class DiskInodes:
    """Free inodes of a volume: without one no file can be made, however much space there is.

    Parameters
    ----------
    name : str
        Name of the sensor.
    folder : Path
        Folder on it.
    measure : callable
        Returns its volume at a time.
    """

    name: str
    folder: Path
    measure: Callable[[float], DiskUse]
    hold_s: float = 2.0
    falling: bool = True

    def read(self, now_s: float) -> Reading:
        """Return the free inodes."""
        use = self.measure(now_s)
        if use.free_inodes is None or use.total_inodes is None:
            return Reading(Level.OK, None, f"the volume of {self.folder} does not tell its inodes")
        warn, abort = FEWEST_INODES
        limits = scaled_limits(Limits(warn, abort, margin=warn / 10, falling=True), use.total_inodes)
        level, near = limits.judge(use.free_inodes)
        detail = f"{use.free_inodes} of {use.total_inodes} inodes free on the volume of {self.folder}"
        return Reading(level, use.free_inodes, f"{detail}; {limits} inodes", near)

    def error(self, reading: Reading) -> DiskExhaustionError:
        """Return the failure of a run that is stopped for this."""
        return DiskExhaustionError(
            f"the disk can hold hardly any more files: {reading.detail}", folder=str(self.folder)
        )


def scaled_limits(limits: Limits, total: float) -> Limits:
    """Return `limits` for a volume of the size `total`: both smaller by one factor where it is small."""
    factor = min(1.0, LARGEST_DISK_SHARE * total / limits.warn) if limits.warn > 0 else 1.0
    return Limits(limits.warn * factor, limits.abort * factor, limits.margin * factor, limits.falling)
