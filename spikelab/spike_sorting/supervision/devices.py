"""Which GPUs programs may use, and what tells each from the others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from spikelab.spike_sorting.supervision.gpu import GpuReader


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


class Driver(GpuReader, Protocol):
    """Tells which GPUs there are, and their state."""

    def uuid(self, index: int) -> str:
        """Return what tells the GPU `index` from all others; raise OSError where that is not told."""

    def index_of(self, name: str) -> int:
        """Return the number of the GPU whose identity begins with `name`; raise OSError where it is not known."""

    def close(self) -> None:
        """Let the driver go; it is asked again when needed."""


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
    names = [str(k) for k in range(n_devices)] if listed is None else listed_names(listed)
    chosen = names if number is None else names[number : number + 1]
    return tuple(_device(driver, name) for name in chosen)


def _count(driver: Driver, at_least: int) -> int:
    """Return how many GPUs there are; a driver that does not answer has some, and they may be in trouble."""
    try:
        return driver.count()
    except OSError:
        return at_least


def listed_names(listed: str) -> list[str]:
    """Return what CUDA takes of the list: everything up to the first that is no device."""
    names = [name.strip() for name in listed.split(",")]
    is_device = [name.isdigit() or name.startswith(("GPU-", "MIG-")) for name in names]
    return names[: is_device.index(False)] if False in is_device else names


def _device(driver: Driver, name: str) -> Device:
    index = None
    with suppress(OSError):
        index = int(name) if name.isdigit() else driver.index_of(name)
    if index is None:
        return Device(name, None)  # a part of a GPU, or one that the driver does not know now
    try:
        return Device(driver.uuid(index), index)
    except OSError:
        return Device(name, index)
