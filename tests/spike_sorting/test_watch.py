"""The watch over one worker."""

from __future__ import annotations

import pytest

from spikelab.spike_sorting.config import KILOSORT4, SortingPipelineConfig
from spikelab.spike_sorting.stages.stage import Phase
from spikelab.spike_sorting.watch import gpu_in_use


class Driver:
    """A driver with so many GPUs, or one that does not answer."""

    def __init__(self, n_gpus: int | None) -> None:
        self._n_gpus = n_gpus

    def count(self) -> int:
        if self._n_gpus is None:
            msg = "the driver does not answer"
            raise TimeoutError(msg)
        return self._n_gpus

    def index_of(self, cuda_index: int, visible_devices: str | None) -> int:
        if visible_devices is None:
            return cuda_index
        return int(visible_devices.split(",")[cuda_index])

    def close(self) -> None:
        """Nothing is held."""


def _config(device: str) -> SortingPipelineConfig:
    return KILOSORT4.override(kilosort_params={"torch_device": device})


@pytest.mark.parametrize(
    "device,phase,n_gpus,visible,expected",
    [
        ("auto", "sort", 2, None, 0),
        ("cuda:1", "sort", 2, None, 1),
        ("cuda:1", "sort", 4, "3,2", 2),
        ("auto", "sort", 0, None, None),
        ("cpu", "sort", 2, None, None),
        ("auto", "finish", 2, None, None),
        ("auto", "sort", 2, "", None),
        ("cuda:1", "sort", None, None, 1),
    ],
)
def test_the_gpu_that_is_watched_is_the_one_that_is_used(
    device: str,
    phase: Phase,
    n_gpus: int | None,
    visible: str | None,
    expected: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is watched follows the device of the settings and CUDA_VISIBLE_DEVICES; without a GPU in use it is none.

    A driver that does not answer is no reason to believe that there is no GPU: that one may be in trouble.
    """
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_in_use(_config(device), phase, Driver(n_gpus)) == expected  # type: ignore[arg-type]
