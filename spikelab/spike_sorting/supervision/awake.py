"""Keep the machine awake while it sorts; it never fails, and ends with us however we end."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from spikelab.spike_sorting.supervision.deadline import Deadline

KEEPERS: dict[str, tuple[str, ...]] = {
    "linux": ("systemd-inhibit", "--what=sleep:idle", "--who=spikelab", "--why=spike sorting", "--mode=block"),
    "darwin": ("caffeinate", "-i"),
}
"""Programs by platform that keep the machine awake while the command after them runs. Windows is asked directly."""

# It says that it has begun, and ends at the end of its input: when we close it, or are gone.
_UNTIL_WE_END = ("sh", "-c", "echo held; exec cat")
_HELD = b"held\n"
_ES_CONTINUOUS, _ES_SYSTEM_REQUIRED = 0x80000000, 0x00000001
_END_S = 2.0

_log = logging.getLogger(__name__)


@contextmanager
def stay_awake(enabled: bool = True) -> Iterator[bool]:
    """Keep the machine from sleeping inside the ``with`` block; yields whether that works.

    Where it cannot be done, one line of the log says so.

    Parameters
    ----------
    enabled : bool, default True
        Whether to do anything.
    """
    if not enabled:
        yield False
    elif sys.platform == "win32":
        with _windows() as works:
            yield works
    else:
        with _keeper(KEEPERS.get(sys.platform, ())) as works:
            yield works


@contextmanager
def _keeper(command: tuple[str, ...]) -> Iterator[bool]:
    """Run `command` around something that ends with us."""
    if not command or shutil.which(command[0]) is None:
        _say_may_sleep(f"no {command[0]}" if command else f"nothing known for {sys.platform}")
        yield False
        return
    try:
        process = subprocess.Popen(
            [*command, *_UNTIL_WE_END],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for us
        )
    except OSError as error:
        _say_may_sleep(str(error))
        yield False
        return
    is_held = False
    try:
        is_held = _is_held(process, command[0])
        yield is_held
    finally:
        _end(process, _END_S if is_held else 0.0)


def _is_held(process: subprocess.Popen[bytes], program: str) -> bool:
    try:
        answer = Deadline(program, _END_S).call(lambda: _first_line(process.stdout))
    except OSError as error:
        _say_may_sleep(str(error))
        return False
    if answer != _HELD:
        _say_may_sleep(f"{program} is refused")
    return answer == _HELD


def _first_line(stream: IO[bytes] | None) -> bytes:
    return stream.readline() if stream is not None else b""


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """End the keeper by the end of its input; it is ours, so that it may be killed when it stays."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def _windows() -> Iterator[bool]:
    """Tell Windows, for as long as this thread is inside."""
    works = _set_state_of_thread(_ES_CONTINUOUS | _ES_SYSTEM_REQUIRED)
    if not works:
        _say_may_sleep("Windows refuses")
    try:
        yield works
    finally:
        _set_state_of_thread(_ES_CONTINUOUS)


def _set_state_of_thread(flags: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.kernel32.SetThreadExecutionState(flags))
    return False


def _say_may_sleep(reason: str) -> None:
    _log.info("the machine may go to sleep while it sorts: %s", reason)
