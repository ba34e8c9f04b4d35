"""The detection network, which says how likely it is that a spike has its trough at a sample of a channel.

Four convolutions over time, of one channel at a time. The files are those that the packages with RT-Sort load; their
names of the weights, and the numbers that name the architecture, are theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - what torch raises for a file that it refuses; nothing is unpickled
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikelab.spike_sorting.backends.rt_sort.model_folder import (
    DESCRIPTION,
    WEIGHTS,
    check_model_folder,
    not_loadable,
)

Floats = npt.NDArray[np.floating]

KERNEL, N_FEATURES, N_LAYERS = 21, 8, 4
MARGIN: Final = N_LAYERS * (KERNEL - 1) // 2
"""Samples at either end of a window for which there is no output."""
WINDOW: Final = 200
"""Samples of a window in training."""
IQR_OF_TRACES: Final = 12.6
"""RT-Sort scales traces to this interquartile range before the network sees them, and `INPUT_SCALE` undoes it."""
INPUT_SCALE: Final = 1 / IQR_OF_TRACES

_ARCHITECTURE: Final[list[Any]] = ["20", N_FEATURES, "relu", 0, 0, 0, 0]
_LAST = f"conv.{2 * (N_LAYERS - 1)}"
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, UnpicklingError)


class Detector(nn.Module):
    """The network, of 3,049 weights; a new one has weights drawn from torch's generator.

    Its input are band-passed traces over their interquartile range, shape (n_windows, 1, n_samples); its output logits,
    shape (n_windows, n_samples - 80): the first is that of sample 40.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [1, *[N_FEATURES] * (N_LAYERS - 1), 1]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Conv1d(n_in, n_out, KERNEL), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, shape (n_windows, n_samples - 80)."""
        logits: Tensor = self.conv(windows)
        return logits.squeeze(1)

    @torch.inference_mode()
    def probabilities(self, traces: Floats) -> npt.NDArray[np.float32]:
        """Return the probability of a trough at each sample of each channel.

        Parameters
        ----------
        traces : ndarray, shape (n_channels, n_samples), float
            Band-passed traces over their interquartile range.

        Returns
        -------
        ndarray, shape (n_channels, n_samples), float32
            0 for the first and last 40 samples, which the network cannot judge.
        """
        found = np.zeros(traces.shape, dtype=np.float32)
        if traces.shape[1] <= 2 * MARGIN:
            return found
        for channel, trace in enumerate(traces):
            window = torch.from_numpy(np.ascontiguousarray(trace, dtype=np.float32))
            found[channel, MARGIN:-MARGIN] = torch.sigmoid(self(window[None, None])[0]).numpy()
        return found


def save_detector(detector: Detector, folder: Path) -> None:
    """Write a network into a folder, as the packages with RT-Sort do: weights with 16 bits, loadable without a GPU."""
    weights = {f"model.{name}": value.half() for name, value in detector.state_dict().items()}
    # Theirs have the last layer under two names.
    again = {f"model.last_layer.{kind}": weights[f"model.{_LAST}.{kind}"] for kind in ("weight", "bias")}
    torch.save(again | weights, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(_description(), indent=1) + "\n", encoding="utf-8")


def load_detector(folder: Path | str) -> Detector:
    """Return the network that `save_detector` wrote; no code that is in its files is run.

    Raises
    ------
    ModelLoadingError
        The folder is incomplete or damaged, its weights are those of another architecture, or the file has more in it
        than weights.
    """
    folder = Path(folder)
    described = check_model_folder(folder)["architecture_params"]
    if described != _ARCHITECTURE:
        msg = f"the detection model is of another architecture: expected {_ARCHITECTURE}, found {described} in {folder}"
        raise not_loadable(folder, msg)
    weights = _read_weights(folder)
    detector = Detector()
    _check_shapes(folder, weights, detector.state_dict())
    detector.load_state_dict({name: weights[f"model.{name}"].float() for name in detector.state_dict()})
    return detector.eval()


def _description() -> dict[str, Any]:
    return {
        "num_channels_in": 1,
        "sample_size": WINDOW,
        "buffer_front_sample": MARGIN,
        "buffer_end_sample": MARGIN,
        "loc_prob_thresh": 35,
        "buffer_front_loc": 0,
        "buffer_end_loc": 0,
        "input_scale": INPUT_SCALE,
        "device": "cpu",
        "architecture_params": _ARCHITECTURE,
    }


def _read_weights(folder: Path) -> Mapping[str, Any]:
    path = folder / WEIGHTS
    try:
        # weights_only: a pickle may name any function, and this one calls none but those that make tensors.
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        msg = f"the weights of the detection model cannot be read, or are more than weights ({error}): {path}"
        raise not_loadable(folder, msg) from error
    if not isinstance(weights, Mapping):
        raise not_loadable(folder, f"expected named weights, found {type(weights).__name__}: {path}")
    return weights


def _check_shapes(folder: Path, weights: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    for name, like in expected.items():
        found = weights.get(f"model.{name}")
        if not isinstance(found, Tensor) or found.shape != like.shape:
            shape = list(found.shape) if isinstance(found, Tensor) else "nothing"
            msg = f"expected weights of shape {list(like.shape)} as model.{name}, found {shape} in {folder / WEIGHTS}"
            raise not_loadable(folder, msg)
        if not torch.isfinite(found).all():
            raise not_loadable(folder, f"weights of model.{name} are no numbers in {folder / WEIGHTS}")
