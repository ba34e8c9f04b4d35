"""The report of a recording, written as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.report.plain import encoded, read_json
from spikelab.spike_sorting.report.record import SCHEMA, build_record
from spikelab.spike_sorting.report.units import load_curated
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.publish import publish, publish_json

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData


def write_report(run: RunFolder, result: RecordingResult, *, with_pages: bool = True) -> None:
    """Publish what came of a recording, success or failure, from whatever there is.

    Parameters
    ----------
    run : RunFolder
        The folders of the run; what is missing in them is left out of the report.
    result : RecordingResult
        The outcome.
    with_pages : bool, default True
        Write ``sorting_report.md`` and ``sorting_report.html`` besides ``recording_report.json``; else those of an
        earlier run are removed, because they tell of another result.

    Raises
    ------
    OSError
        The results folder cannot be written.
    """
    curated, problem = _units_to_show(run, succeeded=result.succeeded)
    record = build_record(run, result, curated)
    publish_json(run.report_json, record)
    if with_pages:
        _write_pages(run, record, curated, problem)
    else:
        for page in (run.report_markdown, run.report_html):
            page.unlink(missing_ok=True)


def generate_sorting_report(results_folder: str | os.PathLike[str]) -> Path:
    """Write ``sorting_report.md`` and ``sorting_report.html`` anew from a results folder alone.

    Parameters
    ----------
    results_folder : path
        Folder with ``recording_report.json``. Units that curation removed are drawn when ``spikedata_raw.h5`` or
        the intermediate folder is still there.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError
        There is no ``recording_report.json``.
    ValueError
        It is damaged, or another version wrote it.
    """
    results = Path(results_folder)
    run = RunFolder(results, results)
    record = _read_record(run)
    # The folder may have been moved: only the intermediate files are still where they were.
    run = RunFolder(Path(str(record.get("intermediate_folder") or results)), results)
    curated, problem = _units_to_show(run, succeeded=RecordingResult.from_dict(record).succeeded)
    _write_pages(run, record, curated, problem)
    return run.report_html


def _read_record(run: RunFolder) -> dict[str, Any]:
    path = run.report_json
    if not path.is_file():
        msg = (
            f"there is no {path.name} in {run.results}: the recording was never sorted into this folder, or its sort "
            "has not ended yet. Give the results folder of a recording, the one with spikedata_curated.h5 in it"
        )
        raise FileNotFoundError(msg)
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        msg = f"{path} must be a report of schema {SCHEMA}, found {record.get('schema')!r}; sort the recording again"
        raise ValueError(msg)
    return record


def _units_to_show(run: RunFolder, *, succeeded: bool) -> tuple[SpikeData | None, str]:
    # After a failure, units that lie there are those of an earlier run.
    return load_curated(run) if succeeded else (None, "")


def _write_pages(run: RunFolder, record: Mapping[str, Any], curated: SpikeData | None, problem: str) -> None:
    from spikelab.spike_sorting.report.facts import gather
    from spikelab.spike_sorting.report.markdown import to_markdown
    from spikelab.spike_sorting.report.page import to_html

    facts = gather(run, record, curated, problem)
    publish(run.report_markdown, encoded(to_markdown(facts)))
    publish(run.report_html, encoded(to_html(facts)))
