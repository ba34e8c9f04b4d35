"""The journal of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
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


def _start(command: list[str]) -> subprocess.Popen[str]:
    """Start a process and wait until it is ready."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    """Processes that write at once leave whole lines, each its own in order."""
    code = """
import sys
from collections.abc import Callable
from pathlib import Path
from spikelab.spike_sorting.supervision.journal import Journal
print("ready", flush=True)
sys.stdin.readline()
for k in range(60):
    Journal(Path(sys.argv[1])).write("tick", writer=sys.argv[2], k=k, filler=sys.argv[2] * 60_000)
"""
    path = tmp_path / "events.jsonl"
    writers = [_start([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    for stream in [writer.stdin for writer in writers]:
        assert stream is not None
        stream.write("go\n")
        stream.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(events) == 180
    for name in "abc":
        assert [event["k"] for event in events if event["writer"] == name] == list(range(60))
    assert all(event["filler"] == event["writer"] * 60_000 for event in events)


@pytest.mark.strace
def test_an_event_is_one_write_and_is_on_the_disk(require_program: Callable[[str], Path], tmp_path: Path) -> None:
    """An event is appended by one system call and synced, so that nothing can come in between or be lost."""
    path, trace = tmp_path / "events.jsonl", tmp_path / "trace"
    code = "import sys; from pathlib import Path; from spikelab.spike_sorting.supervision.journal import Journal; "
    code += "Journal(Path(sys.argv[1])).write('killed', why='x' * 100_000)"
    command = [require_program("strace"), "-f", "-y", "-o", trace, "-e", "trace=write,fsync"]
    subprocess.run([*command, sys.executable, "-c", code, path], check=True, timeout=60)
    calls = [line.split("(")[0].split()[-1] for line in trace.read_text().splitlines() if "events.jsonl>" in line]
    assert calls == ["write", "fsync"]
