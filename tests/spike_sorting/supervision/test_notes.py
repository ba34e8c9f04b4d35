"""Events on their way to a journal."""

from __future__ import annotations

import json
import threading
import time

from spikelab.spike_sorting.supervision.notes import Notes


def _names(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


def test_an_event_is_written_before_the_next_thing_happens():
    """On a healthy disk an event is in the journal when adding it returns."""
    written: list[str] = []
    notes = Notes(written.append)
    notes.add("worker_started", attempt="1")
    assert _names(written) == ["worker_started"]
    assert json.loads(written[0])["attempt"] == "1"


def test_nothing_is_lost_on_a_slow_disk():
    """P22: a disk that takes longer than one may wait gets all events in the end, in order, and holds nobody up."""
    written: list[str] = []
    answers = threading.Event()

    def append(line: str) -> None:
        answers.wait(20)
        written.append(line)

    notes = Notes(append, glance_s=0.1)
    started = time.monotonic()
    for name in ("stopping", "stopped", "worker_ended"):
        notes.add(name)
    assert time.monotonic() - started < 5
    assert not notes.flush(0.05)
    answers.set()
    assert notes.flush(10)
    assert _names(written) == ["stopping", "stopped", "worker_ended"]


def test_what_a_full_disk_refuses_is_in_the_log(caplog):
    """An event that cannot be written is told in the log, and the ones after it are tried all the same."""
    written: list[str] = []

    def append(line: str) -> None:
        if "run_started" in line:
            raise OSError(28, "No space left on device")
        written.append(line)

    notes = Notes(append)
    notes.add("run_started")
    notes.add("run_ended")
    assert notes.flush(10)
    assert _names(written) == ["run_ended"]
    assert "run_started" in caplog.text
