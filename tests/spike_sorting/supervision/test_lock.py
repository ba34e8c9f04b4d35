"""One run per folder."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, check_still_ours, hold, holder_of, read_card, release

_HOLDER = """
import subprocess, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from spikelab.spike_sorting.supervision.lock import hold
with hold([Path(folder) for folder in sys.argv[2:]]) as descriptors:
    if sys.argv[1] == "with child":
        child = subprocess.Popen(["sleep", "60"], pass_fds=descriptors)
        print(child.pid, flush=True)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(*folders: Path, how: str = "alone") -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Another process that holds the locks until its input is closed, and what it said first."""
    command = [sys.executable, "-c", _HOLDER, how, *map(str, folders)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        while not said or said[-1] != "held":
            said.append(process.stdout.readline().strip())
            assert said[-1], "the holder ended"
        try:
            yield process, said
        finally:
            process.kill()


def test_the_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    """A second run gets a ConcurrentSortError with the holder's process, host and start, until the holder ends."""
    with _holder(tmp_path / "results") as (holder, _):
        with (
            pytest.raises(ConcurrentSortError, match="is being sorted by another run") as caught,
            hold([tmp_path / "results"]),
        ):
            pytest.fail("two runs hold one folder")
        error = caught.value
        assert error.holder_pid == holder.pid
        assert error.holder_hostname == socket.gethostname()
        assert error.lock_path == str(tmp_path / "results" / LOCK_NAME)
        assert str(error.started_at) in str(error)
        assert f"process {holder.pid} on" in str(error)
        assert holder.stdin is not None
        holder.stdin.close()
        assert holder.wait(10) == 0
        with hold([tmp_path / "results"]):
            assert read_card(tmp_path / "results" / LOCK_NAME)["pid"] == os.getpid()


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    """SIGKILL of the holder frees its folders at once; nothing is left to be reclaimed."""
    with _holder(tmp_path) as (holder, _):
        assert (holder_of(tmp_path) or {}).get("pid") == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        assert holder_of(tmp_path) is None
        with hold([tmp_path]):
            assert read_card(tmp_path / LOCK_NAME)["pid"] == os.getpid()


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    """The folder is free when the last process of the run is gone, and not before."""
    with _holder(tmp_path, how="with child") as (holder, said):
        child = os.pidfd_open(int(said[0]))
        try:
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)
            with pytest.raises(ConcurrentSortError), hold([tmp_path]):
                pytest.fail("the child still works in the folder")
        finally:
            signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)
        _wait_until_free(tmp_path)


def _wait_until_free(folder: Path) -> None:
    for _ in range(200):
        with suppress(ConcurrentSortError), hold([folder]):
            return
        time.sleep(0.02)
    pytest.fail("the folder is still held")


def test_the_same_process_cannot_hold_a_folder_twice(tmp_path: Path) -> None:
    """Two jobs of one process exclude each other as well."""
    with hold([tmp_path]), pytest.raises(ConcurrentSortError, match=f"process {os.getpid()} on"), hold([tmp_path]):
        pytest.fail("held twice")
    with hold([tmp_path]):
        pass


def test_all_folders_or_none(tmp_path: Path) -> None:
    """When one folder is held by another run, the others are free again."""
    with _holder(tmp_path / "b"):
        with pytest.raises(ConcurrentSortError), hold([tmp_path / "a", tmp_path / "b"]):
            pytest.fail("held")
        with hold([tmp_path / "a"]):
            pass


_FORK = """
import os, sys, time
from pathlib import Path
from threading import Event
from support import FakeGpus
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.slots import GpuSlots
folder, gpus = Path(sys.argv[1]), GpuSlots(FakeGpus(1), Path(sys.argv[1]))
def locked():
    return hold([folder]) if sys.argv[2] == "folder" else gpus.hold(gpus.visible(), "run", Event())
with locked():
    fork = os.fork()
    if fork == 0:
        time.sleep(60)
with locked():  # at once, or when the fork has come to run
    os.kill(fork, 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("what", ["folder", "gpu"])
def test_a_fork_does_not_keep_what_its_parent_held(what: str, tmp_path: Path) -> None:
    """A folder, or a GPU, is free when its holder lets go, whatever that has forked meanwhile and lives on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _FORK, tmp_path, what], env=environment, check=False, timeout=20)
    assert done.returncode == 0


