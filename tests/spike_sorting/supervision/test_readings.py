"""The readings are those of real processes, files, control groups and disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.progress import Progress, ProgressFile
from spikelab.spike_sorting.supervision.readings import SystemReadings, Words, disk_use, oom_kills
from spikelab.spike_sorting.supervision.tree import TreeUse

linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python child that says "ready"; killed at the end, with all it started."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its group lives as long as it is not waited for
        process.communicate()


def go_on(process: subprocess.Popen[str]) -> None:
    """Let a child that waits for a line do its next part; return when it says that it has."""
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


class Clock:
    """A clock that is put forward so that costly readings are due again."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def readings(pid: int, folder: Path, clock: Callable[[], float] = time.monotonic, **options) -> SystemReadings:
    return SystemReadings(pid, folder / "sorting.log", folder / "progress.json", clock=clock, **options)


def wait_until(seen: SystemReadings, holds: Callable[[TreeUse], bool], clock: Clock, limit_s: float = 20) -> TreeUse:
    give_up = time.monotonic() + limit_s
    while not holds(use := seen.tree()):
        assert time.monotonic() < give_up, use
        clock.now += 60
        time.sleep(0.05)
    return use


# --------------------------------------------------------------------------------------------------- processes


def test_memory_of_the_run_follows_what_it_allocates(tmp_path: Path):
    """A child that takes 120 MB is seen to take them."""
    code = "print('ready', flush=True); input(); x = b'x' * 120_000_000; print('ready', flush=True); input()"
    with child(code) as process:
        seen = readings(process.pid, tmp_path)
        before = seen.tree().memory_bytes
        go_on(process)
        assert 115e6 < seen.tree().memory_bytes - before < 140e6


def test_the_tree_is_the_process_and_all_below_it(tmp_path: Path):
    """Grandchildren count while they live, and the run is empty when it has ended."""
    code = (
        "import subprocess, sys, time\n"
        "inner = [sys.executable, '-I', '-c', 'import time; time.sleep(60)']\n"
        "outer = 'import subprocess, time; subprocess.Popen(%r); time.sleep(60)' % inner\n"
        "p = subprocess.Popen([sys.executable, '-I', '-c', outer]); print('ready', flush=True); time.sleep(60)\n"
    )
    clock = Clock()
    with child(code) as process:
        seen = readings(process.pid, tmp_path, clock)
        use = wait_until(seen, lambda use: len(use.pids) == 3, clock)
        assert process.pid in use.pids
        grandchild = next(p for p in psutil.Process(process.pid).children(recursive=True) if not p.children())
        grandchild.kill()
        wait_until(seen, lambda use: use.pids == frozenset({process.pid, grandchild.ppid()} - {grandchild.pid}), clock)
    clock.now += 60
    assert seen.tree() == TreeUse(frozenset(), 0, 0, None)
    assert seen.blocked() == {}


@linux_only
def test_shared_pages_count_once(tmp_path: Path):
    """Four processes that share 100 MB do not look like 400."""
    code = (
        "import os, time\n"
        "x = bytearray(100_000_000)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        sum(x[::4096]); time.sleep(60)\n"
        "time.sleep(0.5); print('ready', flush=True); time.sleep(60)\n"
    )
    clock = Clock()
    with child(code) as process:
        seen = readings(process.pid, tmp_path, clock)
        rss = sum(p.memory_info().rss for p in [psutil.Process(process.pid), *psutil.Process(process.pid).children()])
        assert rss > 380e6
        assert 95e6 < wait_until(seen, lambda use: len(use.pids) == 4, clock).memory_bytes < 180e6


@linux_only
def test_reading_from_the_page_cache_moves_bytes(tmp_path: Path):
    """A file that is read from memory counts as input."""
    file = tmp_path / "data"
    file.write_bytes(b"x" * 1_000_000)
    code = (
        f"print('ready', flush=True)\ninput()\nfor _ in range(5):\n    open({str(file)!r}, 'rb').read()\n"
        "print('ready', flush=True); input()"
    )
    with child(code) as process:
        seen = readings(process.pid, tmp_path)
        before = seen.tree().io_bytes
        go_on(process)
        assert seen.tree().io_bytes - before >= 5_000_000


def test_processor_time_is_that_of_all(tmp_path: Path):
    """A child that computes is seen to compute."""
    with child("print('ready', flush=True)\nwhile True: pass") as process:
        seen = readings(process.pid, tmp_path)
        before = seen.tree().cpu_s
        give_up = time.monotonic() + 20
        while seen.tree().cpu_s < before + 0.2:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_a_stopped_process_is_seen(tmp_path: Path):
    """A process that was stopped by a signal counts as such, and no longer when it continues."""
    clock = Clock()
    with child("import time; print('ready', flush=True); time.sleep(60)") as process:
        seen = readings(process.pid, tmp_path, clock)
        assert seen.tree().n_stopped == 0
        process.send_signal(signal.SIGSTOP)
        wait_until(seen, lambda use: use.n_stopped == 1, clock)
        process.send_signal(signal.SIGCONT)
        wait_until(seen, lambda use: use.n_stopped == 0, clock)


