"""What happened, in order: one JSON object a line, appended in one write so that lines never mix."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.supervision import host


@dataclass(frozen=True)
class Journal:
    """Append-only events of a run.

    Parameters
    ----------
    path : Path
        The file ``events.jsonl``.
    """

    path: Path

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the time and `fields`, durably."""
        self.append(entry(event, fields))

    def append(self, line: str) -> None:
        """Append an `entry`, durably."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            start = "\n" if _is_torn(descriptor) else ""
            _write_all(descriptor, (start + line).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        """Return all events; a line torn by a crash is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        parsed = (_parse(line) for line in lines)
        return [event for event in parsed if event is not None]


def entry(event: str, fields: Mapping[str, Any]) -> str:
    """Return the line that tells of `event`, which happens now."""
    return json.dumps({"time": host.utc_now(), "event": event, **fields}, allow_nan=False) + "\n"


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in one write as long as the disk takes it."""
    while data:
        data = data[os.write(descriptor, data) :]


def _is_torn(descriptor: int) -> bool:
    """Return whether a crash cut the last line, so that the next one would be lost with it.

    A line that another process is writing just now looks the same, but not for long.
    """
    for pause_s in (0.0, 0.01, 0.05):
        time.sleep(pause_s)
        if os.lseek(descriptor, 0, os.SEEK_END) == 0:
            return False
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) == b"\n":
            return False
    return True


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
