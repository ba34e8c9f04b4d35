"""GPUs, one sort at a time on each: a lock file per device that everybody on the machine shares.

The lock is that of `lock.py`: native, inherited by the worker, never unlinked, free exactly when the last process of
the sort is gone. Its folder is sticky and open to all, so that a lock file may be another user's: it is opened without
being created first, which such a folder forbids, and for reading alone where it may not be written.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, SpikeSortingClassifiedError
from spikelab.spike_sorting.supervision import host, lock
from spikelab.spike_sorting.supervision.gpu import GpuReader, NvmlGpu

FOLDER_VARIABLE = "SPIKELAB_GPU_LOCKS"
"""Names the folder of the lock files where the machine's own is not shared, as between containers."""
POLL_S = 0.5
_OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""In a folder that is open to all, somebody may have put a link or a pipe in the place of a lock file."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Parameters
    ----------
    key : str
        What tells it from all others, as CUDA_VISIBLE_DEVICES takes it: "GPU-8f2e...", or its number where the
        driver tells no more.
    index : int or None
        Its number as NVML counts, which is the order on the bus; None where that cannot be told.
    """

    key: str
    index: int | None

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"GPU {self.key if self.index is None else self.index}"


@dataclass(frozen=True)
class Slot:
    """A device that is ours for now.

    Parameters
    ----------
    device : Device
        The device.
    descriptor : int
        Holds it for as long as a process has it open.
    """

    device: Device
    descriptor: int


class Driver(GpuReader, Protocol):
    """Tells which GPUs there are, and their state."""

    def uuid(self, index: int) -> str:
        """Return what tells the GPU `index` from all others; raise OSError where that is not told."""

    def index_of(self, cuda_index: int, visible_devices: str | None) -> int:
        """Return the number of CUDA's device `cuda_index`; raise OSError where the driver does not know it."""

    def close(self) -> None:
        """Let the driver go; it is asked again when needed."""


# ------------------------------------------------------------------------------------------------ which there are


def visible_devices(driver: Driver, listed: str | None, number: int | None = None) -> tuple[Device, ...]:
    """Return the GPUs that programs may use, in CUDA's order; none without a driver, or where all are hidden.

    Parameters
    ----------
    driver : Driver
        Knows the GPUs.
    listed : str or None
        ``CUDA_VISIBLE_DEVICES``.
    number : int or None, default None
        Only the device to which CUDA gives this number.
    """
    n_devices = _count(driver, 1 + (number or 0))
    if not n_devices:
        return ()
    names = [str(k) for k in range(n_devices)] if listed is None else _names(listed)
    chosen = names if number is None else names[number : number + 1]
    return tuple(_device(driver, name) for name in chosen)


def _count(driver: Driver, at_least: int) -> int:
    """Return how many GPUs there are; a driver that does not answer has some, and they may be in trouble."""
    try:
        return driver.count()
    except OSError:
        return at_least


def _names(listed: str) -> list[str]:
    """Return what CUDA takes of the list: everything up to the first that is no device."""
    names = [name.strip() for name in listed.split(",")]
    is_device = [name.isdigit() or name.startswith(("GPU-", "MIG-")) for name in names]
    return names[: is_device.index(False)] if False in is_device else names


def _device(driver: Driver, name: str) -> Device:
    index = None
    with suppress(OSError, ValueError):
        index = int(name) if name.isdigit() else driver.index_of(0, name)
    if index is None:
        return Device(name, None)  # a part of a GPU, or one that the driver does not know now
    try:
        return Device(driver.uuid(index), index)
    except OSError:
        return Device(name, index)


# ------------------------------------------------------------------------------------------------ one at a time


