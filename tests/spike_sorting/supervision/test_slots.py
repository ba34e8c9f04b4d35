"""GPUs, one sort at a time on each, whoever sorts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from support import FakeGpus

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, GpuLostError, UnkillableProcessError
from spikelab.spike_sorting.supervision.devices import Device, visible_devices
from spikelab.spike_sorting.supervision.gpu_locks import held_gpus
from spikelab.spike_sorting.supervision.slots import GpuSlots

NEVER = threading.Event()
_HOLD = """
import codecs, os, sys, threading
from pathlib import Path
from support import FakeGpus
from spikelab.spike_sorting.supervision.slots import GpuSlots
folder, user = Path(sys.argv[1]), int(sys.argv[2])
codecs.lookup("ascii")  # that user may not read what this interpreter still has to load
if user:
    os.setuid(user)
slots = GpuSlots(FakeGpus(1), folder)
with slots.hold(slots.visible(), "another", threading.Event(), lambda held: print("waits:", held, flush=True)):
    print("holds", flush=True)
    sys.stdin.readline()
"""


def hold_elsewhere(folder: Path, user: int = 0) -> subprocess.Popen[str]:
    """Start a process that takes the only GPU and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder), str(user)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "driver,listed,number,expected",
    [
        (FakeGpus(2), None, None, [("GPU-000", 0), ("GPU-111", 1)]),
        (FakeGpus(2), None, 1, [("GPU-111", 1)]),
        (FakeGpus(4), "3,2", 1, [("GPU-222", 2)]),
        (FakeGpus(4), " GPU-222 ,1", None, [("GPU-222", 2), ("GPU-111", 1)]),
        (FakeGpus(4), "1,-1,2", None, [("GPU-111", 1)]),
        (FakeGpus(2), "MIG-7/1/0", None, [("MIG-7/1/0", None)]),
        (FakeGpus(2), "", None, []),
        (FakeGpus(0), None, None, []),
        (FakeGpus(1), None, 1, []),
        (FakeGpus(2, has_uuids=False), None, None, [("0", 0), ("1", 1)]),
        (FakeGpus(None), None, 1, [("1", 1)]),
    ],
)
def test_the_gpus_are_those_that_cuda_lists(driver: FakeGpus, listed: str | None, number: int | None, expected) -> None:
    """What may be used follows CUDA_VISIBLE_DEVICES, in its order, and each GPU is known by what tells it from others.

    A driver that does not answer is no reason to believe that there is no GPU: that one may be in trouble.
    """
    assert visible_devices(driver, listed, number) == tuple(Device(key, index) for key, index in expected)


