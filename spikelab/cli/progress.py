"""How far a batch is: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
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
from spikelab.cli.output import bytes_text, counted, say, seconds_text
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Outcome
from spikelab.spike_sorting.supervision.progress import Progress
from spikelab.spike_sorting.work import Use

PLAIN_INTERVAL_S = 10.0
_WIDE = 100
"""Columns of a terminal from which on there is room for bars."""

GB = 1e9
NOTHING = Use()
"""What is known of the machine before a worker has been looked at."""

Clock = Callable[[], float]


class Display(Protocol):
    """Tells a person how far the recordings are; called from several threads."""

    def progress(self, job: Job, progress: Progress, use: Use = NOTHING) -> None:
        """Take note of how far `job` is, and of what it takes."""
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

    def progress(self, job: Job, progress: Progress, use: Use = NOTHING) -> None:
        """Print where `job` is, unless that was said a moment ago; the GPU with it, where it has one."""
        with self._lock:
            now = self._clock()
            told = self._told.get(job.run.results)
            if told is not None and not _is_news(told[0], progress, now - told[1]):
                return
            self._told[job.run.results] = (progress, now)
            on_gpu = f" on {use.gpu}" if use.gpu else ""
            say(self._console, f"{self._labels[job.run.results]}{on_gpu}: {position_text(progress)}")

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
    use : Use
        What it takes of the machine.
    """

    label: str
    started: float
    progress: Progress
    use: Use = NOTHING


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
        self._short = short_labels(jobs)
        self._clock = clock
        self._started = clock()
        self._rows: dict[Path, Row] = {}
        self._n_done = self._n_found = 0
        self._lock = RLock()
        self._live = Live(console=console, get_renderable=self.table, transient=True, refresh_per_second=4)

    def progress(self, job: Job, progress: Progress, use: Use = NOTHING) -> None:
        """Take note of where `job` is; the table shows it at its next refresh."""
        with self._lock:
            now = self._clock()
            row = self._rows.get(job.run.results)
            if row is None:
                row = Row(self._short[job.run.results], now, progress)
            self._rows[job.run.results] = replace(row, progress=progress, use=use)

    def outcome(self, job: Job, outcome: Outcome) -> None:
        """Print what came of `job` above the table, and take it out of the table."""
        with self._lock:
            self._rows.pop(job.run.results, None)
            self._n_done += 1
            self._n_found += not outcome.result.attempts
        say(self._console, Text("\n").join(outcome_lines(self._labels[job.run.results], job, outcome)))

    def table(self) -> Group:
        """Return the table as it is now, and a line on the whole batch below it."""
        with self._lock:
            now, rows = self._clock(), [self._rows[key] for key in self._labels if key in self._rows]
            below = Text(f"{self._on_the_whole(now, rows)}. Ctrl-C stops; the same command continues.", style="dim")
        # Not a caption: that would reach the last column, where the echo of Ctrl-C breaks the line.
        return Group(_drawn(rows, now, is_wide=self._console.width >= _WIDE), below) if rows else Group(below)

    def _on_the_whole(self, now: float, rows: Sequence[Row]) -> str:
        spent_s, n_sorted = now - self._started, self._n_done - self._n_found
        said = [f"{self._n_done} of {counted(len(self._labels), 'recording')} done", seconds_text(spent_s)]
        if n_sorted and self._n_done < len(self._labels):
            # Those in flight are half done, on average.
            left = len(self._labels) - self._n_done - len(rows) / 2
            said.append(f"about {seconds_text(spent_s * left / (n_sorted + len(rows) / 2))} left")
        free = [row.use.disk_free_gb for row in rows if row.use.disk_free_gb is not None]
        if free:
            said.append(f"{bytes_text(min(free) * GB)} of disk free")
        return ", ".join(said)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()


def short_labels(jobs: Sequence[Job]) -> dict[Path, str]:
    """Return "[3/24] well003" of each job: what all names begin with, as the wells of a plate do, says nothing."""
    names = [job.name for job in jobs]
    prefix = os.path.commonprefix(names)  # noqa: RUF071 - of names, not of paths
    shared = "" if prefix in names else re.sub(r"[A-Za-z0-9]*$", "", prefix)
    return {key: label.replace(f"] {shared}", "] ", 1) for key, label in labels(jobs).items()}


def _drawn(rows: Sequence[Row], now: float, *, is_wide: bool) -> Table:
    """Return the table; where there is little room, without bars and times that only refine others."""
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("recording", no_wrap=True, overflow="ellipsis", max_width=40 if is_wide else 20)
    table.add_column("doing", no_wrap=True, overflow="ellipsis", ratio=1)
    headings = ("", "spikes", "elapsed", "step left", "RAM", "GPU") if is_wide else ("", "spikes", "left", "RAM", "GPU")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, now, is_wide=is_wide))
    return table


def _cells(row: Row, now: float, *, is_wide: bool) -> tuple[Text | Table, ...]:
    progress, use = row.progress, row.use
    left = "" if progress.left_s is None else seconds_text(progress.left_s)
    return (
        Text(row.label),
        _doing(progress, is_wide=is_wide),
        _share(progress.fraction, with_bar=is_wide),
        Text(f"{progress.n_spikes:,}" if progress.n_spikes else ""),
        *([Text(seconds_text(now - row.started))] if is_wide else []),
        Text(left if is_wide else " ".join(left.split()[:2])),
        Text(bytes_text(use.ram_gb * GB) if use.ram_gb is not None else ""),
        Text(_on_gpu(use)),
    )


def _doing(progress: Progress, *, is_wide: bool) -> Text:
    """Return stage and step; where there is little room, the step alone."""
    text = Text(f"{progress.warning}; " if progress.warning else "", style="yellow")
    stage = f"{progress.stage}: " if is_wide else ""
    return text.append(f"{stage}{progress.step}" if progress.step else progress.stage, style="default")


def _on_gpu(use: Use) -> str:
    """Return "1: 12 GB", the number of the GPU and what the recording has of its memory."""
    if use.gpu is None:
        return ""
    number = use.gpu.removeprefix("GPU ")
    return number if use.vram_gb is None else f"{number}: {bytes_text(use.vram_gb * GB)}"


def _share(fraction: float | None, *, with_bar: bool) -> Text | Table:
    if fraction is None:
        return Text()
    percent = Text(f"{round(100 * fraction):3d} %")
    if not with_bar:
        return percent
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=fraction, width=10), percent)
    return grid
