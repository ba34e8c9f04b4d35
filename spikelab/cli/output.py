"""What every command shares: consoles, messages, exit codes, and how an error is told."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import typer
from rich.box import HORIZONTALS
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, SpikeSortingClassifiedError

_UNBOUNDED = 100_000
"""Columns of a file or a pipe."""

_READER_IS_GONE = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO})
"""The pipe, or the terminal, is closed at its other end."""


class ExitCode(IntEnum):
    """What the shell is told; an interrupted command ends with 128 plus the signal's number."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    ENVIRONMENT = 3


class UsageProblem(Exception):
    """The command cannot be carried out as it was given; nothing has run.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    advice : str
        What to do.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class _PatientConsole(Console):
    """A console whose reader may leave: a closed pipe or terminal ends the talking, not the sort."""

    talk_only = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        except OSError as failure:
            if not self.talk_only and failure.errno not in _READER_IS_GONE:
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # What Python still holds back would fail once more at the end, and change the exit code.
        with suppress(OSError), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())


def print_any_name() -> None:
    """Have names that the terminal cannot show, such as those of files from another system, printed by their codes.

    An error in place of them would end a sort.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def make_console(*, stderr: bool = False, talk_only: bool = False) -> Console:
    """Return a console on standard output or standard error.

    Names and paths are printed as they are: no markup is read from them and nothing in them is coloured. What can
    be done without (`talk_only`) ends silently whatever is wrong with the file, such as a full disk.
    """
    console = _PatientConsole(stderr=stderr, markup=False, highlight=False, emoji=False)
    console.talk_only = talk_only
    return console


def say(console: Console, text: str | Text, style: str = "") -> None:
    """Print text, wrapped between words on a terminal and as it is elsewhere; a path is never cut."""
    if console.is_terminal:
        text = wrapped(text if isinstance(text, Text) else Text(text), console.width)
    say_whole(console, text, style)


def say_table(console: Console, table: Table) -> None:
    """Print a table, fitted to a terminal; elsewhere each row stays on one line, however long."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        width, console.width = console.width, _UNBOUNDED
        console.print(table)
        console.width = width
    say_whole(console, "\n".join(line.rstrip() for line in captured.get().splitlines()))


def say_whole(console: Console, text: str | Text, style: str = "") -> None:
    """Print text without breaking its lines: commands and documents stay in one piece for copying."""
    console.print(text, style=style, soft_wrap=True)


def wrapped(text: Text, width: int) -> Text:
    """Return `text` with lines broken between words at `width` columns; Rich would also break within long words.

    What is left of a line that is indented is indented as much.
    """
    lines = []
    for line in text.split("\n", allow_blank=True):
        indent = line.plain[: len(line.plain) - len(line.plain.lstrip())]
        for k, piece in enumerate(line.divide(_breaks(line.plain, width, len(indent)))):
            piece.rstrip()
            lines.append(Text(indent) + piece if k else piece)
    return Text("\n").join(lines)


def _breaks(line: str, width: int, n_indent: int) -> list[int]:
    breaks, start, room = [], 0, width
    for word in re.finditer(r"\S+", line):
        if word.end() - start > room and line[start : word.start()].strip():
            start, room = word.start(), width - n_indent
            breaks.append(start)
    return breaks


def tell_problem(title: str, message: str, advice: str = "", style: str = "red") -> None:
    """Print what went wrong and what to do about it on standard error."""
    parts = [Text(message)]
    if advice:
        parts += [Text(), Text.assemble(("What to do: ", "bold"), advice)]
    panel = Panel(Group(*parts), title=Text(title), title_align="left", box=HORIZONTALS, border_style=style)
    make_console(stderr=True).print(panel)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what a command raises into a message and an exit code.

    SIGTERM, and the terminal that closes, stop as orderly as Ctrl-C.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    stopping = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    # What is ignored stays ignored: under nohup the terminal may close.
    stopping = [number for number in stopping if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in stopping}
    try:
        yield
    except UsageProblem as error:
        tell_problem("This cannot be done as asked", str(error), error.advice)
        raise typer.Exit(ExitCode.USAGE) from None
    except EnvironmentSortFailure as error:
        tell_problem(f"This machine is not ready ({error.status})", str(error), error.advice)
        raise typer.Exit(ExitCode.ENVIRONMENT) from None
    except SpikeSortingClassifiedError as error:
        tell_problem(f"Failed ({error.status})", str(error), error.advice)
        raise typer.Exit(ExitCode.SOME_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Take TypeError, ValueError and FileNotFoundError for a wrong call; used around planning alone."""
    try:
        yield
    except (TypeError, ValueError, FileNotFoundError) as error:
        if isinstance(error, SpikeSortingClassifiedError):
            raise
        raise UsageProblem(str(error)) from error


def short_path(path: str | Path) -> str:
    """Return `path` relative to the current folder where it lies below it, for reading and copying."""
    path = Path(path)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def seconds_text(seconds: float) -> str:
    """Return a duration for people: "8 s", "1 min 12 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two_units(whole // 60, "min", whole % 60, "s")
    return _two_units(whole // 3600, "h", whole % 3600 // 60, "min")


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def bytes_text(n_bytes: float) -> str:
    """Return a size for people, in powers of 1000: "12 GB", "340 MB", "2 kB"; from 1 byte up never "0"."""
    unit, size = "bytes", float(n_bytes)
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        unit, size = larger, size / 1000
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 9.95 else f"{size:.1f} {unit}"


def local_time(utc: str) -> str:
    """Return a time of the journal as clocks here show it: "2026-03-01 22:14"."""
    return datetime.fromisoformat(utc).astimezone().strftime("%Y-%m-%d %H:%M")


def counted(number: int, noun: str) -> str:
    """Return "1 unit", "2 units"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
