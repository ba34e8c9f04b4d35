"""The few names of torch that are used, without a GPU; weights are numpy's archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torch import nn as nn

__version__ = "2.13.0"


class Tensor:
    """An array."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)


class cuda:  # noqa: N801 - torch's name
    """No GPU."""

    @staticmethod
    def is_available() -> bool:
        return False


def set_num_threads(n_threads: int) -> None:
    assert n_threads == 1


def load(path: Path, *, map_location: str, weights_only: bool) -> dict[str, Tensor]:
    assert (map_location, weights_only) == ("cpu", True)
    with np.load(path, allow_pickle=False) as file:
        return {name: Tensor(file[name]) for name in file.files}


def save(weights: dict[str, Tensor], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.values for name, tensor in weights.items()})
