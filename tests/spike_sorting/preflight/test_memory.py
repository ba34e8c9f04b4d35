"""Free memory of the machine and of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch
from spikelab.spike_sorting.preflight.memory import check_ram, check_vram

Make = Callable[..., Any]


def _gpu(free_gb: float, uuid: str = "GPU-a", memory_gb: int = 24) -> Gpu:
    return Gpu("RTX 4090", (8, 9), memory_gb * 10**9, int(free_gb * 1e9), uuid)


def _readings(*gpus: Gpu, **torch: Any) -> dict[str, Any]:
    said = Torch(**{"cuda_build": "12.8", "usable": ("RTX 4090",), "architectures": ("sm_89",), **torch})
    return {"driver": lambda: Driver("570.1", (12, 8), gpus), "torch": lambda: said}


@pytest.mark.parametrize("free_gb, level", [(1.0, "warning"), (3.0, None)])
def test_ram(make_batch: Make, make_job: Make, free_gb: float, level: str | None) -> None:
    """Too little free memory is a warning: it comes and goes."""
    found = check_ram(make_batch(make_job(), available_ram_bytes=lambda: int(free_gb * 1e9)))
    assert [finding.level for finding in found] == ([level] if level else [])


def test_no_estimate_asks_for_more_than_4_gb(make_batch: Make, make_job: Make, header: Make) -> None:
    """A recording that is projected to take 50 GB asks for 4 GB, and two in flight for 8."""
    huge = header(n_channels=384, n_samples=10**9)
    jobs = make_job(name="a"), make_job(name="b")
    readings = {"header": huge, "available_ram_bytes": lambda: 5 * 10**9}
    assert check_ram(make_batch(*jobs, **readings)) == []
    assert len(check_ram(make_batch(*jobs, n_parallel=2, **readings))) == 1


def test_given_ram_is_the_limit(make_batch: Make, make_job: Make) -> None:
    """A value of the user's replaces the estimate, and falling below it is an error."""
    jobs = [make_job(name=name, preflight_min_available_ram_gb=10) for name in "ab"]
    (found,) = check_ram(make_batch(*jobs, available_ram_bytes=lambda: 9 * 10**9))
    assert (found.level, "10 GB" in found.message) == ("error", True)
    assert check_ram(make_batch(*jobs, available_ram_bytes=lambda: 11 * 10**9)) == []


@pytest.mark.parametrize("free_gb, level", [(0.5, "warning"), (20.0, None)])
def test_vram(make_batch: Make, make_job: Make, free_gb: float, level: str | None) -> None:
    """Too little free memory on the GPU is a warning that says which GPU."""
    found = check_vram(make_batch(make_job(), **_readings(_gpu(free_gb))))
    assert [finding.level for finding in found] == ([level] if level else [])
    assert all("0.5 of 24.0 GB of the RTX 4090" in finding.message for finding in found)


def test_given_vram_is_the_limit(make_batch: Make, make_job: Make) -> None:
    """A value of the user's replaces the estimate, and falling below it is an error."""
    job = make_job(preflight_min_free_vram_gb=16)
    (found,) = check_vram(make_batch(job, **_readings(_gpu(8))))
    assert found.level == "error"
    assert check_vram(make_batch(job, **_readings(_gpu(17)))) == []


def test_only_the_gpu_that_will_be_used_counts(make_batch: Make, make_job: Make) -> None:
    """The device of the settings is judged, in torch's order, which may be another than the driver's."""
    readings = _readings(_gpu(0.1, "GPU-a"), _gpu(20, "GPU-b"), uuids=("b", "a"))
    assert check_vram(make_batch(make_job(), **readings)) == []
    second = make_job(kilosort_params={"torch_device": "cuda:1"})
    assert len(check_vram(make_batch(second, **readings))) == 1


def test_the_emptiest_gpu_is_judged_as_a_sort_takes_it(make_batch: Make, make_job: Make) -> None:
    """Of several GPUs one that others have filled is no warning; where all are full, the emptiest is named."""
    first_full = _readings(_gpu(0.1, "GPU-a"), _gpu(20, "GPU-b"), uuids=("a", "b"))
    assert check_vram(make_batch(make_job(), **first_full)) == []
    (found,) = check_vram(make_batch(make_job(runner="inline"), **first_full))  # which takes the first
    assert found.message.startswith("0.1 of")
    all_full = _readings(_gpu(0.1, "GPU-a"), _gpu(0.4, "GPU-b"), _gpu(20, "GPU-hidden"), uuids=("a", "b"))
    (found,) = check_vram(make_batch(make_job(), **all_full))
    assert found.message.startswith("0.4 of")
    small_and_large = _readings(_gpu(1, "GPU-a", memory_gb=1), _gpu(12, "GPU-b"), uuids=("a", "b"))
    assert check_vram(make_batch(make_job(), **small_and_large)) == []


def test_a_gpu_with_a_sort_of_ours_is_waited_for(make_batch: Make, make_job: Make) -> None:
    """What another sort takes of a GPU is no reason to end it, nor to refuse a batch: a free GPU, or its end, comes."""
    readings = {**_readings(_gpu(0.1, "GPU-a"), _gpu(20, "GPU-b"), uuids=("a", "b"))}
    held = {"GPU-b": "process 7 (user ada)"}
    strict = make_job(preflight_min_free_vram_gb=16, preflight_strict=True)
    (found,) = check_vram(make_batch(strict, held_gpus=lambda: held, **readings))
    assert (found.code, found.level) == ("vram-low", "error")  # the free one is filled by others
    (found,) = check_vram(make_batch(strict, held_gpus=lambda: {**held, "GPU-a": "another sort"}, **readings))
    assert (found.code, found.level, "process 7 (user ada)" in found.message) == ("gpu-busy", "info", True)
    assert check_vram(make_batch(strict, held_gpus=lambda: {"GPU-a": "another sort"}, **readings)) == []


def test_sort_on_the_cpu_needs_no_gpu_memory(make_batch: Make, make_job: Make) -> None:
    """A full GPU does not matter to a sort that does not use it, or cannot see it."""
    readings = _readings(_gpu(0.1))
    on_cpu = make_job(kilosort_params={"torch_device": "cpu"})
    assert check_vram(make_batch(on_cpu, **readings)) == []
    assert check_vram(make_batch(make_job(), environment={"CUDA_VISIBLE_DEVICES": ""}, **readings)) == []
