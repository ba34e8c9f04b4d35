"""Supervised workers: how they end, and that they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.process import ExitStatus, Patience, WorkerProcess

SHORT = Patience(terminate_s=0.5, abort_s=0.5, kill_s=20.0)
_DEAF = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, {more}):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
_PARENT = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "60"], start_new_session={alone})
print(child.pid, flush=True)
{then}
"""
_SHARING = """
import multiprocessing, os, subprocess, sys, time
from multiprocessing.shared_memory import SharedMemory
def main():
    segment = SharedMemory(create=True, size=1_000_000)
    segment.buf[:] = bytes(1_000_000)
    # Processes of a pool keep the pipe to what releases the memory open.
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    print(segment.name, flush=True)
    {then}
main()
"""

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that starts a worker on a piece of Python, with its log in ``log``."""

    def start_worker(code: str, inherit: tuple[int, ...] = (), afterwards: tuple[str, ...] = ()) -> WorkerProcess:
        with (tmp_path / "log").open("ab") as log:
            return WorkerProcess(
                [sys.executable, "-c", code],
                environment=host.worker_environment(1),
                log=log,
                status_path=tmp_path / "status.json",
                inherit=inherit,
                afterwards=afterwards,
            )

    return start_worker


def _first_line(log: Path) -> str:
    """Wait until the worker has said something, and return it."""
    for _ in range(1000):
        if log.exists() and log.read_text().endswith("\n"):
            return log.read_text().splitlines()[0]
        time.sleep(0.01)
    pytest.fail("the worker said nothing")


def _lives(pid: int) -> bool:
    """Return whether a process is there; one that is dead and waits for its parent is not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "code,name",
    [
        ("pass", "exit 0"),
        ("raise SystemExit(3)", "exit 3"),
        ("1 / 0", "exit 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
    ],
)
def test_an_exit_has_a_name(code: str, name: str, start: Start) -> None:
    """Codes and signals are told by name."""
    with start(code) as worker:
        exited = worker.wait(20)
    assert exited is not None
    assert exited.name == name


def test_a_signal_without_a_name() -> None:
    """A real-time signal is told by its number."""
    assert ExitStatus(-63).name == "signal 63"


def test_a_worker_that_runs_has_no_exit_yet(start: Start) -> None:
    """Waiting is bounded."""
    with start("import time; time.sleep(60)") as worker:
        assert worker.wait(0.1) is None


@pytest.mark.parametrize(
    "more,name", [("signal.SIGUSR1", "SIGABRT"), ("signal.SIGABRT", "SIGKILL")], ids=["terminate", "abort"]
)
def test_a_worker_that_does_not_listen_is_ended(more: str, name: str, start: Start, tmp_path: Path) -> None:
    """Stopping escalates from asking to aborting to killing."""
    with start(_DEAF.format(more=more)) as worker:
        _first_line(tmp_path / "log")
        assert worker.stop(SHORT).name == name


def test_a_worker_that_listens_ends_by_itself(start: Start, tmp_path: Path) -> None:
    """A worker that answers SIGTERM ends as it wants to."""
    code = "import signal, time; signal.signal(15, lambda *_: exit(7)); print('ready', flush=True); time.sleep(60)"
    with start(code) as worker:
        _first_line(tmp_path / "log")
        assert worker.stop(SHORT).name == "exit 7"
        assert worker.stop(SHORT).name == "exit 7"


def test_a_stopped_worker_is_ended(start: Start, tmp_path: Path) -> None:
    """A worker that was frozen with SIGSTOP is ended as well."""
    with start("import os; print(os.getpid(), flush=True); os.kill(os.getpid(), 19)") as worker:
        pid = int(_first_line(tmp_path / "log"))
        assert worker.stop(SHORT).name == "SIGKILL"
        assert not _lives(pid)


def test_killing_does_not_ask(start: Start, tmp_path: Path) -> None:
    """A kill ends the worker at once."""
    with start(_DEAF.format(more="signal.SIGABRT")) as worker:
        _first_line(tmp_path / "log")
        assert worker.kill().name == "SIGKILL"


