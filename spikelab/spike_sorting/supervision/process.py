"""A supervised worker process: started in its own session, always ended, its exit told by name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

GRACE_S = 10.0


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended.

    Parameters
    ----------
    returncode : int
        As in ``subprocess``: negative for a signal.
    """

    returncode: int

    @property
    def name(self) -> str:
        """The exit in words: "exit 3", "SIGKILL"."""
        if self.returncode >= 0:
            return f"exit {self.returncode}"
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"


class WorkerProcess:
    """A child in a session of its own, ended whatever happens when the ``with`` block is left.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping
        Its whole environment.
    log_path : Path
        File that its output is appended to. Never a pipe: nobody may be there to read it.
    inherit : sequence of int, default ()
        Descriptors that it keeps, such as the run's locks.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        inherit: Sequence[int] = (),
    ) -> None:
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(inherit) if os.name == "posix" else (),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def wait(self, timeout_s: float) -> ExitStatus | None:
        """Return how it ended, or None when it still runs after `timeout_s` seconds."""
        try:
            return ExitStatus(self._process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> ExitStatus:
        """End it at once, without asking; return how it ended."""
        self._process.kill()
        return ExitStatus(self._process.wait())

    def stop(self, grace_s: float = GRACE_S) -> ExitStatus:
        """Ask it to end, and after `grace_s` seconds make it; return how it ended.

        What it started itself ends with it, unless that is in a session of its own.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
            finally:  # an impatient Ctrl-C must not leave it behind
                self._process.kill()
        ended = ExitStatus(self._process.wait())
        self._kill_group()
        return ended

    def _kill_group(self) -> None:
        """Kill what is left of its session, such as a pool of processes that nobody tells to end.

        The number of a group is not given to another one while the group has a member; where it has none any
        more, there is nobody to be hit by mistake unless all numbers were used up since the leader ended.
        """
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
