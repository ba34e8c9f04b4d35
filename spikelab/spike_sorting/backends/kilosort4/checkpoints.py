"""What Kilosort4 knows after a step, on disk: tensors and JSON, never a pickle.

A checkpoint carries the state of the random generators, which is restored and never reseeded, so that a
sort which continues from it equals an undisturbed one.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikelab.spike_sorting.supervision.publish import publish_with


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one sort.

    Parameters
    ----------
    folder : Path
        Where they lie.
    keys : sequence of str
        Key of each step: what its output depends on. A checkpoint of another key is not used.
    in_memory_bytes : float, default infinity
        Arrays of a larger file are read from it as they are needed, rather than all into memory.
    """

    folder: Path
    keys: Sequence[str]
    in_memory_bytes: float = math.inf

    def save(self, step: int, values: Mapping[str, Any]) -> None:
        """Keep `values` as what is known after `step`, with the random generators."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, torch.Tensor] = {}
        tree = _encode({**values, "generators": _generators()}, "", tensors)
        content = {"key": self.keys[step], "tree": json.dumps(tree, allow_nan=False), "tensors": tensors}
        publish_with(self._path(step), lambda partial: torch.save(content, partial))

    def load_latest(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """Return the last step that is finished, and what was known after it; restore the random generators."""
        for step in reversed(range(len(self.keys))):
            values = self.load(step, device)
            if values is not None:
                _restore_generators(values.pop("generators"))
                return step, values
        return None

    def load(self, step: int, device: torch.device) -> dict[str, Any] | None:
        """Return what was known after `step`, or None where there is no whole checkpoint of it."""
        path = self._path(step)
        if not _is_whole(path):
            return None
        is_large = path.stat().st_size > self.in_memory_bytes
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_large)
        if content["key"] != self.keys[step]:
            return None
        values: dict[str, Any] = _decode(json.loads(content["tree"]), content["tensors"], device)
        return values

    def _path(self, step: int) -> Path:
        return self.folder / f"step{step}.pt"


def _is_whole(path: Path) -> bool:
    """Return whether the checkpoint is there and every byte of it is as it was written; torch writes zip files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def _generators() -> dict[str, Any]:
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    state = np.random.get_state()  # noqa: NPY002 - upstream draws from numpy's global generator
    return {"torch": torch.get_rng_state(), "cuda": on_gpu, "numpy": state}


def _restore_generators(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(generator, device)
    np.random.set_state(state["numpy"])  # noqa: NPY002 - as above


# ------------------------------------------------------------- any nesting of plain values, arrays and tensors


def _encode(value: Any, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Return `value` as JSON, with its arrays moved to `tensors` under the path at which they stood."""
    if isinstance(value, torch.Tensor):
        tensors[where] = value
        return {"tensor": where, "device": value.device.type}
    if isinstance(value, np.ndarray):
        tensors[where] = torch.from_numpy(np.ascontiguousarray(value))
        return {"array": where}
    if isinstance(value, np.generic):
        return {"scalar": _encode(value.item(), where, tensors), "dtype": str(value.dtype)}
    if isinstance(value, Mapping):
        return {"mapping": [[key, _encode(item, f"{where}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{where}/{number}", tensors) for number, item in enumerate(value)]
        return {"list": items, "is_tuple": isinstance(value, tuple)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"plain": value}
    msg = f"a checkpoint holds numbers, texts, arrays and tensors; {where} is a {type(value).__name__}"
    raise TypeError(msg)


def _decode(tree: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """Return what `_encode` was given; tensors that were on a GPU go to `device`."""
    if "tensor" in tree:
        tensor = tensors[tree["tensor"]]
        return tensor if tree["device"] == "cpu" else tensor.to(device)
    if "array" in tree:
        return tensors[tree["array"]].numpy()
    if "scalar" in tree:
        return np.dtype(tree["dtype"]).type(_decode(tree["scalar"], tensors, device))
    if "mapping" in tree:
        return {key: _decode(item, tensors, device) for key, item in tree["mapping"]}
    if "list" in tree:
        items = [_decode(item, tensors, device) for item in tree["list"]]
        return tuple(items) if tree["is_tuple"] else items
    if "path" in tree:
        return Path(tree["path"])
    return float(tree["float"]) if "float" in tree else tree["plain"]
