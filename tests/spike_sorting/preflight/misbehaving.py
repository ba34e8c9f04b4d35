"""Recordings that nobody can open without harm."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from spikeinterface.core import BaseRecording


class Crashes(BaseRecording):  # type: ignore[misc]
    """Opening it is the end of the process, as that of a damaged file can be."""

    def __init__(self) -> None:
        ctypes.string_at(0)


class IsKilled(BaseRecording):  # type: ignore[misc]
    """Opening it takes more memory than there is, as far as the kernel is concerned."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(BaseRecording):  # type: ignore[misc]
    """Opening it takes for ever, as on a network share whose server is gone."""

    def __init__(self) -> None:
        time.sleep(3600)