@linux_only
def test_a_thread_that_hangs_in_the_kernel_is_named(tmp_path: Path, require_program):
    """A process in uninterruptible sleep (here: after vfork) is found, with the place where it waits."""
    source = tmp_path / "hang.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n"
        'int main(void) { puts("ready"); fflush(stdout); if (vfork() == 0) { sleep(60); _exit(0); } return 0; }'
    )
    subprocess.run([require_program("gcc"), "-w", "-o", tmp_path / "hang", source], check=True, capture_output=True)
    process = subprocess.Popen([tmp_path / "hang"], start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        seen = readings(process.pid, tmp_path)
        give_up = time.monotonic() + 20
        while not (blocked := seen.blocked()):
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert blocked == {process.pid: host.waiting_in_kernel(process.pid) or "an unknown place"}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_further_processes_may_belong_to_the_run(tmp_path: Path):
    """The processes of a container, which are not below the worker, can be named."""
    with child("import time; print('ready', flush=True); time.sleep(60)") as process:
        seen = readings(process.pid, tmp_path, more=lambda: [os.getpid()])
        assert {os.getpid(), process.pid} <= seen.tree().pids


def test_a_disk_that_does_not_tell_of_further_processes_stops_no_reading(tmp_path: Path):
    """What else belongs to a run is as it was seen last where the disk fails that tells of it, or hangs."""
    clock, answers, further = Clock(), threading.Event(), iter(["told", "failed", "silent"])

    def told() -> list[int]:
        answer = next(further)
        if answer == "failed":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if answer == "silent":
            answers.wait(20)
        return [os.getpid()]

    with child("import time; print('ready', flush=True); time.sleep(60)") as process:
        seen = readings(process.pid, tmp_path, more=told, clock=clock)
        for _ in range(4):
            clock.now += 60
            assert {os.getpid(), process.pid} <= seen.tree().pids
        answers.set()
    assert not list(further)


def test_a_process_that_is_gone_waits_nowhere():
    """Without the process there is no place and no error."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert host.waiting_in_kernel(process.pid) is None


# -------------------------------------------------------------------------------------------- machine and files


def test_memory_of_the_machine_is_a_share(tmp_path: Path):
    """The machine's memory is a percentage of what there is."""
    use = readings(os.getpid(), tmp_path).memory()
    assert 0 < use.percent <= 100
    assert use.total_bytes > 1e8


def test_log_and_heartbeat_are_there_when_written(tmp_path: Path):
    """Log and progress are empty before they exist and change with each word."""
    seen = readings(os.getpid(), tmp_path)
    assert seen.words() == Words(0, 0, None)
    (tmp_path / "sorting.log").write_text("hello\n")
    assert seen.words() == Words(6, 0, None)
    progress = ProgressFile(tmp_path / "progress.json", "sort")
    progress.report("drift", 0.5)
    first = seen.words()
    assert first.progress == Progress("sort", "drift", 0.5)
    time.sleep(0.02)
    progress.report("clustering", 0.0)
    assert seen.words() != first
    (tmp_path / "progress.json").write_text("{torn")
    assert seen.words().progress is None


def test_a_disk_has_space_and_a_name(tmp_path: Path):
    """A folder's volume has free space, and two folders of one volume are known to be."""
    (tmp_path / "sub").mkdir()
    use = readings(os.getpid(), tmp_path).disk(tmp_path)
    assert 0 < use.free_bytes <= use.total_bytes
    assert disk_use(tmp_path / "sub").volume == use.volume
    with pytest.raises(FileNotFoundError):
        readings(os.getpid(), tmp_path).disk(tmp_path / "none")


@linux_only
def test_a_small_disk_is_seen_to_fill(tmp_path: Path, require_program):
    """On a real file system of 20 MB with 50 inodes, space and inodes go down as files are written."""
    code = (
        "import pathlib, sys\n"
        "from spikelab.spike_sorting.supervision.readings import disk_use\n"
        "folder = pathlib.Path(sys.argv[1]); a = disk_use(folder)\n"
        "(folder / 'file').write_bytes(bytes(10_000_000)); b = disk_use(folder)\n"
        "print(a.total_bytes, a.total_inodes, a.free_bytes - b.free_bytes, a.free_inodes - b.free_inodes)\n"
    )
    mount = f'mount -t tmpfs -o size=20m,nr_inodes=50 none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    done = subprocess.run(
        [require_program("unshare"), "-rm", "sh", "-c", mount, code], capture_output=True, text=True, check=False
    )
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    total, inodes, written, made = map(int, done.stdout.split())
    assert (total, inodes, made) == (20 * 1024**2, 50, 1)
    assert 10_000_000 <= written < 10_100_000


def test_kills_for_lack_of_memory_are_counted_somewhere(tmp_path: Path):
    """The kernel's counter is a number where there is one, the machine's where the group has none, else nothing."""
    (tmp_path / "vmstat").write_text("pgfault 17\noom_kill 3\noom_kill_other 9\n")
    assert oom_kills(proc=tmp_path) == 3
    assert oom_kills(proc=tmp_path / "none") is None
    if Path("/proc/vmstat").exists():
        assert readings(os.getpid(), tmp_path).oom_kills() >= 0
