"""The journal of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.journal import Journal


def test_events_are_read_in_order(tmp_path: Path) -> None:
    """What was written is read back, with the time in UTC, one strict JSON object a line."""
    journal = Journal(tmp_path / "events.jsonl")
    assert journal.read() == []
    journal.write("run_started", recording="caf\u00e9\u2028\n", sizes=[1, None])
    journal.write("run_ended", status="success")
    events = journal.read()
    assert [event["event"] for event in events] == ["run_started", "run_ended"]
    assert events[0]["recording"] == "caf\u00e9\u2028\n"
    assert events[0]["time"].endswith("+00:00")
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("torn", [b'{"time": "2026", "ev', b"\xff\xfe", b"[1, 2]", b"{}x"])
def test_a_torn_line_costs_itself_only(torn: bytes, tmp_path: Path) -> None:
    """A line cut off by a crash is left out, and the next event is not lost with it."""
    journal = Journal(tmp_path / "events.jsonl")
    journal.write("one")
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [event["event"] for event in journal.read()] == ["one"]
    journal.write("two")
    journal.write("three")
    assert [event["event"] for event in journal.read()] == ["one", "two", "three"]


def test_no_number_that_is_none(tmp_path: Path) -> None:
    """NaN is refused, and leaves the journal as it was."""
    journal = Journal(tmp_path / "events.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.write("reading", used_pct=float("nan"))
    assert journal.read() == []


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    """Processes that write at once leave whole lines, each its own in order."""
    code = """
import sys
from pathlib import Path
from spikelab.spike_sorting.supervision.journal import Journal
for k in range(150):
    Journal(Path(sys.argv[1])).write("tick", writer=sys.argv[2], k=k, filler=sys.argv[2] * 3000)
"""
    path = tmp_path / "events.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(events) == 450
    for name in "abc":
        assert [event["k"] for event in events if event["writer"] == name] == list(range(150))
    assert all(event["filler"] == event["writer"] * 3000 for event in events)
