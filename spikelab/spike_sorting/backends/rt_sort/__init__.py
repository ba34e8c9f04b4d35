"""RT-Sort: sequences of spikes along neurites, found by a package in an interpreter of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.spike_sorting.backends.rt_sort.training import DetectorTraining, train_detector

__all__ = ["DetectorTraining", "train_detector"]

_TRAINING = f"{__name__}.training"
__getattr__, __dir__ = lazy_exports(__name__, {"DetectorTraining": _TRAINING, "train_detector": _TRAINING})
