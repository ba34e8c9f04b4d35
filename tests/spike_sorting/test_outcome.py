"""Outcomes of recordings and of batches."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import GPUOutOfMemoryError, UnclassifiedSortError
from spikelab.spike_sorting.outcome import Attempt, RecordingResult, SortRunReport, describe_error
from spikelab.spike_sorting.remarks import remark

GOOD = RecordingResult(
    rec_name="a.raw.h5",
    rec_path="/data/a.raw.h5",
    results_folder="/data/sorted/a.raw.h5",
    status="success",
    wall_time_s=12.5,
    n_units=10,
    n_curated_units=4,
    n_spikes=1234,
    stage_timings_s={"load": 0.5, "sort": 11.0},
    attempts=(Attempt("sort", "SIGKILL", 3.0, "sorter_crashed"), Attempt("sort", "exit 0", 9.0, "success")),
    warnings=(remark("no-gain", "the file has no gain"),),
    suspicions=(remark("all-mua", "no unit is good"),),
)
BAD = dataclasses.replace(
    GOOD, status="oom_gpu", **{k: v for k, v in describe_error(GPUOutOfMemoryError("full")).items() if k != "status"}
)
SKIPPED = dataclasses.replace(GOOD, status="skipped")

CONTRACT = (
    "rec_name rec_path results_folder status wall_time_s n_curated_units error_class error_message retries_used "
    "log_path peak_host_ram_pct peak_gpu_used_pct min_disk_free_gb category advice n_units n_spikes stage_timings_s "
    "attempts suspicions"
)


def test_a_result_has_the_fields_of_the_contract() -> None:
    """Every field that the contract names is there."""
    assert set(CONTRACT.split()) <= {field.name for field in dataclasses.fields(RecordingResult)}


def test_a_result_survives_its_file() -> None:
    """Strict JSON gives back an equal result, and what a later version adds is ignored."""
    described = json.loads(json.dumps(GOOD.to_dict(), allow_nan=False))
    described["attempts"][0]["later"] = described["later"] = 1
    assert RecordingResult.from_dict(described) == GOOD


@pytest.mark.parametrize(
    "error,status,category,error_class,message",
    [
        (GPUOutOfMemoryError("full"), "oom_gpu", "resource", "GPUOutOfMemoryError", "full"),
        (UnclassifiedSortError("KeyError: 'x'", stage="sort"), "failed", "unclassified", "UnclassifiedSortError",
         "KeyError: 'x' (in stage sort)"),
        (ValueError("odd"), "failed", "unclassified", "ValueError", "odd"),
        (KeyboardInterrupt(), "interrupted", None, "KeyboardInterrupt", ""),
    ],
)  # fmt: skip
def test_an_error_says_what_it_is_and_what_to_do(
    error: BaseException, status: str, category: str | None, error_class: str, message: str
) -> None:
    """Status, family, class, message and advice of any error end up in the result."""
    described = describe_error(error)
    advice = described.pop("advice")
    assert advice.endswith(".")
    assert described == {
        "status": status,
        "category": category,
        "error_class": error_class,
        "error_message": message,
    }


def test_a_report_counts_in_order() -> None:
    """Records keep their order; what is not a success is a failure."""
    report = SortRunReport([GOOD, BAD])
    report.add(SKIPPED)
    assert report.records == [GOOD, BAD, SKIPPED]
    assert (report.succeeded, report.failed, report.all_succeeded) == ([GOOD], [BAD, SKIPPED], False)
    described = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (described["n_total"], described["n_succeeded"], described["n_failed"]) == (3, 1, 2)
    assert [record["status"] for record in described["records"]] == ["success", "oom_gpu", "skipped"]


def test_an_empty_report_is_no_success() -> None:
    """Nothing sorted is not "all sorted"."""
    assert not SortRunReport().all_succeeded
    assert SortRunReport([GOOD]).all_succeeded


@pytest.mark.parametrize("records", [[], [GOOD, BAD]])
def test_a_report_is_a_table(records: list[RecordingResult]) -> None:
    """One row per recording, one column per field, also for none."""
    table = SortRunReport(records).to_dataframe()
    assert list(table.status) == [record.status for record in records]
    assert {"rec_name", "n_curated_units", "error_class"} <= set(table.columns)


def test_reports_are_found_below_a_folder(tmp_path: Path) -> None:
    """A results folder gives one record, a folder of results folders all of them, in order of their paths."""
    for record, name in ((BAD, "b"), (GOOD, "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recording_report.json").write_text(json.dumps({"schema": 1, **record.to_dict()}))
    assert SortRunReport.load(tmp_path).records == [GOOD, BAD]
    assert SortRunReport.load(str(tmp_path / "b")).records == [BAD]


@pytest.mark.parametrize("text", ["", "[1]", '{"status": "success"}'])
def test_a_damaged_report_is_named(text: str, tmp_path: Path) -> None:
    """A file that is no report is an error that names it."""
    (tmp_path / "recording_report.json").write_text(text)
    with pytest.raises(ValueError, match=r"recording_report\.json is no recording report of spikelab"):
        SortRunReport.load(tmp_path)


def test_a_folder_without_reports(tmp_path: Path) -> None:
    """Where nothing was sorted, the error says what was looked for."""
    with pytest.raises(FileNotFoundError, match=r"no recording_report\.json in or below"):
        SortRunReport.load(tmp_path)
