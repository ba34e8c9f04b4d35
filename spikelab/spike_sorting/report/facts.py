"""Everything a page shows of a recording, gathered in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.backends.overview import Overview, read_overview
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.report.curation_steps import Step, curation_steps, thresholds
from spikelab.spike_sorting.report.plain import read_json, to_number
from spikelab.spike_sorting.report.settings_used import Change, changed_settings, config_of
from spikelab.spike_sorting.report.sorting_log import STAGES
from spikelab.spike_sorting.report.units import Unit, collect_units, load_raw
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.curve import read_curve

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData


@dataclass(frozen=True, eq=False)
class Facts:
    """What came of a recording, for people.

    Parameters
    ----------
    record : mapping
        The report for machines.
    result : RecordingResult
        The outcome in it.
    config : SortingPipelineConfig
        Settings of the run.
    config_used : mapping
        Settings and versions as they were written down.
    changes : tuple of Change
        Settings that differ from the preset.
    steps : tuple of Step
        The curation, criterion by criterion.
    thresholds : mapping of str to tuple of float
        What curation asked of each metric.
    units : tuple of Unit
        Units kept, then units removed.
    metadata : mapping
        What the sort says of the recording as a whole.
    suspicions, warnings : tuple of Remark
        What came out, and what was found on the way, that deserves a look; each once.
    overview : Overview or None
        Drift and a sample of the spikes, where the sorter told of them.
    stimulation : mapping
        What became of the artifacts of stimulation; empty without any.
    curve : tuple of dict
        Memory, processors, GPU and disk over time; empty where nothing was watched.
    """

    record: Mapping[str, Any]
    result: RecordingResult
    config: SortingPipelineConfig
    config_used: Mapping[str, Any]
    changes: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = ()
    thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    units: tuple[Unit, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    suspicions: tuple[Remark, ...] = ()
    warnings: tuple[Remark, ...] = ()
    overview: Overview | None = None
    stimulation: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[dict[str, float | None], ...] = ()

    @property
    def kept(self) -> tuple[Unit, ...]:
        """Units that passed curation."""
        return tuple(unit for unit in self.units if unit.kept)

    @property
    def removed(self) -> tuple[Unit, ...]:
        """Units that did not."""
        return tuple(unit for unit in self.units if not unit.kept)

    @property
    def recording(self) -> Mapping[str, Any]:
        """What loading told of the recording."""
        return self.record.get("recording") or {}

    @property
    def sorter(self) -> Mapping[str, Any]:
        """What sorting told of itself."""
        return self.record.get("sorter") or {}

    @property
    def log(self) -> Mapping[str, Any]:
        """What the log says."""
        return self.record.get("log") or {}

    @property
    def duration_s(self) -> float:
        """Length of what was sorted; NaN where unknown."""
        return to_number(self.recording.get("duration_s"))

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds per stage, in order of the stages."""
        timings = {name: to_number(seconds) for name, seconds in self.result.stage_timings_s.items()}
        order = {name: place for place, name in enumerate(STAGES)}
        return dict(sorted(timings.items(), key=lambda item: order.get(item[0], len(order))))


def gather(run: RunFolder, record: Mapping[str, Any], curated: SpikeData | None, problem: str = "") -> Facts:
    """Return the facts about the run that `record` tells of.

    Parameters
    ----------
    run : RunFolder
        Where settings, history and the units before curation lie, as far as they are still there.
    record : mapping
        Content of ``recording_report.json``.
    curated : SpikeData or None
        The units kept, where there are any to show.
    problem : str, default ""
        Why they are missing.
    """
    result = RecordingResult.from_dict(record)
    config_used = read_json(run.config_used)
    # The history of an earlier, successful run says nothing about this one.
    history = read_json(run.curation_history) if result.succeeded else {}
    incomplete = (remark("report-incomplete", problem),) if problem else ()
    return Facts(
        record=record,
        result=result,
        config=config_of(config_used),
        config_used=config_used,
        changes=changed_settings(config_used),
        steps=curation_steps(history),
        thresholds=thresholds(history),
        units=() if curated is None else collect_units(curated, load_raw(run, curated), history),
        metadata={} if curated is None else curated.metadata,
        suspicions=tuple(dict.fromkeys(result.suspicions)),
        warnings=tuple(dict.fromkeys((*result.warnings, *incomplete))),
        overview=None if curated is None else read_overview(run.overview),
        stimulation=read_json(run.stimulation_record) if result.succeeded else {},
        curve=tuple(read_curve(run.curve)),
    )
