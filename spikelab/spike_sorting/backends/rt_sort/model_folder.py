"""The folder of a detection model: two files that the packages with RT-Sort load, and a record of the training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from spikelab.spike_sorting._exceptions import ModelLoadingError

DESCRIPTION, WEIGHTS, TRAINING = "init_dict.json", "state_dict.pt", "training.json"
_NEEDED = ("num_channels_in", "sample_size", "buffer_front_sample", "buffer_end_sample", "architecture_params")


def bundled_model(probe: Literal["mea", "neuropixels"]) -> Path:
    """Return the folder of the model that comes with spikelab for a kind of probe."""
    return Path(__file__).with_name("models") / probe


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Return the description of a detection model of any architecture; its weights are there, but not opened.

    Needs no torch.

    Raises
    ------
    ModelLoadingError
        There is no such folder, one of the two files is missing or empty, or the description cannot be read.
    """
    missing = [name for name in (DESCRIPTION, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        found = "has no" if folder.is_dir() else "does not exist, and with it no"
        msg = f"the folder of the detection model {found} {' and no '.join(missing)}: {folder}"
        raise not_loadable(folder, msg)
    if (folder / WEIGHTS).stat().st_size == 0:
        raise not_loadable(folder, f"the weights of the detection model are an empty file: {folder / WEIGHTS}")
    return _read_description(folder)


def trained_at_Hz(folder: Path) -> float | None:
    """Return the sampling rate that a model was trained at; None where its folder does not say."""
    try:
        record = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rate = record.get("fs_Hz") if isinstance(record, Mapping) else None
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None


def not_loadable(folder: Path, message: str) -> ModelLoadingError:
    """Return the error that says why a model cannot be loaded."""
    return ModelLoadingError(message, sorter="rt_sort", model_path=str(folder))


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"the description of the detection model cannot be read ({error}): {path}"
        raise not_loadable(folder, msg) from error
    absent = [key for key in _NEEDED if not isinstance(description, Mapping) or key not in description]
    if absent:
        msg = f"the description of the detection model has no {', '.join(absent)}: {path}"
        raise not_loadable(folder, msg)
    return dict(description)
