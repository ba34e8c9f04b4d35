"""When the spikes of Kilosort4 stay in memory, and when on disk."""

from __future__ import annotations

import math
import sys

import pytest

from spikelab.spike_sorting.backends.kilosort4.memory import in_memory_bytes
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.memory import free_memory_bytes

GB = 10**9


@pytest.mark.parametrize(
    "arrays_on_disk, total_memory, free_bytes, expected",
    [
        (True, None, 64 * GB, 0.0),
        (True, "32G", 64 * GB, 0.0),
        (False, None, 1, math.inf),
        (False, "1G", 64 * GB, math.inf),
        (None, None, 64 * GB, 8 * GB),
        (None, "16G", 64 * GB, 4 * GB),
        (None, 16 * GB, 64 * GB, 4 * GB),
        (None, "64G", 8 * GB, 2 * GB),
        (None, None, 0, 0.0),
    ],
)
def test_arrays_stay_in_memory_while_they_are_small_beside_it(
    arrays_on_disk: bool | None, total_memory: str | int | None, free_bytes: int, expected: float
) -> None:
    """A quarter of total_memory, or of half of what is free, and never of more than is free; a wish comes first."""
    assert in_memory_bytes(arrays_on_disk, total_memory, free_bytes) == expected


def test_free_memory_is_that_of_the_tightest_limit() -> None:
    """What is free around this process is some memory, and not more than the machine has left."""
    assert 0 < free_memory_bytes() <= 1.1 * host.available_memory_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_freed_memory_goes_back() -> None:
    """What a worker frees is the system's again, though its allocator is told to keep it."""
    import subprocess

    code = """
import psutil
from spikelab.spike_sorting.supervision import host
blocks = [bytearray(1 << 20) for _ in range(200)]
last = bytearray(1 << 20)
before = psutil.Process().memory_info().rss
del blocks
host.give_back_memory()
print(before - psutil.Process().memory_info().rss)
"""
    environment = dict(host.worker_environment(1))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 150 << 20


@pytest.fixture
def spilling(tmp_path):
    """The module that keeps large arrays in files, and a folder for what takes more than 1000 bytes."""
    pytest.importorskip("kilosort")
    from spikelab.spike_sorting.backends.kilosort4 import spilling

    return spilling, spilling.Spill(tmp_path / "spill", 1000)


def test_arrays_that_upstream_doubles_grow_into_files(spilling, monkeypatch):
    """An array that outgrows the limit keeps its values and has zeros behind them, and the module its numpy."""
    import types

    import numpy as np
    import torch

    spill_module, spill = spilling
    made = []
    zeros = spill_module.Spill.zeros
    monkeypatch.setattr(spill_module.Spill, "zeros", lambda *a: made.append(a[1]) or zeros(*a))
    module = types.SimpleNamespace(np=np, torch=torch)
    small, large = np.arange(10.0).reshape(5, 2), np.arange(200.0).reshape(50, 2, 2)
    with spill.growing(module):
        for array in (small, large):
            for first, doubled in (
                (array, module.np.concatenate((array, module.np.zeros_like(array)), 0)),
                (array, module.torch.cat((torch.from_numpy(array), module.torch.zeros_like(torch.from_numpy(array))))),
            ):
                values = np.asarray(doubled)
                np.testing.assert_array_equal(values, np.concatenate((first, np.zeros_like(first))))
                doubled[-1] = 7
        assert module.np.pi == np.pi
    assert made == [(100, 2, 2)] * 2
    assert (module.np, module.torch) == (np, torch)
    assert not list(spill.folder.iterdir())


@pytest.mark.parametrize("kind", ["order", "mask", "numbers"])
def test_copies_of_features_are_the_same_in_a_file(spilling, monkeypatch, kind):
    """Rows in another order, some rows, and changes to them give what they give in memory."""
    import types

    import numpy as np
    import torch

    spill_module, spill = spilling
    monkeypatch.setattr(spill_module, "_ROWS", 30)
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(200, 3, 2)).astype("float32"))
    index = {
        "order": rng.permutation(200),
        "mask": rng.random(200) < 0.7,
        "numbers": torch.from_numpy(rng.integers(-200, 200, 150)),
    }[kind]
    expected = features.clone()[index]
    state = types.SimpleNamespace(tF=features.clone())
    with spill.copying(state):
        state.tF = state.tF[index]
        assert type(state.tF) is not torch.Tensor
        assert type(state.tF[:5]) is torch.Tensor
        assert type(torch.norm(state.tF, dim=-1)) is torch.Tensor
        state.tF[torch.tensor([3, 4])] = 0.0
    expected[[3, 4]] = 0.0
    assert type(state.tF) is torch.Tensor
    assert torch.equal(state.tF, expected)


def test_positions_are_the_same_in_parts(spilling, monkeypatch):
    """Upstream's positions of spikes, asked for some spikes at a time, are those of all at once, to the bit."""
    import numpy as np
    import torch
    from kilosort import io

    spill_module, _ = spilling
    monkeypatch.setattr(spill_module, "_ROWS", 17)
    rng = np.random.default_rng(0)
    order = torch.from_numpy(np.array([np.argsort(abs(np.arange(12) - k))[:6] for k in range(12)]).T)
    ops = {
        "iCC": order,
        "iCC_mask": torch.ones(6, 12, dtype=torch.bool),
        "iU": torch.arange(12),
        "xc": np.zeros(12),
        "yc": 20.0 * np.arange(12),
    }
    st = np.stack((np.arange(100), rng.integers(0, 12, 100), np.ones(100)), axis=1).astype("int64")
    features = torch.from_numpy(rng.normal(size=(100, 6, 4)).astype("float32"))
    upstream = io.compute_spike_positions
    expected = upstream(st, features, ops)
    with spill_module.row_by_row(io, "compute_spike_positions"):
        found = io.compute_spike_positions(st, features, ops)
    assert io.compute_spike_positions is upstream
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
