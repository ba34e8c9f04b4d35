"""What Kilosort4 is asked to do: a value that another interpreter can be given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.binary import FlatBinary

if TYPE_CHECKING:
    import torch

UPSTREAM_LEAST = 1000
"""Spikes around a centre from which on upstream clusters them: a number in its source."""


@dataclass(frozen=True)
class Request:
    """What Kilosort4 is asked to do.

    Parameters
    ----------
    binary : FlatBinary
        The recording.
    key : str
        What tells this recording from any other.
    probe : mapping
        Kilosort's probe dictionary.
    fs_Hz : float
        Sampling rate.
    settings : mapping
        Kilosort's settings that differ from its defaults.
    device : torch.device or str
        Where to compute; a name ("auto", "cuda:1") where the torch of another interpreter shall look for it.
    folder : Path
        Where to write the results.
    seed : int
        Seed of the random generators; upstream's own is 1.
    do_CAR, invert_sign, clear_cache, save_preprocessed_copy : bool
        Arguments of ``run_kilosort`` of these names.
    in_memory_bytes : float
        Spikes and their features that take more than this are read from the checkpoints as they are needed: less
        memory, more time.
    accelerated : bool
        Whether functions of ours may stand in for upstream's.
    min_spikes_to_cluster : int
        Spikes around a centre from which on they are clustered; upstream's own number is 1,000.
    density_below : int
        Spikes around a centre below which their density decides, not upstream's graph; upstream has no such number.
    censored_lag_ms : float
        Lags up to this say nothing when clusters are merged (ms); 0 merges as upstream does.
    """

    binary: FlatBinary
    key: str
    probe: Mapping[str, Any]
    fs_Hz: float
    settings: Mapping[str, Any]
    device: torch.device
    folder: Path
    seed: int = 1
    do_CAR: bool = True
    invert_sign: bool = False
    clear_cache: bool = False
    save_preprocessed_copy: bool = False
    in_memory_bytes: float = math.inf
    accelerated: bool = True
    min_spikes_to_cluster: int = UPSTREAM_LEAST
    density_below: int = 0
    censored_lag_ms: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **plain,
            "binary": {**asdict(self.binary), "path": str(self.binary.path)},
            "probe": {name: _plain(value) for name, value in self.probe.items()},
            "settings": thaw(self.settings),
            "device": str(self.device),
            "folder": str(self.folder),
            "in_memory_bytes": None if math.isinf(self.in_memory_bytes) else self.in_memory_bytes,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Request:
        """Return the request that `to_dict` was called on, for this interpreter."""
        binary, in_memory_bytes = plain["binary"], plain["in_memory_bytes"]
        return cls(
            **{
                **plain,
                "binary": FlatBinary(**{**binary, "path": Path(binary["path"])}),
                "probe": {name: _array(value) for name, value in plain["probe"].items()},
                "device": torch_device(plain["device"]),
                "folder": Path(plain["folder"]),
                "in_memory_bytes": math.inf if in_memory_bytes is None else in_memory_bytes,
            }
        )


def torch_device(name: str) -> torch.device:
    """Return the device `name` of this interpreter's torch; "auto" is a GPU where there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _plain(value: Any) -> Any:
    return {"dtype": str(value.dtype), "values": value.tolist()} if hasattr(value, "dtype") else value


def _array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value["values"], dtype=value["dtype"]) if isinstance(value, dict) else value
