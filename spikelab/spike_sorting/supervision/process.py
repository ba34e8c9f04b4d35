"""A supervised worker: started under a guardian, always ended, its exit told by name.

Three processes: the orchestrator (us), the guardian, and the worker. The guardian kills the worker and all that
it started when we are gone; we kill what is left when the guardian is gone; and the kernel kills the worker when
the guardian dies.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from spikelab.spike_sorting._exceptions import UnkillableProcessError
from spikelab.spike_sorting.supervision import guardian, host, sweep
from spikelab.spike_sorting.supervision.deadline import Deadline

EXIT_DISK_FULL = 74
"""With this a worker ends that could not write down how it ended: the disk is full."""
STACKS_BEGIN = "Fatal Python error"
"""Python dumps its stacks under this line when it is aborted."""
_TELL_S = 10.0
_KILL_S = 1.0
"""Time to die for what a guardian that did not listen stood over."""


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


@dataclass(frozen=True)
class Patience:
    """How long each way of stopping a worker may take (s).

    Parameters
    ----------
    terminate_s : float
        After SIGTERM.
    abort_s : float
        After SIGABRT, on which Python dumps its stacks to the log.
    kill_s : float
        After SIGKILL; a process that is still there hangs in the kernel. What comes afterwards has its own time.
    """

    terminate_s: float = 10.0
    abort_s: float = 5.0
    kill_s: float = 60.0


class WorkerProcess:
    """A worker and its guardian, ended whatever happens when the ``with`` block is left.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping
        Its whole environment.
    log : file
        Its output is appended to it. Never a pipe: nobody may be there to read it.
    status_path : Path
        File in which the guardian writes how it ended; it does not exist yet.
    inherit : sequence of int, default ()
        Descriptors that it keeps, such as the run's locks.
    afterwards : sequence of str, default ()
        Program that ends what is no process below the worker, such as a container: run when the worker has ended, be it
        that we are gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: IO[bytes],
        status_path: Path,
        inherit: Sequence[int] = (),
        afterwards: Sequence[str] = (),
    ) -> None:
        self._status_path = status_path
        self._status_disk = Deadline(f"the disk of {status_path}", _TELL_S)
        self._cookie = environment.get(sweep.RUN_COOKIE)
        self._afterwards = list(afterwards)
        self._is_abandoned = False
        last = ["--afterwards", json.dumps(self._afterwards)] if afterwards else []
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, *last, str(status_path), *command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(inherit) if host.IS_POSIX else (),
            # A Ctrl-C in the terminal is for us; a terminal that closes is no reason to stop.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the guardian; the worker and all that it starts are below it."""
        return self._guardian.pid

    def wait(self, timeout_s: float) -> ExitStatus | None:
        """Return how the worker ended, or None when it still runs after `timeout_s` seconds.

        Raises
        ------
        UnkillableProcessError
            It has ended, and left a process behind that survives SIGKILL.
        """
        returncode = host.wait_for_exit(self._guardian, timeout_s)
        if returncode is None:
            return None
        told = self._told_status()
        if told.get("survivors"):
            raise self._unkillable(told["survivors"])
        return ExitStatus(told["returncode"]) if told else self._status_of_mute_guardian(returncode)

    def stop(self, patience: Patience | None = None) -> ExitStatus:
        """End the worker: ask, then make it dump its stacks, then kill it and all below it.

        Raises
        ------
        UnkillableProcessError
            Something survives SIGKILL: it hangs in the kernel.
        """
        patience = patience or Patience()
        return self._obeyed((b"T", patience.terminate_s), (b"A", patience.abort_s), (b"K", patience.kill_s))

    def _obeyed(self, *orders: tuple[bytes, float]) -> ExitStatus:
        """Give one order after the other, each with its time, until the worker has ended."""
        for order, seconds in orders:
            self._order(order)
            exited = self.wait(seconds)
            if exited is not None:
                return exited
        # It may have ended, and what comes afterwards be on its way.
        exited = self.wait(guardian.AFTERWARDS_S) if self._afterwards else None
        return exited or self._without_guardian()

    def _without_guardian(self) -> ExitStatus:
        """End the guardian itself, which may be stopped, and sweep up what it stood over."""
        below = guardian.descendants(self.pid)
        self._guardian.kill()
        exited = self.wait(1.0)
        left = guardian.kill_all(lambda: guardian.still_living(below), _KILL_S)
        stubborn = [process.pid for process in left]
        if exited is None or stubborn:
            raise self._unkillable(stubborn)
        return exited

    def abort(self, patience: Patience | None = None) -> ExitStatus:
        """End a worker that hangs: make it dump its stacks to the log, then kill it; raise as `stop` does."""
        patience = patience or Patience()
        return self._obeyed((b"A", patience.abort_s), (b"K", patience.kill_s))

    def kill(self, kill_s: float = 60.0) -> ExitStatus:
        """End the worker and all below it at once, without asking; raise as `stop` does."""
        return self._obeyed((b"K", kill_s))

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._guardian.poll() is None and not self._is_abandoned:
                self.stop()
        finally:
            if self._guardian.stdin is not None:
                self._guardian.stdin.close()

    def _order(self, order: bytes) -> None:
        pipe = self._guardian.stdin
        if pipe is not None:
            # A guardian that has ended needs no order.
            with contextlib.suppress(BrokenPipeError):
                pipe.write(order)

    def _told_status(self) -> dict[str, Any]:
        """Return what the guardian wrote at the end of the worker; nothing when it did not come to that."""
        try:
            return dict(json.loads(self._status_disk.call(lambda: self._status_path.read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            return {}

    def _status_of_mute_guardian(self, returncode: int) -> ExitStatus:
        """The guardian left no word: it was killed, or its disk is full or dead; what is left is swept up."""
        if self._cookie is not None:
            sweep.kill_by_cookie(sweep.RUN_COOKIE, self._cookie)
        guardian.run_afterwards(self._afterwards)
        # As a shell does, the guardian adds 128 to the number of the signal that ended the worker.
        return ExitStatus(returncode if returncode <= guardian.SHELL_SIGNAL else guardian.SHELL_SIGNAL - returncode)

    def _unkillable(self, pids: Sequence[int]) -> UnkillableProcessError:
        """Give up, once: another round would not end what survived this one."""
        self._is_abandoned = True
        pid = pids[0] if pids else self.pid
        place = host.waiting_in_kernel(pid)
        msg = f"process {pid} survives SIGKILL; it hangs in the kernel at {place or 'an unknown place'}"
        return UnkillableProcessError(msg, pid=pid, wchan=place)
