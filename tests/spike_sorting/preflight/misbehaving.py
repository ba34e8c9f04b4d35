"""Recordings that nobody can open without harm."""

from __future__ import annotations

import ctypes
import time

from spikeinterface.core import BaseRecording


class Crashes(BaseRecording):  # type: ignore[misc]
    """Opening it is the end of the process, as that of a damaged file can be."""

    def __init__(self) -> None:
        ctypes.string_at(0)


class Hangs(BaseRecording):  # type: ignore[misc]
    """Opening it takes for ever, as on a network share whose server is gone."""

    def __init__(self) -> None:
        time.sleep(3600)
