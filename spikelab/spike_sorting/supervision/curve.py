"""The resource curve of a run: memory, GPU and disk over time, as a small CSV file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from spikelab.spike_sorting.supervision.deadline import Deadline

COLUMNS = (
    "host_ram_pct",
    "run_ram_gb",
    "run_cpu_cores",
    "gpu_used_pct",
    "gpu_own_gb",
    "gpu_util_pct",
    "gpu_temp_c",
    "disk_free_inter_gb",
    "disk_free_results_gb",
)
"""Columns after ``elapsed_s``; each is the value of the sensor of that name, empty where it saw nothing."""
FALLING = frozenset({"disk_free_inter_gb", "disk_free_results_gb"})
"""Columns of which the lowest value of an interval is kept; of the others it is the highest."""

FIRST_INTERVAL_S = 2.0
LINES_PER_INTERVAL = 900
"""After so many lines the interval doubles: 24 hours are some 5,500 lines, 400 KB."""

_TAIL_BYTES = 4096

_log = logging.getLogger(__name__)


class CurveWriter:
    """Appends the worst values of each interval to a CSV file, one for all workers of a run.

    A file that is there already is continued: the time without a run counts as none. What cannot be written is
    lost; watching goes on.

    Parameters
    ----------
    path : Path
        The file, ``watchdog.csv``.
    clock : callable
        Monotonic time (s).
    """

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._disk = Deadline(f"the disk of {path}")
        self._worst: dict[str, float] = {}
        self._has_failed = False
        rows = read_curve(path)
        self._n_lines = len(rows)
        self._offset_s = (rows[-1]["elapsed_s"] or 0.0) if rows else 0.0
        self._started_s = clock()
        self._written_s: float | None = None

    def __call__(self, values: Mapping[str, float | None]) -> None:
        """Take in the values of a poll, and write a line when it is time."""
        for column in COLUMNS:
            value = values.get(column)
            if value is not None:
                worst = min if column in FALLING else max
                self._worst[column] = worst(value, self._worst.get(column, value))
        now_s = self._clock()
        if self._written_s is None or now_s - self._written_s >= self._interval_s():
            self._written_s = now_s
            self._append(now_s)

    def flush(self) -> None:
        """Write what is not written yet; for the end of a worker."""
        if self._worst:
            self._append(self._clock())

    def _interval_s(self) -> float:
        return float(FIRST_INTERVAL_S * 2 ** (self._n_lines // LINES_PER_INTERVAL))

    def _append(self, now_s: float) -> None:
        cells = [f"{self._offset_s + now_s - self._started_s:.1f}"]
        cells += [f"{self._worst[column]:.4g}" if column in self._worst else "" for column in COLUMNS]
        self._worst = {}
        self._n_lines += 1
        line = ",".join(cells)
        try:
            self._disk.call(lambda: _append_line(self._path, line))
        except OSError as error:
            if not self._has_failed:
                _log.warning("the resource curve %s has gaps: %s", self._path, error)
            self._has_failed = True


def read_curve(path: Path) -> list[dict[str, float | None]]:
    """Return the rows of a resource curve; empty where there is none, without lines that a crash tore."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    header, _, body = text.partition("\n")
    columns = header.split(",")
    rows = (_parse(line.split(",")) for line in body.splitlines())
    return [dict(zip(columns, row, strict=True)) for row in rows if row is not None and len(row) == len(columns)]


def last_row(path: Path) -> dict[str, float | None]:
    """Return the last whole row of a resource curve, from its end alone; empty where there is none."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            file.seek(max(len(header), path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("ascii", errors="replace").split("\n")[:-1]
    except OSError:
        return {}
    columns = header.decode("ascii", errors="replace").strip().split(",")
    rows = (_parse(line.split(",")) for line in reversed(lines))
    return next((dict(zip(columns, row, strict=True)) for row in rows if row and len(row) == len(columns)), {})


def _parse(cells: list[str]) -> list[float | None] | None:
    try:
        return [float(cell) if cell else None for cell in cells]
    except ValueError:
        return None


def _append_line(path: Path, line: str) -> None:
    """Append `line` in one write, after a header in a new file, and never to a line that was torn."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        start = "" if size else ",".join(("elapsed_s", *COLUMNS)) + "\n"
        if size:
            os.lseek(descriptor, -1, os.SEEK_END)
            start = "" if os.read(descriptor, 1) == b"\n" else "\n"
        os.write(descriptor, f"{start}{line}\n".encode("ascii"))
    finally:
        os.close(descriptor)