def test_one_folder_named_twice_is_held_once(tmp_path: Path) -> None:
    """A folder does not exclude itself."""
    with hold([tmp_path, tmp_path]) as descriptors:
        assert len(descriptors) == 1


def test_the_lock_file_is_never_replaced(tmp_path: Path) -> None:
    """The file stays the same file over many runs: unlinking it would let two runs in."""
    with hold([tmp_path]):
        first = (tmp_path / LOCK_NAME).stat().st_ino
    for _ in range(3):
        with hold([tmp_path]):
            assert (tmp_path / LOCK_NAME).stat().st_ino == first
    assert (tmp_path / LOCK_NAME).stat().st_ino == first


def test_descriptors_are_closed_and_not_inherited_by_accident(tmp_path: Path) -> None:
    """A child gets the lock only when it is handed over, and the holder keeps no descriptor afterwards."""
    with hold([tmp_path]) as (descriptor,):
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_lock_is_closed_once(tmp_path: Path) -> None:
    """A share that fails when a lock is closed costs no outcome, and no other file that has got its number since."""
    closed: list[int] = []

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    release(99, tmp_path / LOCK_NAME, close=close)
    assert closed == [99]


@pytest.mark.parametrize("card", ["", "{", "[1]", "\xff\xfe"])
def test_a_card_that_cannot_be_read_is_no_obstacle(card: str, tmp_path: Path) -> None:
    """A torn card changes the message only."""
    with _holder(tmp_path):
        (tmp_path / LOCK_NAME).write_bytes(card.encode("latin-1"))
        with pytest.raises(ConcurrentSortError, match="holder unknown"), hold([tmp_path]):
            pytest.fail("held")
    assert read_card(tmp_path / "absent") == {}


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this system has no other user to be")
def test_a_colleague_who_may_only_read_sees_the_holder() -> None:
    """Whoever may read a folder is told who holds it, and that nobody does."""
    with TemporaryDirectory() as made:
        folder, me = Path(made), os.geteuid()
        folder.chmod(0o755)
        with hold([folder]):
            (folder / LOCK_NAME).chmod(0o444)
            if me == 0:
                os.seteuid(65534)
            try:
                held = holder_of(folder)
            finally:
                os.seteuid(me)
        assert held is not None
        assert held["pid"] == os.getpid()
        assert holder_of(folder) is None


def test_a_later_try_of_a_run_takes_the_folder_over(tmp_path: Path) -> None:
    """A later try gets the folder once the earlier one, told by the card that it has lost, gives it back."""
    folder, earlier = tmp_path / "results", "night.first"

    def lose() -> None:
        with hold([folder], earlier):
            begun.set()
            with suppress(ConcurrentSortError):
                while True:
                    check_still_ours([folder], earlier)
            lost.set()

    begun, lost = threading.Event(), threading.Event()
    thread = threading.Thread(target=lose)
    thread.start()
    begun.wait()
    with hold([folder], "night.second"):
        thread.join()
        assert lost.is_set()
        check_still_ours([folder], "night.second")


@pytest.mark.parametrize("run_id", [None, "other.second", "other", "night"])
def test_nobody_else_takes_a_folder_over(tmp_path: Path, run_id: str | None) -> None:
    """A run that is no later try of the holder's gets an error at once, and the holder keeps its folder."""
    with hold([tmp_path], "night.first"):
        with pytest.raises(ConcurrentSortError), hold([tmp_path], run_id):
            pytest.fail("two runs hold one folder")
        check_still_ours([tmp_path], "night.first")
