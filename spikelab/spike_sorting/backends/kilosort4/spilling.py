"""Arrays of upstream's own making that outgrow memory, kept in files instead.

Upstream gathers spikes in arrays that it doubles by copying them, and puts their features in order by copying them
whole. Its functions are run as they are; numpy, torch and the features that they see hand large copies to files.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikelab.spike_sorting.backends.binary import reserve

_ROWS = 100_000
"""Spikes of which features are held in memory at once while they are copied."""


@dataclass(frozen=True)
class Spill:
    """Where large arrays go.

    Parameters
    ----------
    folder : Path
        Folder for the files, which have no name and go with the process.
    above_bytes : float
        Size up to which arrays stay in memory.
    """

    folder: Path
    above_bytes: float = math.inf

    def zeros(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """Return an array of zeros in a file, the space of which is reserved."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            reserve(file.fileno(), math.prod(shape) * np.dtype(dtype).itemsize)
            mapped: NDArray[Any] = np.memmap(file, dtype, "r+", shape=tuple(shape))
        return mapped.view(np.ndarray)

    @contextmanager
    def growing(self, module: Any) -> Iterator[None]:
        """Let the arrays that `module` doubles grow into files."""
        originals = {name: vars(module)[name] for name in ("np", "torch") if name in vars(module)}
        stand_ins = {"np": _Numpy, "torch": _Torch}
        try:
            for name in originals:
                setattr(module, name, stand_ins[name](self))
            yield
        finally:
            for name, original in originals.items():
                setattr(module, name, original)

    @contextmanager
    def copying(self, state: Any) -> Iterator[None]:
        """Let copies that are made of ``state.tF`` go into files."""
        state.tF = _watched(state.tF, self)
        try:
            yield
        finally:
            state.tF = plain(state.tF)

    def takes(self, n_bytes: int) -> bool:
        """Return whether an array of this size goes into a file."""
        return n_bytes > self.above_bytes


class _Numpy:
    """Numpy, but for the doubling of large arrays."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros_like(self, array: NDArray[Any]) -> NDArray[Any]:
        # Zeros that are about to be appended need no memory of their own.
        if self._spill.takes(2 * array.nbytes):
            return np.broadcast_to(array.dtype.type(0), array.shape)
        return np.zeros_like(array)

    def concatenate(self, arrays: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
        first, *more = arrays
        if len(more) != 1 or axis or any(more[0].strides) or not self._spill.takes(2 * first.nbytes):
            return np.concatenate(arrays, axis)
        doubled = self._spill.zeros((len(first) + len(more[0]), *first.shape[1:]), first.dtype)
        doubled[: len(first)] = first
        return doubled


class _Torch:
    """Torch, but for the doubling of large tensors on the CPU."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._numpy = _Numpy(spill)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros_like(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type == "cpu" and self._spill.takes(2 * tensor.nbytes):
            return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        return torch.zeros_like(tensor)

    def cat(self, tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
        first, *more = tensors
        are_ours = first.device.type == "cpu" and len(more) == 1 and not any(more[0].stride())
        if dim or not are_ours or not self._spill.takes(2 * first.nbytes):
            return torch.cat(tuple(tensors), dim)
        doubled = self._numpy.concatenate([plain(first).numpy(), more[0].numpy()])
        return _watched(torch.from_numpy(doubled), self._spill)


# ------------------------------------------------------------------------------------------- copies of features


class _Features(torch.Tensor):
    """Features of which a large selection of rows is made in a file."""

    spill: Spill

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.__getitem__ and type(args[0]) is cls:
            rows = _rows(args[1])
            features, spill = args[0], args[0].spill
            if rows is not None and spill.takes(len(rows) * math.prod(features.shape[1:]) * features.itemsize):
                return _watched(_copied(plain(features), rows, spill), spill)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def plain(tensor: Any) -> Any:
    """Return a tensor as torch's own; whatever else is returned as it is."""
    return tensor.as_subclass(torch.Tensor) if isinstance(tensor, _Features) else tensor


def _watched(tensor: torch.Tensor, spill: Spill) -> torch.Tensor:
    if tensor.device.type != "cpu" or math.isinf(spill.above_bytes):
        return tensor
    features = tensor.as_subclass(_Features)
    features.spill = spill
    return features


def _rows(index: Any) -> torch.Tensor | None:
    """Return the rows that `index` selects one by one, or None when it selects otherwise."""
    if not isinstance(index, (np.ndarray, torch.Tensor)) or index.ndim != 1:
        return None
    selected = torch.as_tensor(index)
    if selected.dtype is torch.bool:
        return selected.nonzero()[:, 0]
    return selected if selected.dtype is torch.int64 else None


def _copied(features: torch.Tensor, rows: torch.Tensor, spill: Spill) -> torch.Tensor:
    dtype = torch.empty(0, dtype=features.dtype).numpy().dtype
    copy = torch.from_numpy(spill.zeros((len(rows), *features.shape[1:]), dtype))
    for first in range(0, len(rows), _ROWS):
        copy[first : first + _ROWS] = features[rows[first : first + _ROWS]]
    return copy


@contextmanager
def row_by_row(module: Any, name: str) -> Iterator[None]:
    """Call the function `name` of `module`, of spikes and their features, with some of them at a time.

    It must treat each spike by itself, and return arrays of one value per spike.
    """
    function = vars(module)[name]

    def in_parts(st: NDArray[Any], tF: torch.Tensor, ops: Mapping[str, Any]) -> tuple[NDArray[Any], ...]:
        firsts = range(0, max(1, len(st)), _ROWS)
        parts = [function(st[first : first + _ROWS], plain(tF)[first : first + _ROWS], ops) for first in firsts]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    with ExitStack() as stack:
        stack.callback(setattr, module, name, function)
        setattr(module, name, in_parts)
        yield
