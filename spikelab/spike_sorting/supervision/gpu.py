"""The one place that asks the NVIDIA driver, through NVML. Nothing is loaded before the first question."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spikelab.spike_sorting.supervision.deadline import Deadline

T = TypeVar("T")

_UNINITIALIZED, _GPU_IS_LOST = 1, 15
_NO_GPU = frozenset({9, 12})
"""Driver not loaded, library not found."""
_NOT_TOLD = frozenset({3, 4, 13, 21})
"""Not supported, no permission, function not found, no data: this one value is not to be had."""
_THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
}
HOT_REASONS = frozenset({"thermal slowdown (software)", "thermal slowdown (hardware)"})
"""Throttle reasons that mean that the device is too hot."""


@dataclass(frozen=True)
class GpuSample:
    """A GPU at one moment; None is what the driver does not tell.

    Parameters
    ----------
    index : int
        Index as NVML counts, which is the order on the bus.
    name : str or None
        Model.
    used_bytes, total_bytes : int or None
        Memory in use by anybody, and all of it.
    processes : mapping of int to (int or None), or None
        Memory by process id.
    temperature_c : float or None
        Temperature of the chip (C).
    throttling : tuple of str
        Why its clocks are held down, other than for being idle.
    utilisation_pct : float or None
        Share of time in which something ran on it.
    is_lost : bool
        Whether it fell off the bus; then nothing else is known.
    """

    index: int
    name: str | None = None
    used_bytes: int | None = None
    total_bytes: int | None = None
    processes: Mapping[int, int | None] | None = None
    temperature_c: float | None = None
    throttling: tuple[str, ...] = ()
    utilisation_pct: float | None = None
    is_lost: bool = False

    def own_bytes(self, pids: Set[int]) -> int | None:
        """Return how much the processes `pids` hold, or None where the driver does not tell."""
        if self.processes is None:
            return None
        own = [self.processes[pid] for pid in pids & self.processes.keys()]
        known = [n_bytes for n_bytes in own if n_bytes is not None]
        return sum(known) if len(known) == len(own) else None


class GpuReader(Protocol):
    """Tells the state of GPUs."""

    def count(self) -> int:
        """Return how many there are; 0 without a driver. Raise OSError where that cannot be told."""

    def sample(self, index: int) -> GpuSample:
        """Return the state of one; raise OSError where that cannot be told."""


class NvmlGpu:
    """Reads GPUs through NVML, safe to share between threads; a driver that hangs raises TimeoutError.

    Parameters
    ----------
    nvml : module or None, default None
        What speaks for the driver; None: ``pynvml``.
    limit_s : float, default 2.0
        How long an answer may take (s).
    """

    def __init__(self, nvml: Any = None, *, limit_s: float = 2.0) -> None:
        self._given = nvml
        self._deadline = Deadline("the NVIDIA driver", limit_s)
        self._is_open = False

    def count(self) -> int:
        """Return how many GPUs there are; 0 without a driver or library.

        Raises
        ------
        OSError
            The driver is there and does not answer.
        """
        return self._deadline.call(self._count)

    def sample(self, index: int) -> GpuSample:
        """Return the state of the GPU `index`.

        Raises
        ------
        OSError
            There is no driver, or it does not answer.
        """
        return self._deadline.call(lambda: self._sample(index))

    def index_of(self, name: str) -> int:
        """Return the index of the GPU whose identity, such as "GPU-8f2e...", begins with `name`.

        Raises
        ------
        OSError
            The driver does not know it, or does not answer.
        """
        return self._deadline.call(lambda: self._index_of_uuid(name))

    def uuid(self, index: int) -> str:
        """Return what tells the GPU `index` from all others, as CUDA_VISIBLE_DEVICES takes it.

        Raises
        ------
        OSError
            The driver does not tell, or does not answer.
        """
        return self._deadline.call(lambda: self._uuid(index))

    def close(self) -> None:
        """Let the driver go; it is asked again when needed."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(OSError):
                self._deadline.call(lambda: self._ask(self._nvml().nvmlShutdown))

    def _nvml(self) -> Any:
        if self._given is None:
            import pynvml

            self._given = pynvml
        return self._given

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the driver says; its errors are `_NvmlError` from here on."""
        try:
            return function(*arguments)
        except self._nvml().NVMLError as error:
            code = int(getattr(error, "value", 0))
            if code == _UNINITIALIZED:
                self._is_open = False
            raise _NvmlError(code, f"NVML error {code}: {error}") from error

    def _told(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """Return what the driver says, or None where it does not tell this one value."""
        try:
            return self._ask(function, *arguments)
        except _NvmlError as error:
            if error.code in _NOT_TOLD:
                return None
            raise

    def _open(self) -> Any:
        nvml = self._nvml()
        if not self._is_open:
            self._ask(nvml.nvmlInit)
            self._is_open = True
        return nvml

    def _count(self) -> int:
        try:
            return int(self._ask(self._open().nvmlDeviceGetCount))
        except _NvmlError as error:
            if error.code in _NO_GPU:
                return 0
            raise

    def _uuid(self, index: int) -> str:
        nvml = self._open()
        uuid = self._ask(nvml.nvmlDeviceGetUUID, self._ask(nvml.nvmlDeviceGetHandleByIndex, index))
        return uuid.decode() if isinstance(uuid, bytes) else str(uuid)

    def _index_of_uuid(self, beginning: str) -> int:
        for index in range(self._count()):
            if self._uuid(index).startswith(beginning):
                return index
        msg = f"the driver knows no GPU {beginning}"
        raise OSError(msg)

    def _sample(self, index: int) -> GpuSample:
        try:
            return self._read(index)
        except _NvmlError as error:
            if error.code == _GPU_IS_LOST:
                return GpuSample(index, is_lost=True)
            raise

    def _read(self, index: int) -> GpuSample:
        nvml = self._open()
        device = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
        name = self._told(nvml.nvmlDeviceGetName, device)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, device)
        processes = self._told(nvml.nvmlDeviceGetComputeRunningProcesses, device)
        temperature = self._told(nvml.nvmlDeviceGetTemperature, device, 0)
        utilisation = self._told(nvml.nvmlDeviceGetUtilizationRates, device)
        return GpuSample(
            index,
            name=name.decode() if isinstance(name, bytes) else name,
            used_bytes=None if memory is None else int(memory.used),
            total_bytes=None if memory is None else int(memory.total),
            processes=None if processes is None else {p.pid: p.usedGpuMemory for p in processes},
            temperature_c=None if temperature is None else float(temperature),
            throttling=self._throttling(nvml, device),
            utilisation_pct=None if utilisation is None else float(utilisation.gpu),
        )

    def _throttling(self, nvml: Any, device: Any) -> tuple[str, ...]:
        # Drivers before 535 know the question under its old name only.
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if hasattr(nvml, name):
                bits = self._told(getattr(nvml, name), device)
                if bits is not None:
                    return tuple(text for bit, text in _THROTTLE_REASONS.items() if bits & bit)
        return ()


class _NvmlError(OSError):
    """The driver refused; with NVML's own error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
