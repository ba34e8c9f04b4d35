"""Memory, GPU and disk of a running recording, each with its limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.report.plain import mapping, read_json, to_number
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.curve import last_row
from spikelab.spike_sorting.supervision.monitor import Level
from spikelab.spike_sorting.supervision.sensors.common import GB, Limits
from spikelab.spike_sorting.supervision.sensors.disk import scaled_limits

_LEVELS: Mapping[Level, Literal["ok", "warn", "stop"]] = {Level.OK: "ok", Level.WARN: "warn", Level.ABORT: "stop"}


@dataclass(frozen=True)
class Gauge:
    """One reading, as a bar.

    Parameters
    ----------
    name : str
        What is measured.
    value : str
        The reading in words.
    fraction : float or None
        How far the bar is filled (0-1); None: there is no bar.
    warn, stop : float or None
        Where on the bar the limits lie (0-1); None: there are none.
    limits : str
        The limits in words.
    level : {"ok", "warn", "stop"}
        On which side of them the reading is.
    """

    name: str
    value: str
    fraction: float | None = None
    warn: float | None = None
    stop: float | None = None
    limits: str = ""
    level: Literal["ok", "warn", "stop"] = "ok"


def read_gauges(run: RunFolder) -> list[Gauge]:
    """Return the gauges of a run, from the last row of its resource curve."""
    row = last_row(run.curve)
    settings = mapping(mapping(read_json(run.config_used).get("config")).get("execution"))
    return [*_memory(row, settings), *_gpu(row, settings), *_disk(run, row, settings)] if row else []


def _memory(row: Mapping[str, float | None], settings: Mapping[str, Any]) -> Iterator[Gauge]:
    used, own, cores = row.get("host_ram_pct"), row.get("run_ram_gb"), row.get("run_cpu_cores")
    if used is not None:
        here = "" if own is None else f", {own:.3g} GB here"
        limits = _percent(settings, "host_ram", "host_ram_watchdog")
        yield _gauge("memory", f"{used:.0f} %{here}", used, 100, limits, "%")
    if cores is not None:
        yield Gauge("processor", f"{cores:.1f} cores here")


def _gpu(row: Mapping[str, float | None], settings: Mapping[str, Any]) -> Iterator[Gauge]:
    used, own = row.get("gpu_used_pct"), row.get("gpu_own_gb")
    if used is not None:
        here = "" if own is None else f", {own:.3g} GB here"
        yield _gauge("GPU memory", f"{used:.0f} %{here}", used, 100, _percent(settings, "gpu", "gpu_watchdog"), "%")
    heat = row.get("gpu_temp_c")
    if heat is not None:
        warn, stop = _setting(settings, "gpu_warn_temp_c"), _setting(settings, "gpu_abort_temp_c")
        limits = Limits(warn, stop, margin=3.0)
        yield _gauge("GPU temperature", f"{heat:.0f} °C", heat, max(100.0, stop), limits, "°C")
    busy = row.get("gpu_util_pct")
    if busy is not None:
        yield Gauge("GPU at work", f"{busy:.0f} % of the time", busy / 100)


def _disk(run: RunFolder, row: Mapping[str, float | None], settings: Mapping[str, Any]) -> Iterator[Gauge]:
    inter, results = row.get("disk_free_inter_gb"), row.get("disk_free_results_gb")
    one_volume = inter is not None and results is not None and abs(inter - results) < 0.01 * inter
    volumes = [("free disk" if one_volume else "free disk, intermediate files", inter, run.inter)]
    volumes += [] if one_volume else [("free disk, results", results, run.results)]
    for name, free, folder in volumes:
        if free is not None:
            total = shutil.disk_usage(folder).total / GB
            warn, stop = _setting(settings, "disk_warn_free_gb"), _setting(settings, "disk_abort_free_gb")
            limits = scaled_limits(Limits(warn, stop, margin=0.0, falling=True), total)
            watched = limits if settings.get("disk_watchdog", True) else None
            yield _gauge(name, f"{free:.3g} of {total:.3g} GB", free, total, watched, "GB")


def _percent(settings: Mapping[str, Any], what: str, switch: str) -> Limits | None:
    if not settings.get(switch, True):
        return None
    return Limits(_setting(settings, f"{what}_warn_pct"), _setting(settings, f"{what}_abort_pct"), margin=0.0)


def _setting(settings: Mapping[str, Any], name: str) -> float:
    """Return a setting of the run, or its default where a run of another version does not have it."""
    return to_number(settings.get(name, getattr(ExecutionConfig(), name)))


def _gauge(name: str, value: str, reading: float, whole: float, limits: Limits | None, unit: str) -> Gauge:
    filled = _share(reading, whole)
    if limits is None:
        return Gauge(name, value, filled)
    level, _ = limits.judge(reading)
    words = f"{limits} {unit}"
    return Gauge(name, value, filled, _share(limits.warn, whole), _share(limits.abort, whole), words, _LEVELS[level])


def _share(value: float, whole: float) -> float | None:
    return round(min(1.0, max(0.0, value / whole)), 4) if whole > 0 else None
