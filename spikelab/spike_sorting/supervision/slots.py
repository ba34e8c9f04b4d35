"""GPUs, one sort at a time on each, for all recordings of a batch and all batches of the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError
from spikelab.spike_sorting.supervision import forks
from spikelab.spike_sorting.supervision.devices import Device, Driver, visible_devices
from spikelab.spike_sorting.supervision.gpu import NvmlGpu
from spikelab.spike_sorting.supervision.gpu_locks import holder, lock_folder, lock_path, taken

POLL_S = 0.5


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


class GpuSlots:
    """The GPUs of this machine, for one sort at a time each; shared by all recordings of a batch.

    Parameters
    ----------
    driver : Driver or None, default None
        Knows the GPUs; None for that of this machine.
    folder : Path or None, default None
        Folder of the lock files; None for ``gpu_locks.lock_folder``.
    """

    def __init__(self, driver: Driver | None = None, folder: Path | None = None) -> None:
        self.driver: Driver = driver or NvmlGpu()
        self._folder = folder or lock_folder()
        self._lock = threading.Lock()
        self._reasons: dict[Device, SpikeSortingClassifiedError] = {}
        self._left_out: frozenset[str] = frozenset()

    def visible(self, number: int | None = None) -> tuple[Device, ...]:
        """Return the GPUs that a sort may use, see `visible_devices`."""
        return visible_devices(self.driver, os.environ.get("CUDA_VISIBLE_DEVICES"), number)

    def leave_out(self, keys: Collection[str]) -> None:
        """Until the next call, offer only the GPUs without these keys to sorts that take whichever is free."""
        self._left_out = frozenset(keys)

    def free_choice(self, devices: Sequence[Device]) -> tuple[Device, ...]:
        """Return those of `devices` that are offered to a sort which takes whichever is free."""
        return tuple(device for device in devices if device.key not in self._left_out)

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
            found = [(device, self._reason_for(device)) for device in devices]
        left = [device for device, reason in found if reason is None]
        reasons = [(device, reason) for device, reason in found if reason is not None]
        if left or not reasons:
            return left
        device, reason = reasons[0]
        msg = f"{device.label} is not used any more in this batch, because of an earlier recording: {reason}"
        raise type(reason)(msg, **reason.details) from reason

    def _reason_for(self, device: Device) -> SpikeSortingClassifiedError | None:
        """Return why `device` was set aside, if it was; one that fell off the bus may tell its number alone since."""
        same = (
            reason
            for gone, reason in self._reasons.items()
            if device.key == gone.key or (device.index is not None and device.index == gone.index)
        )
        return next(same, None)

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
            forks.close(slot.descriptor)

    def _taken(self, devices: Sequence[Device], run_id: str) -> Slot | None:
        for device in self._emptiest_first(self.usable(devices)):
            descriptor = taken(lock_path(self._folder, device.key), run_id)
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

    def _holders(self, devices: Sequence[Device]) -> str:
        held = (f"{one.label} by {holder(lock_path(self._folder, one.key))}" for one in self.usable(devices))
        return ", ".join(held)
