"""The base class of networks."""

from __future__ import annotations

from typing import Any


class Module:
    """What calls its ``forward``."""

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)  # type: ignore[attr-defined]