def test_a_gpu_has_one_sort_and_all_gpus_are_used(tmp_path: Path) -> None:
    """Eight sorts that ask at once for any of three GPUs: each has one, none is shared, none stays idle."""
    held: dict[Device, int] = {}
    most, used, at_once = [], set(), threading.Lock()

    def sort() -> None:
        slots = GpuSlots(FakeGpus(3), tmp_path)  # as in a batch of its own
        with slots.hold(slots.visible(), "run", NEVER) as slot:
            with at_once:
                held[slot.device] = held.get(slot.device, 0) + 1
                used.add(slot.device)
                most.append(max(held.values()))
            time.sleep(0.05)
            with at_once:
                held[slot.device] -= 1

    threads = [threading.Thread(target=sort) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (max(most), len(most), len(used)) == (1, 8, 3)


def test_a_gpu_that_others_fill_comes_last(tmp_path: Path) -> None:
    """Of free GPUs the one with most free memory is taken, whatever is used of a larger one; last, an unknown one."""
    memory = {"total_bytes": {0: None, 1: 24, 2: 4, 3: 24}, "used_bytes": {1: 22, 2: 1, 3: 20}}
    slots = GpuSlots(FakeGpus(4, **memory), tmp_path)
    with ExitStack() as held:
        taken = [held.enter_context(slots.hold(slots.visible(), "run", NEVER)).device.index for _ in range(4)]
    assert taken == [3, 2, 1, 0]


def test_a_waiter_in_another_process_starts_when_the_holder_is_gone(tmp_path: Path) -> None:
    """A second batch waits, is told who holds the GPU, and has it within 5 s after the holder was killed."""
    with hold_elsewhere(tmp_path) as holder:
        assert holder.stdout.readline() == "holds\n"
        slots, told = GpuSlots(FakeGpus(1), tmp_path), []

        def kill(held: str) -> None:
            told.append(held)
            assert held_gpus(tmp_path) == {"GPU-000": f"process {holder.pid} (user {psutil.Process().username()})"}
            holder.kill()

        started = time.monotonic()
        with slots.hold(slots.visible(), "mine", NEVER, kill):
            assert time.monotonic() - started < 5
            assert held_gpus(tmp_path) == {"GPU-000": "this batch"}
    assert told == [f"GPU 0 by process {holder.pid}"]
    assert held_gpus(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_two_users_never_share_a_gpu() -> None:
    """In a folder like /tmp, root waits for nobody's lock and nobody for root's, whose file it may not write."""
    folder = Path("/tmp") / f"spikelab-test-{os.getpid()}"
    folder.mkdir()
    try:
        folder.chmod(0o1777)
        (folder / "spikelab-GPU-000.lock").touch(0o644)
        with hold_elsewhere(folder) as root:
            assert root.stdout.readline() == "holds\n"
            with hold_elsewhere(folder, user=65534) as nobody:
                assert nobody.stdout.readline() == f"waits: GPU 0 by process {root.pid}\n"
                root.communicate()
                assert nobody.stdout.readline() == "holds\n"
                slots, stop, told = GpuSlots(FakeGpus(1), folder), threading.Event(), []
                with (
                    pytest.raises(KeyboardInterrupt),
                    slots.hold(slots.visible(), "root", stop, lambda held: (told.append(held), stop.set())),
                ):
                    pass
                assert told == ["GPU 0 by another sort"]
                nobody.stdin.close()
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_a_lock_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    """What is no lock file, as somebody may leave in /tmp, is neither followed nor written into nor waited for."""
    path, elsewhere = tmp_path / "spikelab-GPU-000.lock", tmp_path / "elsewhere"
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path, 0o444)
    else:
        elsewhere.write_text("precious")
        os.link(elsewhere, path)
    slots = GpuSlots(FakeGpus(1), tmp_path)
    with (
        pytest.raises(EnvironmentSortFailure, match=r"spikelab-GPU-000\.lock"),
        slots.hold(slots.visible(), "run", NEVER),
    ):
        pass
    assert held_gpus(tmp_path) == {}
    assert (elsewhere.read_text() if elsewhere.exists() else None) == ("precious" if kind == "second name" else None)


def test_a_gpu_that_was_set_aside_is_replaced_or_refused_by_name(tmp_path: Path) -> None:
    """P2: another GPU is taken; without one, whoever wants it is told why, in the kind of error that it was."""
    slots = GpuSlots(FakeGpus(2), tmp_path)
    first, second = slots.visible()
    slots.set_aside(first, GpuLostError("gone", device_index=0))
    with slots.hold((first, second), "run", NEVER) as slot:
        assert slot.device == second
    slots.set_aside(second, UnkillableProcessError("process 7 survives SIGKILL", pid=7, wchan="nv_wait"))
    slots.set_aside(second, GpuLostError("gone", device_index=1))
    with pytest.raises(UnkillableProcessError, match=r"GPU 1 is not used any more.*process 7") as raised:
        slots.usable([second])
    assert raised.value.pid == 7
    with pytest.raises(GpuLostError, match="GPU 0 is not used"):
        slots.usable((first, second))


def test_a_gpu_that_fell_off_the_bus_is_known_again_by_its_number(tmp_path: Path) -> None:
    """P2: a lost GPU no longer tells the driver's name for it, and is not taken for another one."""
    driver = FakeGpus(2, lost=(lost := []))
    slots = GpuSlots(driver, tmp_path)
    slots.set_aside(slots.visible()[0], GpuLostError("gone", device_index=0))
    lost.append(0)
    first, second = slots.visible()
    assert first == Device("0", 0)
    assert slots.usable((first, second)) == [second]
    with pytest.raises(GpuLostError, match="GPU 0 is not used any more"):
        slots.usable([first])
