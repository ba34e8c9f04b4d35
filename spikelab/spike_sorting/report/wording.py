"""How a report speaks: numbers, durations, the verdict, and the rows of its tables; the same in every format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from spikelab.spike_sorting.costs import Range
from spikelab.spike_sorting.outcome import INTERRUPTED, SKIPPED, RecordingResult
from spikelab.spike_sorting.report.facts import Facts
from spikelab.spike_sorting.report.metrics import METRICS
from spikelab.spike_sorting.report.plain import mapping, to_number
from spikelab.spike_sorting.report.settings_used import value_text

UNKNOWN = "\N{EN DASH}"
Rows = list[tuple[str, ...]]


def number(value: Any, unit: str = "") -> str:
    """Return `value` as a person writes it, with three significant digits; counts are written in full."""
    known = to_number(value)
    if math.isnan(known):
        return UNKNOWN
    is_whole = math.isinf(known) or known == round(known) or abs(known) >= 1000
    text = f"{known:,.0f}" if is_whole else f"{float(f'{known:.3g}'):g}"
    return f"{text} {unit}".rstrip()


def decimal(value: float, digits: int) -> str:
    """Return `value` with so many decimals, as in a column of numbers."""
    return UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"


def total_s(result: RecordingResult) -> float:
    """Return the time that the result took, over all calls that had a part in it (s)."""
    return max(result.wall_time_s, sum(result.stage_timings_s.values()))


def time_text(result: RecordingResult) -> str:
    """Return what the result took, beside what it was estimated to take."""
    took, estimated = duration(total_s(result)), mapping(result.estimated_s)
    low, likely, high = (to_number(estimated.get(key)) for key in ("low", "likely", "high"))
    if not all(map(math.isfinite, (low, likely, high))):
        return took
    return f"{took}; estimated before it began: {Range(low, likely, high).as_time()}"


def duration(seconds: Any) -> str:
    """Return a number of seconds as "1 h 05 min", "3 min 20 s" or "4.2 s"."""
    known = to_number(seconds)
    if not math.isfinite(known):
        return UNKNOWN
    if known < 60:
        return f"{known:.3g} s"
    minutes, rest = divmod(round(known), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def count(value: int | None, noun: str) -> str:
    """Return "1 unit" or "2 units"."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


# ----------------------------------------------------------------------------------------------- the verdict


def verdict(facts: Facts) -> str:
    """Return in one line what came of the recording."""
    return verdict_of(facts.result)


def verdict_of(result: RecordingResult) -> str:
    """Return in one line what came of a recording."""
    where = f" in stage {result.stage}" if result.stage else ""
    if result.succeeded:
        return f"Sorted{_harvest(result)}"
    if result.status == INTERRUPTED:
        return f"Interrupted{where}"
    if result.status == SKIPPED:
        return "Skipped"
    return f"Failed{where}: {result.error_class or result.status}"


def _harvest(result: RecordingResult) -> str:
    found, kept = result.n_units, result.n_curated_units
    if found is None or kept is None:
        return ""
    return f": {count(found, 'unit')} found, {number(kept) if kept else 'none'} kept"


def explanation(facts: Facts) -> str:
    """Return the sentence under the verdict."""
    result = facts.result
    if not result.succeeded:
        return result.error_message or ""
    if result.n_curated_units == 0 and facts.steps:
        worst = max(facts.steps, key=lambda step: step.n_failed)
        return f"No unit passed every criterion; most failed {worst.criterion} ({worst.threshold or 'curation'})."
    spikes = f"{number(result.n_spikes)} spikes of units kept" if result.n_spikes is not None else "Done"
    return f"{spikes}, {duration(total_s(result))} with {sorter(facts)}."


def sorter(facts: Facts) -> str:
    """Return the sorter with its version, and the image that it ran in."""
    name = facts.sorter.get("name") or facts.config.sorter.sorter_name
    version, image = facts.sorter.get("version"), facts.sorter.get("image")
    place = f"in {image['name']}@{image['digest']}" if image else None
    if place is not None and str(version).startswith("in "):
        version = None
    return " ".join(str(part) for part in (name, version, place) if part)


