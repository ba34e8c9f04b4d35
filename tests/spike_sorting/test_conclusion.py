"""What came of a run, where its folders cannot be read, or do not answer."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting.conclusion import conclude, failed, found
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.pipeline import STAGES, is_finished, run_recording
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.lock import LOCK_NAME
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.work import Work

CRASH = SorterCrashedError("the worker died", exit_name="SIGSEGV")
WARNED = {"warnings": [{"code": "clipping", "message": "a channel clips", "advice": "Look at it."}]}

COUNTED = {"n_units": 3, "n_curated_units": 2, "n_spikes": 100}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    run.inter.mkdir()
    run.results.mkdir()
    return Job("culture", Source(), run, KILOSORT4)


@pytest.fixture
def work(job: Job) -> Work:
    return Work(job, STAGES, "a run", 0.0, keys={stage.name: stage.name for stage in STAGES})


def _marked(work: Work, *stages: str) -> None:
    for stage in stages:
        publish_json(work.job.run.marker(stage), {"key": stage, "summary": WARNED, "files": {}})


def _unreadable(path: Path) -> None:
    """Make any look at `path` an OSError that does not mean that nothing is there."""
    path.unlink(missing_ok=True)
    path.symlink_to(path)


def test_a_failure_tells_what_its_stages_have_found(work):
    """Warnings of the stages of this run, and of no earlier one, are in the record of its failure."""
    _marked(work, "load", "sort")
    work.keys = {**work.keys, "sort": "another"}
    assert [warning.code for warning in failed(work, CRASH).warnings] == ["clipping"]


def test_a_failure_waits_for_no_disk(work):
    """P16: where the markers do not answer, a failed run has its record at once, without what they would tell."""
    _marked(work, "sort")
    marker = work.job.run.marker("load")
    os.mkfifo(marker)
    try:
        record = failed(work, CRASH)
    finally:
        os.close(os.open(marker, os.O_RDWR))  # lets go of the thread that waits
    assert (record.status, record.warnings) == (CRASH.status, ())


@pytest.mark.parametrize("lies_in", ["the boundary", "the run"])
def test_a_run_that_cannot_be_read_fails_alone(job, lies_in):
    """P2: a recording whose folders cannot be read has an outcome like any other: nothing is raised."""
    _unreadable(job.run.marker("load"))
    if lies_in == "the boundary":
        (job.run.inter / LOCK_NAME).mkdir()
    outcome = run_recording(job)
    assert isinstance(outcome.error, OSError)
    assert outcome.result.status == "failed"
    assert outcome.result.error_message == str(outcome.error)
    assert job.run.report_json.exists() == (lies_in == "the run")


@pytest.mark.parametrize("what", ["report", "marker", "missing recording"])
def test_what_cannot_be_read_is_not_finished(job, what):
    """P2: before the start, a folder that cannot be read is no reason to start nothing."""
    publish_json(job.run.report_json, {"status": "success"})
    if what == "report":
        _unreadable(job.run.report_json)
    elif what == "marker":
        _unreadable(job.run.marker(EXPORT))
    else:
        job = replace(job, source=Source(files=(str(job.run.results / "gone.raw.h5"),)))
    assert not is_finished(job)


def test_a_success_that_cannot_be_read_is_none(work):
    """A sort of which the disk no longer tells what came out has failed, and its report says why."""
    _marked(work, *(stage.name for stage in STAGES))
    _unreadable(work.job.run.marker("curate"))
    outcome = conclude(work)
    assert isinstance(outcome.error, OSError)
    assert json.loads(work.job.run.report_json.read_text())["status"] == "failed"


def test_a_result_is_found_although_files_are_left(work):
    """What an earlier call left and cannot be removed is a warning, and no failure of a finished sort."""
    publish_json(work.job.run.report_json, replace(failed(work, CRASH), status="success").to_dict())
    work.job.run.scratch.touch()  # where a folder is expected
    outcome = found(work)
    assert outcome.error is None
    assert outcome.result.status == "success"
    assert [warning.code for warning in outcome.result.warnings] == ["files-left"]


@pytest.mark.parametrize(
    "policy, name", [("keep", "sorting.log"), ("gzip_on_success", "sorting.log.gz"), ("delete_on_success", None)]
)
def test_a_result_names_the_files_that_there_are(work, policy, name):
    """A log that is packed or deleted after the report is named in it as it is afterwards, or not at all."""
    run = work.job.run
    work.job = replace(work.job, config=KILOSORT4.override(tee_log_policy=policy))
    for stage in STAGES:
        publish_json(run.marker(stage.name), {"key": "", "wall_time_s": 1.0, "summary": COUNTED})
    run.log.write_text("words")
    named = conclude(work).result.log_path
    assert named == (None if name is None else str(run.results / name))
    assert [path.name for path in run.results.glob("sorting.log*")] == ([] if name is None else [name])
    assert json.loads(run.report_json.read_text())["log_path"] == named
    assert re.findall(r"sorting\.log[.\w]*", run.report_html.read_text()) == ([] if name is None else [name])


def test_a_result_is_found_where_it_lies_now(work, tmp_path):
    """Results that were moved, or of which later calls want less, are not told by where they were."""
    run = work.job.run
    for folder in (run.analyzer, run.results):
        folder.mkdir(parents=True, exist_ok=True)
    run.log.write_text("words")
    before = replace(failed(work, CRASH), status="success", results_folder="/before", log_path="/before/sorting.log")
    publish_json(run.report_json, before.to_dict())
    now = found(work).result
    assert (now.results_folder, now.log_path, now.analyzer_folder) == tuple(
        map(str, (run.results, run.log, run.analyzer))
    )
    work.job = replace(work.job, config=KILOSORT4.override(tee_log_policy="gzip_on_success", delete_inter=True))
    now = found(work).result
    assert (now.log_path, now.analyzer_folder) == (f"{run.log}.gz", None)
