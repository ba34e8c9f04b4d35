"""The report of a batch: one line per recording, the wells of a plate as they lie, and links to what came of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spikelab import __version__
from spikelab.spike_sorting.outcome import SKIPPED, RecordingResult, SortRunReport
from spikelab.spike_sorting.report.plain import encoded, mapping, read_json, to_number, to_plain
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.publish import publish, publish_json

SCHEMA = 1
NAME = "batch_report"
_WELL = re.compile(r"_well(\d{3})$")
_PLATES = ((1, 1), (2, 3), (4, 6), (8, 12))
"""Rows and columns of the plates that there are."""


@dataclass(frozen=True)
class Entry:
    """One recording of a batch.

    Parameters
    ----------
    result : RecordingResult
        What came of it.
    duration_s : float
        Length of what was sorted (s); NaN where unknown.
    median_snr : float
        Of the units kept; NaN where unknown.
    link : str or None
        Its own report, as seen from the folder of the batch.
    """

    result: RecordingResult
    duration_s: float
    median_snr: float
    link: str | None


@dataclass(frozen=True)
class Plate:
    """The wells of one file, as they lie.

    Parameters
    ----------
    path : str
        The file.
    rows : tuple of tuple of Entry or None
        Wells row by row; None where a well is not part of the batch.
    """

    path: str
    rows: tuple[tuple[Entry | None, ...], ...]


def write_batch_report(records: Sequence[RecordingResult], *, with_pages: bool = True) -> Path | None:
    """Publish what came of a batch in the folder that its results have in common; return that folder.

    Recordings of earlier batches that were reported in the same folder stay in the report as long as their results
    are there, so that sorting again what had failed completes it. One recording alone is no batch: it only brings a
    report that it is part of up to date.

    Parameters
    ----------
    records : sequence of RecordingResult
        What came of each recording, in order.
    with_pages : bool, default True
        Write ``batch_report.md`` and ``batch_report.html`` besides ``batch_report.json``.

    Returns
    -------
    Path or None
        None where there is nothing to report, or no folder for it.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder = common_folder(records)
    if folder is None or not folder.is_dir():
        return None
    earlier = _earlier_records(folder)
    known = {record.results_folder for record in earlier}
    if len(records) < 2 and not known & {record.results_folder for record in records}:
        return None
    _write(folder, _merged(earlier, records), with_pages=with_pages)
    return folder


def generate_batch_report(folder: str | os.PathLike[str]) -> Path:
    """Write the report of all recordings that were sorted into folders below `folder` anew; return the page.

    Parameters
    ----------
    folder : path
        A folder above results folders, such as ``sorted_kilosort4``.

    Raises
    ------
    FileNotFoundError
        Nothing below it was sorted by spikelab.

    Examples
    --------
    >>> from spikelab.spike_sorting.report import generate_batch_report
    >>> generate_batch_report("sorted_kilosort4")  # doctest: +SKIP
    PosixPath('sorted_kilosort4/batch_report.html')
    """
    _write(Path(folder), SortRunReport.load(Path(folder)).records)
    return Path(folder, f"{NAME}.html")


def common_folder(records: Iterable[RecordingResult]) -> Path | None:
    """Return the folder above all results folders, or None where they have only a whole disk in common."""
    parents = {str(Path(record.results_folder).parent) for record in records}
    try:
        common = Path(os.path.commonpath(parents))
    except ValueError:  # nothing in common, or no records
        return None
    return None if common == Path(common.anchor) else common


def _earlier_records(folder: Path) -> list[RecordingResult]:
    listed = read_json(folder / f"{NAME}.json").get("records")
    records = listed if isinstance(listed, list) else []
    known = map(_known, map(mapping, records))
    return [record for record in known if record is not None and _folder_of(record).report_json.is_file()]


def _known(record: Mapping[str, Any]) -> RecordingResult | None:
    try:
        return RecordingResult.from_dict(record)
    except (AttributeError, LookupError, TypeError, ValueError):  # another program's, or another version's
        return None


def _folder_of(record: RecordingResult) -> RunFolder:
    return RunFolder(Path(record.results_folder), Path(record.results_folder))


def _merged(earlier: Iterable[RecordingResult], now: Iterable[RecordingResult]) -> list[RecordingResult]:
    """Return one record per results folder; one that was not tried now is as it was."""
    merged = {record.results_folder: record for record in earlier}
    for record in now:
        if record.status != SKIPPED or record.results_folder not in merged:
            merged[record.results_folder] = record
    return list(merged.values())


def _write(folder: Path, records: Sequence[RecordingResult], *, with_pages: bool = True) -> None:
    publish_json(folder / f"{NAME}.json", batch_record(records))
    note, page = folder / f"{NAME}.md", folder / f"{NAME}.html"
    if not with_pages:
        for outdated in (note, page):
            outdated.unlink(missing_ok=True)
        return
    from spikelab.spike_sorting.report.batch_page import to_html, to_markdown

    entries = [entry_of(record, folder) for record in records]
    publish(note, encoded(to_markdown(entries)))
    publish(page, encoded(to_html(entries)))


def _link(path: str) -> str:
    return quote(path.replace(os.sep, "/"), errors="surrogateescape")


def batch_record(records: Sequence[RecordingResult]) -> dict[str, Any]:
    """Return the content of ``batch_report.json``, as strict JSON."""
    plain: dict[str, Any] = to_plain(
        {
            "schema": SCHEMA,
            "spikelab": __version__,
            "generated_at": host.utc_now(),
            **SortRunReport(records).to_dict(),
        }
    )
    return plain


def entry_of(result: RecordingResult, folder: Path) -> Entry:
    """Return `result` with what its own report adds, for a page in `folder`."""
    run = _folder_of(result)
    record = read_json(run.report_json)
    recording, quality = mapping(record.get("recording")), mapping(record.get("quality"))
    page = next((path for path in (run.report_html, run.report_markdown, run.report_json) if path.is_file()), None)
    return Entry(
        result=result,
        duration_s=to_number(recording.get("duration_s")),
        median_snr=to_number(mapping(quality.get("snr")).get("median")),
        link=None if page is None else _link(os.path.relpath(page, folder)),
    )


def plates_of(entries: Sequence[Entry]) -> list[Plate]:
    """Return each file of which several wells are in the batch, with its wells in reading order."""
    files: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        found = _WELL.search(entry.result.rec_name)
        if found:
            files.setdefault(entry.result.rec_path, {})[int(found.group(1))] = entry
    return [Plate(path, _as_rows(wells)) for path, wells in files.items() if len(wells) > 1]


def _as_rows(wells: Mapping[int, Entry]) -> tuple[tuple[Entry | None, ...], ...]:
    last = max(wells)
    n_rows, n_columns = next(((r, c) for r, c in _PLATES if last < r * c), (last // 12 + 1, 12))
    return tuple(tuple(wells.get(row * n_columns + column) for column in range(n_columns)) for row in range(n_rows))
