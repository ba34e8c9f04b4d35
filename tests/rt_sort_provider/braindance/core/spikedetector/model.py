"""A detection model: a threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _Traces:
    """An array that knows the casts of a tensor."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def float(self) -> _Traces:
        return _Traces(self.values.astype(np.float32))

    def to(self, dtype: Any) -> _Traces:
        return _Traces(self.values.astype(dtype))


class _Threshold:
    """Says where traces lie below a threshold, in 16 bits unless cast."""

    def __init__(self, threshold: float) -> None:
        self.threshold, self.bits = threshold, 16

    def float(self) -> _Threshold:
        self.bits = 32
        return self

    def __call__(self, traces: _Traces) -> _Traces:
        assert traces.dtype == np.float32
        assert self.bits == 32
        return _Traces((traces.values < self.threshold).astype(np.float32))


class _Network:
    def __init__(self, threshold: float) -> None:
        self.conv: Any = _Threshold(threshold)


class ModelSpikeSorter:
    """A model that is loaded from a folder."""

    def __init__(self, network: _Network) -> None:
        self.model = network

    @classmethod
    def load(cls, folder: Path) -> ModelSpikeSorter:
        settings = json.loads((Path(folder) / "init_dict.json").read_text())
        weights = torch.load(Path(folder) / "state_dict.pt", map_location="cpu", weights_only=True)
        if set(weights) != {"threshold"}:
            msg = f"Error(s) in loading state_dict for ModelTuning:\n\tUnexpected key(s) in state_dict: {list(weights)}"
            raise RuntimeError(msg)
        assert settings["device"] == "cpu"
        return cls(_Network(float(weights["threshold"].values)))

    def compile(self, n_dim_0: int, device: str = "cuda") -> Any:
        msg = "computing in 16 bits on a CPU takes for ever"
        raise AssertionError(msg)