class GpuSlots:
    """The GPUs of this machine, for one sort at a time each; shared by all recordings of a batch.

    Parameters
    ----------
    driver : Driver or None, default None
        Knows the GPUs; None for that of this machine.
    folder : Path or None, default None
        Folder of the lock files; None for that of the machine, or the one that ``SPIKELAB_GPU_LOCKS`` names.
    """

    def __init__(self, driver: Driver | None = None, folder: Path | None = None) -> None:
        self.driver: Driver = driver or NvmlGpu()
        named = os.environ.get(FOLDER_VARIABLE)
        self._folder = folder or (Path(named) if named else host.shared_folder())
        self._lock = threading.Lock()
        self._reasons: dict[Device, SpikeSortingClassifiedError] = {}

    def visible(self, number: int | None = None) -> tuple[Device, ...]:
        """Return the GPUs that a sort may use, see `visible_devices`."""
        return visible_devices(self.driver, os.environ.get("CUDA_VISIBLE_DEVICES"), number)

    def set_aside(self, device: Device, reason: SpikeSortingClassifiedError) -> None:
        """Use `device` no more: what hangs there would be in the way of every further sort. The first reason stays."""
        with self._lock:
            self._reasons.setdefault(device, reason)

    def usable(self, devices: Sequence[Device]) -> list[Device]:
        """Return those of `devices` that are not set aside.

        Raises
        ------
        SpikeSortingClassifiedError
            All are; of the kind for which the first was.
        """
        with self._lock:
            left = [device for device in devices if device not in self._reasons]
            reasons = [(device, self._reasons[device]) for device in devices if device in self._reasons]
        if left or not reasons:
            return left
        device, reason = reasons[0]
        msg = f"{device.label} is not used any more in this batch, because of an earlier recording: {reason}"
        raise type(reason)(msg, **reason.details) from reason

    @contextmanager
    def hold(
        self,
        devices: Sequence[Device],
        run_id: str,
        stop: threading.Event,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Slot]:
        """Wait until one of `devices` is free, and hold it for the ``with`` block, for a worker to inherit.

        Parameters
        ----------
        devices : sequence of Device
            Any of these.
        run_id : str
            Cookie of the run, by which survivors of a crash are found.
        stop : Event
            Ends the wait.
        on_wait : callable, optional
            Told, once, who holds them while none is free.

        Raises
        ------
        KeyboardInterrupt
            `stop` was set.
        SpikeSortingClassifiedError
            All devices were set aside.
        EnvironmentSortFailure
            The locks cannot be used.
        """
        has_waited = False
        while (slot := self._taken(devices, run_id)) is None:
            if not has_waited:
                has_waited = True
                on_wait(self._holders(devices))
            if stop.wait(POLL_S):
                msg = "stopped by the user"
                raise KeyboardInterrupt(msg)
        try:
            yield slot
        finally:
            os.close(slot.descriptor)

    def _taken(self, devices: Sequence[Device], run_id: str) -> Slot | None:
        for device in self._emptiest_first(self.usable(devices)):
            descriptor = self._locked(self._path(device), run_id)
            if descriptor is not None:
                return Slot(device, descriptor)
        return None

    def _emptiest_first(self, devices: Sequence[Device]) -> list[Device]:
        """Return the devices, that with most free memory first; others may be smaller, or used by other programs."""
        return sorted(devices, key=self._free_bytes, reverse=True) if len(devices) > 1 else list(devices)

    def _free_bytes(self, device: Device) -> float:
        try:
            sample = None if device.index is None else self.driver.sample(device.index)
        except OSError:
            sample = None
        if sample is None or sample.used_bytes is None or sample.total_bytes is None:
            return float("-inf")
        return sample.total_bytes - sample.used_bytes

    def _path(self, device: Device) -> Path:
        name = device.key if device.key.startswith(("GPU-", "MIG-")) else f"GPU-{device.key}"
        return self._folder / f"spikelab-{re.sub(r'[^A-Za-z0-9-]', '-', name)}.lock"

    def _locked(self, path: Path, run_id: str) -> int | None:
        """Return a descriptor that holds the lock, or None while somebody else does."""
        descriptor = _opened(path)
        is_ours = False
        try:
            # Whoever cleans the folder up may have removed the file between the two: then it is nobody's lock.
            is_ours = lock.take(descriptor, path) and _is_still_there(descriptor, path)
            if is_ours:
                with suppress(OSError):  # another user's file: it keeps the name of its last writer
                    lock.write_card(descriptor, run_id)
            return descriptor if is_ours else None
        finally:
            if not is_ours:
                os.close(descriptor)

    def _holders(self, devices: Sequence[Device]) -> str:
        held = (f"{device.label} by {_holder(lock.read_card(self._path(device)))}" for device in self.usable(devices))
        return ", ".join(held)


def _holder(card: dict[str, Any]) -> str:
    if not card or host.is_dead(card):
        return "another sort"
    return "this batch" if card.get("pid") == os.getpid() else f"process {card.get('pid')}"


def _opened(path: Path) -> int:
    """Return a descriptor of the lock file, which whoever comes first makes."""
    try:
        try:
            descriptor = lock.opened(path, _OPEN_FLAGS)
        except FileNotFoundError:
            descriptor = _made(path)
    except OSError as error:
        raise _unusable(path, f"cannot be opened ({error})") from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
        return descriptor
    os.close(descriptor)
    raise _unusable(path, "is no file of its own, and another one would be written into")


def _made(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666)
    except FileExistsError:  # somebody else has just made it
        return lock.opened(path, _OPEN_FLAGS)
    if host.IS_POSIX:
        os.fchmod(descriptor, 0o666)  # whatever the umask: the next user leaves a name in it
    return descriptor


def _unusable(path: Path, why: str) -> EnvironmentSortFailure:
    msg = (
        f"the lock file {path}, by which sorts of all users share a GPU, {why}; "
        f"remove it, or have {FOLDER_VARIABLE} name another folder for everybody on this machine"
    )
    return EnvironmentSortFailure(msg)


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