def drift_sentence(facts: Facts) -> str:
    """Return what the sorter has found of drift; empty where it tells nothing of it."""
    overview = facts.overview
    if overview is None:
        return ""
    if not overview.drift_um.size:
        return "Drift was not estimated (nblocks = 0)."
    depths = count(len(overview.drift_depth_um), "depth")
    return f"Drift was estimated at {depths}; it ranges over {number(_spread(overview.drift_um), 'µm')}."


def _spread(values: Any) -> float:
    import numpy as np

    return float(np.nanmax(values) - np.nanmin(values))


# ------------------------------------------------------------------------------------------------ the tables


def fact_rows(facts: Facts) -> Rows:
    """Return what is known of recording and run: (what, value)."""
    return [row for row in (*_recording_rows(facts), *_run_rows(facts)) if row[1] not in {"", UNKNOWN}]


def _recording_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    recording = facts.recording
    yield "Recording", facts.result.rec_name
    yield "Source", facts.result.rec_path
    yield "Duration", duration(facts.duration_s)
    yield "Channels", number(recording.get("n_channels"))
    yield "Sampling rate", number(recording.get("fs_Hz"), "Hz")
    yield "Data type", str(recording.get("dtype") or "")


def _run_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    result, record = facts.result, facts.record
    yield "Sorter", sorter(facts)
    yield "Functions of ours in it", _ours_in_sorter(facts)
    yield "Drift", drift_sentence(facts)
    yield "Time taken", time_text(result)
    yield "Retries", number(result.retries_used) if result.retries_used else ""
    yield "Peak memory", number(result.peak_host_ram_pct, "%")
    yield "Peak GPU memory", number(result.peak_gpu_used_pct, "%")
    yield "Least free disk", number(result.min_disk_free_gb, "GB")
    yield "Results", result.results_folder
    yield "Log", result.log_path or ""
    yield (
        "Written",
        f"{str(record.get('generated_at') or '')[:19].replace('T', ' ')} UTC by spikelab {record.get('spikelab')}",
    )
    yield "Python", str(facts.config_used.get("python") or "")
    packages = mapping(facts.config_used.get("packages"))
    yield "Packages", ", ".join(f"{name} {version}" for name, version in packages.items())


def _ours_in_sorter(facts: Facts) -> str:
    """Return the functions of the sorter in whose place ours ran; nothing for a sorter that has none."""
    names = facts.sorter.get("accelerated")
    return "" if names is None else ", ".join(map(str, names)) or "none"


def quality_rows(facts: Facts) -> Rows:
    """Return statistics of the units kept: (what, median, quartiles, range)."""
    quality = mapping(facts.record.get("quality"))
    rows: Rows = []
    for metric in METRICS:
        spread = mapping(quality.get(metric.name))
        if spread.get("n"):
            low, q25, median, q75, high = (number(spread.get(key)) for key in ("min", "q25", "median", "q75", "max"))
            rows.append((metric.title, median, f"{q25} to {q75}", f"{low} to {high}"))
    return rows


def recommended_rows(facts: Facts) -> Rows:
    """Return the settings that were chosen for this recording: (setting, value, why)."""
    chosen = map(mapping, facts.sorter.get("recommended") or ())
    return [(str(one.get("name")), value_text(one.get("value")), str(one.get("reason") or "")) for one in chosen]


def attempt_rows(facts: Facts) -> Rows:
    """Return the worker processes: (phase and GPU, how it ended, time, status)."""
    return [
        (f"{a.phase} on {a.gpu}" if a.gpu else a.phase, a.exit_name, duration(a.wall_time_s), a.status)
        for a in facts.result.attempts
    ]


def log_tail(facts: Facts) -> str:
    """Return the last lines of the log."""
    return "\n".join(str(line) for line in facts.log.get("last_lines") or ())


def log_warnings(facts: Facts) -> list[str]:
    """Return warnings and errors of the log, each once."""
    lines = [*(facts.log.get("warnings") or ()), *(facts.log.get("errors") or ())]
    return list(dict.fromkeys(str(line) for line in lines))