def test_leaving_the_block_ends_the_worker(start: Start, tmp_path: Path) -> None:
    """Whatever is raised in the block, the worker does not outlive it."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"

    def interrupted() -> None:
        with start(code):
            assert _lives(int(_first_line(tmp_path / "log")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not _lives(int(_first_line(tmp_path / "log")))


@pytest.mark.parametrize("more,name", [("signal.SIGUSR1", "SIGABRT"), ("signal.SIGABRT", "SIGKILL")])
def test_what_comes_afterwards_comes_to_its_end(more: str, name: str, start: Start, tmp_path: Path) -> None:
    """What ends a container is not killed with the worker, however slow it is, and no worker has ended before it."""
    ended = tmp_path / "ended"
    slow = (sys.executable, "-c", f"import pathlib, time; time.sleep(1.5); pathlib.Path({str(ended)!r}).touch()")
    with start(_DEAF.format(more=more), afterwards=slow) as worker:
        _first_line(tmp_path / "log")
        assert worker.stop(Patience(0.2, 0.2, 0.2)).name == name
        assert ended.exists()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("then", ["time.sleep(60)", "pass"], ids=["stopped", "ended by itself"])
def test_what_a_worker_started_ends_with_it(alone: bool, then: str, start: Start, tmp_path: Path) -> None:
    """Children of a worker do not outlive it, in its session or in one of their own."""
    with start(_PARENT.format(alone=alone, then=then)) as worker:
        pid = int(_first_line(tmp_path / "log"))
        if then == "pass":
            assert worker.wait(20) == ExitStatus(0)
        else:
            assert _lives(pid)
            worker.stop(SHORT)
        assert not _lives(pid)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no folder here")
@pytest.mark.parametrize("way", ["killed", "crashes", "under a guardian that does not listen"])
def test_shared_memory_of_a_worker_goes_with_it(way: str, start: Start, tmp_path: Path) -> None:
    """However a worker dies, what it and its children share is given back: nothing else would before a restart."""
    with start(_SHARING.format(then="os.abort()" if way == "crashes" else "time.sleep(60)")) as worker:
        segment = Path("/dev/shm", _first_line(tmp_path / "log"))
        if way == "crashes":
            assert worker.wait(20) == ExitStatus(-6)
        else:
            assert segment.exists()
            if way != "killed":
                os.kill(worker.pid, signal.SIGSTOP)
            worker.kill(0.5)
    assert not segment.exists()
    assert "leaked" not in (tmp_path / "log").read_text()


def test_output_goes_to_the_log(start: Start, tmp_path: Path) -> None:
    """Both streams are appended to the log, and megabytes of it do not block the worker."""
    (tmp_path / "log").write_text("before\n")
    with start("import os, sys; os.write(2, b'error\\n'); sys.stdout.write('x' * 3_000_000)") as worker:
        assert worker.wait(20) == ExitStatus(0)
    text = (tmp_path / "log").read_text()
    assert text.startswith("before\nerror\nxxx")
    assert len(text) == len("before\nerror\n") + 3_000_000


def test_nobody_answers_a_worker_that_asks(start: Start) -> None:
    """A worker that reads its input finds it empty instead of waiting for ever."""
    with start("import sys; assert sys.stdin.read() == ''") as worker:
        assert worker.wait(20) == ExitStatus(0)


def test_a_worker_keeps_the_lock_that_it_is_handed(start: Start, tmp_path: Path) -> None:
    """The folder stays locked while the worker lives, although the run that started it has let go."""
    with hold([tmp_path / "run"]) as locks:
        worker = start("import time; print('ready', flush=True); time.sleep(60)", inherit=locks)
    with worker:
        _first_line(tmp_path / "log")
        with pytest.raises(ConcurrentSortError), hold([tmp_path / "run"]):
            pytest.fail("the worker still works in the folder")
    with hold([tmp_path / "run"]):
        pass
