"""What is shown while recordings are sorted."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from rich.text import Text

from spikelab.cli.output import bytes_text, make_console, seconds_text, wrapped
from spikelab.cli.progress import LiveTable, PlainLines, make_display, short_labels
from spikelab.spike_sorting._exceptions import SaturatedSignalError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import FAILED, Attempt, Outcome, RecordingResult, describe_error
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.progress import Progress
from spikelab.spike_sorting.work import Use


def a_job(name: str, folder: Path) -> Job:
    return Job(name, Source((str(folder / name),)), RunFolder(folder / "i" / name, folder / "r" / name), KILOSORT4)


def a_result(job: Job, status: str = "success", **more: object) -> RecordingResult:
    return RecordingResult(
        rec_name=job.name, rec_path=job.path, results_folder=str(job.run.results), status=status, **more
    )


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def console():
    console = make_console()
    console.file = io.StringIO()
    return console


def said(console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_plain_lines_come_with_each_step_and_every_ten_seconds(console, tmp_path):
    """A step is told once, then every ten seconds while it moves, however often the worker reports."""
    job, clock = a_job("a.raw.h5", tmp_path), Clock()
    lines = PlainLines(console, [job], clock)
    for second in range(25):
        clock.now = 100 + second
        lines.progress(job, Progress("sort", "spike detection", second / 100, 1000 + second, 100.0 - second))
    lines.progress(job, Progress("waveforms"))
    assert said(console) == [
        "[1/1] a.raw.h5: sort, spike detection 0 %, 1,000 spikes so far, 1 min 40 s left of this step",
        "[1/1] a.raw.h5: sort, spike detection 10 %, 1,010 spikes so far, 1 min 30 s left of this step",
        "[1/1] a.raw.h5: sort, spike detection 20 %, 1,020 spikes so far, 1 min 20 s left of this step",
        "[1/1] a.raw.h5: waveforms",
    ]


def test_a_step_that_stands_still_is_not_repeated(console, tmp_path):
    """A worker that reports the same again and again adds no line to a log."""
    job, clock = a_job("a.raw.h5", tmp_path), Clock()
    lines = PlainLines(console, [job], clock)
    for _ in range(5):
        clock.now += 60
        lines.progress(job, Progress("load"))
    assert len(said(console)) == 1


def test_recordings_are_told_apart_when_they_run_together(console, tmp_path):
    """Two recordings in flight have a line each, with their number."""
    jobs = [a_job("a.raw.h5", tmp_path), a_job("b.raw.h5", tmp_path)]
    lines = PlainLines(console, jobs, Clock())
    for job in (*jobs, *jobs):
        lines.progress(job, Progress("load"))
    assert said(console) == ["[1/2] a.raw.h5: load", "[2/2] b.raw.h5: load"]


def test_a_sorted_recording_has_one_line(console, tmp_path, monkeypatch):
    """The outcome names units found and kept, the time, and where the report lies, in one unbroken line."""
    monkeypatch.chdir(tmp_path)
    job = a_job("a" * 120, tmp_path)
    job.run.results.mkdir(parents=True)
    job.run.report_html.touch()
    attempts = (Attempt("sort", "exit 0", 70.0, "success"),)
    result = a_result(job, n_units=16, n_curated_units=14, wall_time_s=72.0, attempts=attempts)
    PlainLines(console, [job]).outcome(job, Outcome(result))
    where = f"r/{'a' * 120}/sorting_report.html"
    assert said(console) == [f"[1/1] {'a' * 120}: 16 units found, 14 kept, 1 min 12 s; report: {where}"]


def test_a_recording_found_finished_is_not_called_sorted_now(console, tmp_path):
    """A result of an earlier call is told as such."""
    job = a_job("a.raw.h5", tmp_path)
    PlainLines(console, [job]).outcome(job, Outcome(a_result(job, n_units=1, n_curated_units=1)))
    assert "1 unit found, 1 kept, sorted before; " in said(console)[0]


def test_a_failed_recording_says_why_and_what_to_do(console, tmp_path):
    """A failure has its status, message, advice and report."""
    job = a_job("a[b].raw.h5", tmp_path)
    error = SaturatedSignalError("8 of 8 channels clip")
    PlainLines(console, [job]).outcome(job, Outcome(a_result(job, **describe_error(error)), error))
    assert said(console) == [
        "[1/1] a[b].raw.h5: failed (saturated_signal): 8 of 8 channels clip",
        f"    what to do: {SaturatedSignalError.advice}",
        f"    report: {job.run.results}",
    ]


def test_an_unknown_failure_has_no_made_up_name(console, tmp_path):
    """What nobody classified is just a failure with its message."""
    job = a_job("a.raw.h5", tmp_path)
    PlainLines(console, [job]).outcome(job, Outcome(a_result(job, FAILED, error_message="ZeroDivisionError: x")))
    assert said(console)[0] == "[1/1] a.raw.h5: failed: ZeroDivisionError: x"


def test_without_a_terminal_there_are_plain_lines(console, tmp_path):
    """A file or a pipe gets lines, also where colours are forced."""
    assert isinstance(make_display(console, [a_job("a", tmp_path)]), PlainLines)
    console._force_terminal = True
    assert isinstance(make_display(console, [a_job("a", tmp_path)]), PlainLines)


def test_the_live_table_shows_what_is_in_flight(console, tmp_path):
    """The table has stage, step, percent, spikes, elapsed time and what is left of the step, and drops what is done."""
    jobs, clock = [a_job("a.raw.h5", tmp_path), a_job("b.raw.h5", tmp_path)], Clock()
    table = LiveTable(console, jobs, clock)
    table.progress(jobs[0], Progress("sort", "spike detection", 0.0))
    clock.now += 30
    table.progress(jobs[0], Progress("sort", "spike detection", 0.25, 1234, 90.0))
    console.width = 110
    console.print(table.table())
    row = next(line for line in said(console) if "a.raw.h5" in line)
    for part in ("[1/2] a.raw.h5", "sort: spike detection", "25 %", "1,234", "30 s", "1 min 30 s"):
        assert part in row
    assert "0 of 2 recordings done" in console.file.getvalue()
    table.outcome(jobs[0], Outcome(a_result(jobs[0], n_units=1, n_curated_units=1)))
    console.file.truncate(0)
    console.print(table.table())
    assert "a.raw.h5" not in console.file.getvalue()
    assert "1 of 2 recordings done" in console.file.getvalue()


def test_eight_at_once_fit_a_terminal_of_80_columns(console, tmp_path):
    """Each recording in flight has one line, told apart by its well, with its memory and its GPU; the rest is below."""
    jobs, clock = [a_job(f"plate7_2026-03-01.raw.h5_well{k:03d}", tmp_path) for k in range(24)], Clock()
    table = LiveTable(console, jobs, clock)
    for job in jobs[10:2:-1]:
        use = Use("GPU 1", 5.2, 12.3, 420.0)
        table.progress(job, Progress("sort", "spike detection", 0.43, 1_234_567, 754.0), use)
    clock.now += 600
    attempts = (Attempt("sort", "exit 0", 70.0, "success"),)
    for job in jobs[:2]:
        table.outcome(job, Outcome(a_result(job, n_units=1, n_curated_units=1, attempts=attempts)))
    console.width = 80
    console.file.truncate(console.file.seek(0))
    console.print(table.table())
    rows = [line for line in said(console) if "well" in line]
    assert [row.split()[0] for row in rows] == [f"[{k}/24]" for k in range(4, 12)]
    assert [row.split()[1:4] for row in rows] == [[f"well{k:03d}", "spike", "detection"] for k in range(3, 11)]
    assert all(part in rows[0] for part in ("43 %", "1,234,567", "12 min", "5.2 GB", "1: 12 GB"))
    assert max(map(len, said(console))) <= 80
    assert "2 of 24 recordings done, 10 min, about 30 min left, 420 GB of disk" in " ".join(said(console))


def test_names_keep_what_tells_them_apart(tmp_path):
    """What all names begin with is left out; a name alone, or one that another begins with, stays whole."""

    def short(*names: str) -> list[str]:
        return list(short_labels([a_job(name, tmp_path / str(k)) for k, name in enumerate(names)]).values())

    assert short("plate.raw.h5_well003", "plate.raw.h5_well012") == ["[1/2] well003", "[2/2] well012"]
    assert short("culture1.raw.h5", "culture12.raw.h5") == ["[1/2] culture1.raw.h5", "[2/2] culture12.raw.h5"]
    assert short("a.h5", "a.h5") == ["[1/2] a.h5", "[2/2] a.h5"]
    assert short("a_b.h5") == ["[1/1] a_b.h5"]


class Gone(io.StringIO):
    """A file that nobody reads any more, or that takes no more."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "scripted")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_a_reader_that_leaves_does_not_end_the_sort(tmp_path, number):
    """A closed pipe (| head), a closed terminal and a full disk silence what is told of a sort, and raise nothing."""
    console = make_console(talk_only=True)
    console.file = Gone(number)
    lines = PlainLines(console, [job := a_job("a", tmp_path)])
    assert not console.quiet
    lines.progress(job, Progress("load"))
    lines.progress(job, Progress("sort"))
    assert console.quiet
    console.file = io.StringIO()


