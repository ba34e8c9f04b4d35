"""What the journal of a run says of its last run: where it is, what was tried again, what deserves a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spikelab.cli.output import seconds_text
from spikelab.spike_sorting.remarks import sentence
from spikelab.spike_sorting.report.plain import finite, mapping
from spikelab.spike_sorting.report.sorting_log import STAGES

Event = Mapping[str, Any]

_FIRST_STAGES: Mapping[str, str] = {"prepare": "load", "finish": "waveforms"}
"""Of phases: a worker that has not begun yet has no stage."""
_COLLAPSED = "throughput_collapsed"


def of_last_run(events: Sequence[Event], held_since: str | None) -> list[Event]:
    """Return the events of the last run; none where one has the folder since `held_since` and has told nothing yet."""
    begun = [number for number, event in enumerate(events) if event.get("event") == "run_started"]
    last = list(events[begun[-1] :]) if begun else list(events)
    return [] if last and str(last[0].get("time", "")) < (held_since or "") else last


def stage_track(current: str | None, now: str) -> tuple[tuple[str, str], ...]:
    """Return each stage of a sort with where it stands, `now` for the current one."""
    current = _FIRST_STAGES.get(current or "", current)
    if current not in STAGES:
        return tuple((name, "todo") for name in STAGES)
    position = STAGES.index(current)
    return tuple((name, "done" if k < position else now if k == position else "todo") for k, name in enumerate(STAGES))


def stage_by_events(events: Sequence[Event]) -> str:
    """Return the stage in which a run is that has not reported progress yet; empty at its beginning."""
    told = [event for event in events if event.get("event") in {"stage_started", "stage_finished"}]
    if not told:
        return ""
    stage = str(told[-1].get("stage") or "")
    if told[-1]["event"] == "stage_started" or stage not in STAGES[:-1]:
        return stage
    return STAGES[STAGES.index(stage) + 1]


def awaited(events: Sequence[Event]) -> tuple[str, str] | None:
    """Return the phase that cannot begin yet and what it waits for; None where nothing waits."""
    told = [event for event in events if event.get("event") in {"waiting", "worker_started", "worker_ended"}]
    if not told or told[-1]["event"] != "waiting":
        return None
    return str(told[-1].get("phase") or ""), str(told[-1].get("reason") or "waiting")


def attempt_of(events: Sequence[Event]) -> int:
    """Return which attempt at its phase the last worker is."""
    phases = [event.get("phase") for event in events if event.get("event") == "worker_started"]
    return max(1, phases.count(phases[-1])) if phases else 1


def changes_in(events: Sequence[Event]) -> tuple[str, ...]:
    """Return what was tried again with which settings, and why."""
    retries = (event for event in events if event.get("event") == "retry")
    return tuple(sentence(str(event.get("remark") or "tried again")) for event in retries)


def estimated_s(events: Sequence[Event]) -> float | None:
    """Return what the run was expected to take before it began (s), more by what stages fell behind; None: unknown."""
    estimates = [event for event in events if event.get("event") == "estimated"]
    likely = finite(mapping(estimates[-1].get("wall_time_s")).get("likely")) if estimates else None
    if likely is None:
        return None
    # A stage that falls further behind is told of again.
    late = {event.get("stage"): event for event in events if event.get("event") == _COLLAPSED}
    return likely + sum(_more_s(event) for event in late.values())


def sort_frac(events: Sequence[Event]) -> float | None:
    """Return which share of the time that was expected is that of the sort itself; None: unknown."""
    estimates = [event for event in events if event.get("event") == "estimated"]
    return share_of_sort(estimates[-1].get("stages_s")) if estimates else None


def share_of_sort(stages_s: Any) -> float | None:
    """Return which share of these times, by stage, is that of the sort; None where they do not tell."""
    times = {name: finite(seconds) or 0.0 for name, seconds in mapping(stages_s).items()}
    whole = sum(times.values())
    return times.get("sort", 0.0) / whole if whole > 0 else None


def _more_s(event: Event) -> float:
    return max(0.0, (finite(event.get("expected_s")) or 0.0) - (finite(event.get("estimated_s")) or 0.0))


def told_by_watch(events: Sequence[Event]) -> Iterator[str]:
    """Return what the watch has to tell and has not taken back."""
    told: dict[str, str] = {}
    for number, event in enumerate(events):
        name, sensor = event.get("event"), f"sensor {event.get('sensor')}"
        if name == "watch" and event.get("kind") == "cleared":
            told.pop(sensor, None)
        elif name == "watch":
            told[sensor] = sentence(str(event.get("detail") or sensor))
        elif name == "stopping":
            told[f"{number}"] = f"Stopping the worker: {event.get('detail') or event.get('reason')}"
        elif name == "gpu_set_aside":
            told[f"{number}"] = f"GPU {event.get('gpu')} is not used any more: {event.get('reason')}"
        elif name == _COLLAPSED:
            told[f"{name} {event.get('stage')}"] = _slow(event)
    return iter(told.values())


def _slow(event: Event) -> str:
    expected_s, estimate_s = finite(event.get("expected_s")) or 0.0, finite(event.get("estimated_s")) or 0.0
    return (
        f"Stage {event.get('stage')} takes at least {seconds_text(expected_s)} at its pace; "
        f"{seconds_text(estimate_s)} were estimated. Look what else the machine does, and at its GPU and disks."
    )
