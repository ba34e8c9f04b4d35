"""The report for machines: everything that the pages need and the results folder has nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelab import __version__
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.report.plain import mapping, read_json, to_plain
from spikelab.spike_sorting.report.quality import extract_unit_quality_stats
from spikelab.spike_sorting.report.sorting_log import STAGES, parse_sorting_log
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.run_log import log_tail
from spikelab.spike_sorting.supervision import host

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

SCHEMA = 1
_ALL_LINES = 100_000
"""More lines than the end of a log that is read can have."""


def build_record(run: RunFolder, result: RecordingResult, curated: SpikeData | None) -> dict[str, Any]:
    """Return the content of ``recording_report.json``, as strict JSON."""
    record = {
        "schema": SCHEMA,
        "spikelab": __version__,
        "generated_at": host.utc_now(),
        **result.to_dict(),
        "intermediate_folder": run.inter,
        "recording": _summary(run, result, "load"),
        "sorter": _sorter(run, result),
        "quality": extract_unit_quality_stats(curated) if curated is not None else None,
        "log": parse_sorting_log(_log_tail(run)),
    }
    plain: dict[str, Any] = to_plain(record)
    return plain


def _log_tail(run: RunFolder) -> str:
    try:
        return log_tail(run.log, _ALL_LINES)
    except OSError:  # the disk that fails may be what is to be reported
        return ""


def _summary(run: RunFolder, result: RecordingResult, stage: str) -> dict[str, Any] | None:
    """Return what `stage` told of its work, unless the run failed before it was done."""
    is_of_an_earlier_run = result.stage in STAGES and STAGES.index(result.stage) <= STAGES.index(stage)
    if is_of_an_earlier_run and not result.succeeded:
        return None
    summary = mapping(read_json(run.marker(stage)).get("summary"))
    told_by_the_result = {"warnings", "suspicions"}
    return {name: value for name, value in summary.items() if name not in told_by_the_result} or None


def _sorter(run: RunFolder, result: RecordingResult) -> dict[str, Any]:
    config_used, summary = read_json(run.config_used), _summary(run, result, "sort") or {}
    return {
        "name": summary.get("sorter") or config_used.get("sorter"),
        "version": summary.get("version") or config_used.get("sorter_version"),
        "image": summary.get("image"),
        "n_units": summary.get("n_units"),
        "n_spikes": summary.get("n_spikes"),
        "direct": summary.get("direct"),
        "accelerated": summary.get("accelerated"),
        "recommended": summary.get("recommended"),
        "changed": summary.get("changed") or None,
    }