def test_a_document_that_cannot_be_written_is_an_error():
    """A document that the disk does not take, such as that of --json, is not given up in silence."""
    console = make_console()
    console.file = Gone(errno.ENOSPC)
    with pytest.raises(OSError, match="scripted"):
        console.print("{}")
    console.quiet = True
    console.file = io.StringIO()


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (72, "1 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations_are_for_people(seconds, text):
    """A duration has the two units that matter."""
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    "n_bytes, text",
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (9_960, "10 kB"), (999_600, "1.0 MB"), (12.3e9, "12 GB")],
)
def test_sizes_are_for_people(n_bytes, text):
    """A size has two digits that matter and its unit."""
    assert bytes_text(n_bytes) == text


@pytest.mark.parametrize(
    "text, lines",
    [
        ("report: /a/long/path", ["report:", "/a/long/path"]),
        ("see /a/very/long/path now", ["see", "/a/very/long/path", "now"]),
        ("    two words\nand more", ["    two words", "and more"]),
        ("    two words more", ["    two words", "    more"]),
        ("", [""]),
    ],
)
def test_lines_break_between_words_and_never_within_a_path(text, lines):
    """On a narrow terminal a path stays in one piece, for copying."""
    assert wrapped(Text(text), 14).plain.split("\n") == lines
