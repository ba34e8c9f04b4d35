"""Arrays that stay in their file until they are asked for."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import ItemsView, Iterator, ValuesView
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class OpenFile:
    """A file that stays open for as long as anything may be read from it.

    What is read is what was there when it was opened, also after another file has taken its name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Return bytes of the file.

        Raises
        ------
        ValueError
            When it has become shorter.
        OSError
            When its disk does not answer any more.
        """
        parts = bytearray()
        while len(parts) < n_bytes and (part := self._read(offset + len(parts), n_bytes - len(parts))):
            parts += part
        if len(parts) < n_bytes:
            msg = f"{self._path} has been cut since it was loaded; load it again"
            raise ValueError(msg)
        return bytes(parts)

    def require(self, path: Path) -> None:
        """Raise ValueError when another file has taken the name."""
        if not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
            msg = "it was replaced while it was read; load it again"
            raise ValueError(msg)

    def _read(self, offset: int, n_bytes: int) -> bytes:
        if hasattr(os, "pread"):  # a forked process shares the position in the file
            return os.pread(self._file.fileno(), n_bytes, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(n_bytes) or b""


@dataclass(frozen=True)
class Later:
    """An array that lies in a file as it is in memory.

    Parameters
    ----------
    file : OpenFile
        The file.
    offset : int
        Its first byte.
    dtype : numpy.dtype
        Its type.
    shape : tuple of int
        Its shape.
    """

    file: OpenFile
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self) -> npt.NDArray[Any]:
        """Return the array, read-only."""
        content = self.file.read(self.offset, math.prod(self.shape) * self.dtype.itemsize)
        return np.frombuffer(content, dtype=self.dtype).reshape(self.shape)


class LaterAttributes(dict[str, Any]):
    """Attributes of a unit; the arrays among them that lie in a file are read each time they are asked for.

    Everything that Python does with a dict gives the arrays; only :meth:`copy` leaves them where they are.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value.read() if isinstance(value, Later) else value

    # With an __iter__ of its own, {**attributes} and dict(attributes) ask __getitem__ rather than copy what is stored.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    __hash__ = None

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default."""
        value = super().get(name, default)
        return value.read() if isinstance(value, Later) else value

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return names and values."""
        return ItemsView(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return the values."""
        return ValuesView(self)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove an attribute and return it."""
        value = super().pop(name, *default)
        return value.read() if isinstance(value, Later) else value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last attribute and return it."""
        name = next(reversed(self))
        return name, self.pop(name)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return an attribute; set it first when it is missing."""
        if name not in self:
            self[name] = default
        return self[name]

    def copy(self) -> LaterAttributes:
        """Return the same attributes, those in the file still there."""
        return LaterAttributes(zip(self.keys(), self.stored(), strict=True))

    def stored(self) -> list[Any]:
        """Return the values without reading any: arrays in the file as :class:`Later`."""
        return list(super().values())
