"""The journal of a run for those who must not wait: events are written in order, as fast as the disk lets us."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from spikelab.spike_sorting.supervision.journal import entry

_log = logging.getLogger(__name__)

_GLANCE_S = 2.0
"""A healthy disk writes an event in less; while it does, events of the worker stand where they belong."""


class Notes:
    """Events on their way to a journal; safe to use from several threads.

    On a disk that is slow for a while nothing is lost; on one that is full or dead, the log says what is.

    Parameters
    ----------
    append : callable
        Appends a line to the journal, durably, or raises OSError.
    glance_s : float, default 2
        How long adding an event waits for it to be written (s), as long as the ones before it are.
    """

    def __init__(self, append: Callable[[str], object], glance_s: float = _GLANCE_S) -> None:
        self._append = append
        self._glance_s = glance_s
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._writer: threading.Thread | None = None

    def add(self, event: str, **fields: Any) -> None:
        """Have an event written, which happens now."""
        line = entry(event, fields)
        with self._lock:
            self._waiting.append(line)
            if self._writer is not None:
                return
            self._writer = threading.Thread(target=self._write, name="spikelab-journal", daemon=True)
            writer = self._writer
        try:
            writer.start()
        except RuntimeError:  # no further thread is to be had
            self._write()
        else:
            writer.join(self._glance_s)

    def flush(self, limit_s: float) -> bool:
        """Wait until everything is written, at most `limit_s` seconds; return whether it is."""
        writer = self._writer
        if writer is not None:
            writer.join(limit_s)
        return self._writer is None

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    return
                line = self._waiting.popleft()
            try:
                self._append(line)
            except OSError as error:
                _log.warning("the journal lacks an event, %s: %s", error, line.rstrip())
