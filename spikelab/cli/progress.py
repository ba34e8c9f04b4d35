"""How far a batch is: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from spikelab.cli.outcomes import outcome_lines
from spikelab.cli.output import counted, say, seconds_text
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Outcome
from spikelab.spike_sorting.supervision.progress import Progress

PLAIN_INTERVAL_S = 10.0
_WIDE = 100
"""Columns of a terminal from which on there is room for bars."""

Clock = Callable[[], float]


class Display(Protocol):
    """Tells a person how far the recordings are; called from several threads."""

    def progress(self, job: Job, progress: Progress) -> None:
        """Take note of how far `job` is."""
        ...

    def outcome(self, job: Job, outcome: Outcome) -> None:
        """Tell what came of `job`."""
        ...

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def make_display(console: Console, jobs: Sequence[Job]) -> Display:
    """Return the live table where `console` is a terminal, and plain lines where it is a file or a pipe."""
    on_terminal = console.is_interactive and console.file.isatty()
    return LiveTable(console, jobs) if on_terminal else PlainLines(console, jobs)


def labels(jobs: Sequence[Job]) -> dict[Path, str]:
    """Return "[1/3] name" of each job, by its results folder, which no two jobs share."""
    return {job.run.results: f"[{k}/{len(jobs)}] {job.name}" for k, job in enumerate(jobs, start=1)}


def position_text(progress: Progress) -> str:
    """Return where a worker is: "sort, spike detection 40 %, 1,250 spikes so far, 2 min left of this step"."""
    text = f"{progress.stage}, {progress.step}" if progress.step else progress.stage
    if progress.fraction is not None and progress.step:
        text += f" {round(100 * progress.fraction)} %"
    if progress.n_spikes:
        text += f", {progress.n_spikes:,} spikes so far"
    if progress.left_s is not None:
        text += f", {seconds_text(progress.left_s)} left of this step"
    return f"{text}; {progress.warning}" if progress.warning else text


# ------------------------------------------------------------------------------------------------ plain lines


class PlainLines:
    """One line per new step, and one every ten seconds within a step.

    Parameters
    ----------
    console : Console
        Where the lines go.
    jobs : sequence of Job
        All recordings of the batch.
    clock : callable, optional
        Seconds that only rise.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], clock: Clock = time.monotonic) -> None:
        self._console = console
        self._labels = labels(jobs)
        self._clock = clock
        self._told: dict[Path, tuple[Progress, float]] = {}
        self._lock = RLock()

    def progress(self, job: Job, progress: Progress) -> None:
        """Print where `job` is, unless that was said a moment ago."""
        with self._lock:
            now = self._clock()
            told = self._told.get(job.run.results)
            if told is not None and not _is_news(told[0], progress, now - told[1]):
                return
            self._told[job.run.results] = (progress, now)
            say(self._console, f"{self._labels[job.run.results]}: {position_text(progress)}")

    def outcome(self, job: Job, outcome: Outcome) -> None:
        """Print what came of `job`."""
        with self._lock:
            lines = outcome_lines(self._labels[job.run.results], job, outcome)
            say(self._console, Text("\n").join(lines))

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left to do: every line is out."""


def _is_news(told: Progress, progress: Progress, age_s: float) -> bool:
    if (told.stage, told.step) != (progress.stage, progress.step):
        return True
    return progress != told and age_s >= PLAIN_INTERVAL_S


# ------------------------------------------------------------------------------------------------- live table


@dataclass(frozen=True)
class Row:
    """A recording that is being sorted.

    Parameters
    ----------
    label : str
        Number and name.
    started : float
        Clock when it was first seen.
    progress : Progress
        Where it is.
    """

    label: str
    started: float
    progress: Progress


class LiveTable:
    """A table of the recordings in flight, refreshed in place; outcomes stay above it.

    Parameters
    ----------
    console : Console
        A terminal.
    jobs : sequence of Job
        All recordings of the batch.
    clock : callable, optional
        Seconds that only rise.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], clock: Clock = time.monotonic) -> None:
        self._console = console
        self._labels = labels(jobs)
        self._clock = clock
        self._started = clock()
        self._rows: dict[Path, Row] = {}
        self._n_done = 0
        self._lock = RLock()
        self._live = Live(console=console, get_renderable=self.table, transient=True, refresh_per_second=4)

    def progress(self, job: Job, progress: Progress) -> None:
        """Take note of where `job` is; the table shows it at its next refresh."""
        with self._lock:
            now = self._clock()
            row = self._rows.get(job.run.results)
            if row is None:
                row = Row(self._labels[job.run.results], now, progress)
            self._rows[job.run.results] = replace(row, progress=progress)

    def outcome(self, job: Job, outcome: Outcome) -> None:
        """Print what came of `job` above the table, and take it out of the table."""
        with self._lock:
            self._rows.pop(job.run.results, None)
            self._n_done += 1
        say(self._console, Text("\n").join(outcome_lines(self._labels[job.run.results], job, outcome)))

    def table(self) -> Group:
        """Return the table as it is now, and a line on the whole batch below it."""
        with self._lock:
            now, rows, n_done = self._clock(), list(self._rows.values()), self._n_done
        is_wide = self._console.width >= _WIDE
        table = Table(box=None, pad_edge=False, expand=True)
        for heading in ("recording", "doing"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1)
        for heading in ("", "spikes", "elapsed", "step left"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_cells(row, now, with_bar=is_wide))
        done = f"{n_done} of {counted(len(self._labels), 'recording')} done"
        spent = seconds_text(now - self._started)
        # Not a caption: that would reach the last column, where the echo of Ctrl-C breaks the line.
        below = Text(f"{done}, {spent}. Ctrl-C stops; the same command continues.", style="dim")
        return Group(table, below) if rows else Group(below)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()


def _cells(row: Row, now: float, *, with_bar: bool) -> tuple[Text | Table, ...]:
    progress = row.progress
    return (
        Text(row.label),
        _doing(progress),
        _share(progress.fraction, with_bar=with_bar),
        Text(f"{progress.n_spikes:,}" if progress.n_spikes else ""),
        Text(seconds_text(now - row.started)),
        Text(seconds_text(progress.left_s) if progress.left_s is not None else ""),
    )


def _doing(progress: Progress) -> Text:
    text = Text(f"{progress.warning}; " if progress.warning else "", style="yellow")
    return text.append(f"{progress.stage}: {progress.step}" if progress.step else progress.stage, style="default")


def _share(fraction: float | None, *, with_bar: bool) -> Text | Table:
    if fraction is None:
        return Text()
    percent = Text(f"{round(100 * fraction):3d} %")
    if not with_bar:
        return percent
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=fraction, width=10), percent)
    return grid
