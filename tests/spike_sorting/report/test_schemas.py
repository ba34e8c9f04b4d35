"""The schemas that are shipped, and the files of real sorts."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest
from support import Sorted, check_schemas, schema_of, violations

from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.report import write_batch_report

PACKAGE = Path(str(resources.files("spikelab")))


def test_the_files_of_a_sort_follow_their_schemas(sorted_once: Sorted) -> None:
    """Report, settings, history and journal of a real sort are what the schemas say, in strict JSON."""
    assert check_schemas(sorted_once.results) == {
        "recording_report.json", "config_used.json", "curation_history.json", "events.jsonl",
    }  # fmt: skip
    used = json.loads((sorted_once.results / "config_used.json").read_text())
    assert SortingPipelineConfig.from_dict(used["config"]).sorter.sorter_name == "kilosort4"


@pytest.mark.parametrize(
    "name,wrong,said",
    [
        ("recording_report", {"schema": 2, "rec_name": 3}, "rec_name: 3"),
        ("config_used", {"schema": 1, "config": {"curation": {"snr_min": 5}, "novel": {}}}, "novel"),
        ("curation_history", {"initial": {}, "metrics": {"7": {"snr": []}}}, "metrics"),
        ("events", {"time": "2026-01-01", "event": "stage_finished", "stage": "load"}, "wall_time_s"),
        ("batch_report", {"schema": 1, "records": [{"status": None}]}, "status"),
    ],
)
def test_a_schema_notices_what_is_wrong(name: str, wrong: dict, said: str) -> None:
    """Each schema refuses a file that lacks something or holds something of another kind, and says where."""
    assert any(said in violation for violation in violations(wrong, name))


def test_every_event_has_its_place_in_the_schema() -> None:
    """What the code writes into the journal, and nothing else, is described."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    written = set(re.findall(r"(?:(?:work|self)\.note|journal\.write)\(\s*\"(\w+)\"", code))
    described = {rule["if"]["properties"]["event"]["const"] for rule in schema_of("events")["allOf"]}
    assert len(written) > 10
    assert written == described


def test_every_field_of_a_result_is_in_the_schema() -> None:
    """What a RecordingResult holds is described in the schema of its report."""
    result = RecordingResult(rec_name="a", rec_path="b", results_folder="c", status="success")
    assert set(result.to_dict()) <= set(schema_of("recording_report")["properties"])


def test_the_report_of_a_batch_follows_its_schema(tmp_path: Path) -> None:
    """A batch of a success and a failure is described too."""
    results = [
        RecordingResult(rec_name=name, rec_path=f"/{name}", results_folder=str(tmp_path / name), status=status)
        for name, status in (("one", "success"), ("two", "oom_gpu"))
    ]
    write_batch_report(results)
    assert check_schemas(tmp_path) == {"batch_report.json"}
