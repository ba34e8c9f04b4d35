"""The environment of a worker: thread pools that behave, what the user set, and nothing of it in the caller."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting.supervision import host

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

_SORT = """
import json, os, sys
from spikelab.spike_sorting import sort_recording
before = dict(os.environ)
options = {"curate_first": False, "curate_second": False, "preflight": False, "n_jobs": 1}
sort_recording(sys.argv[1], sorter="fake", **options, **json.loads(sys.argv[2]))
print(json.dumps({"changed": sorted(set(before.items()) ^ set(os.environ.items())), "caller": before}))
"""


@pytest.mark.parametrize("n_threads", [1, 3])
def test_pools_have_the_size_that_they_are_given(monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    """Every thread pool has n_threads, whatever the caller's variables say, and waiting threads sleep."""
    for pool in POOLS:
        monkeypatch.setenv(pool, "64")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("LAB", "3")
    before = dict(os.environ)
    environment = host.worker_environment(n_threads)
    assert {environment[pool] for pool in POOLS} == {str(n_threads)}
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["LAB"] == "3"
    assert environment["MPLBACKEND"] == "Agg"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert dict(os.environ) == before


@pytest.mark.parametrize("before", [None, "FASTEST_FIRST"])
def test_a_sort_in_this_process_numbers_gpus_alike(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    """A GPU has the same number for a debugger as in a worker, lock and checks; then all is as it was."""
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", before)
    with host.numbering_gpus_as_a_worker():
        assert os.environ["CUDA_DEVICE_ORDER"] == host.worker_environment(1)["CUDA_DEVICE_ORDER"]
    assert os.environ.get("CUDA_DEVICE_ORDER") == before


def test_the_libraries_follow_it() -> None:
    """Torch, numba and BLAS in a worker compute with as many threads as the environment says."""
    pytest.importorskip("torch")
    code = """
import json, numba, numpy, threadpoolctl, torch
pools = {pool["internal_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
print(json.dumps({**pools, "torch": torch.get_num_threads(), "numba": numba.config.NUMBA_NUM_THREADS}))
"""
    # By itself each would take all cores.
    environment = dict(host.worker_environment(1))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    threads = json.loads(done.stdout)
    assert {"torch", "numba"} < threads.keys()
    assert set(threads.values()) == {1}


def test_cores_are_counted_as_this_process_may_use_them() -> None:
    """The threads are no more than the cores that the caller may use, and at least one."""
    assert 1 <= host.free_cores() <= host.usable_cores() <= (os.cpu_count() or 1)
    code = "from spikelab.spike_sorting.supervision import host; print(host.usable_cores(), host.free_cores())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "1"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The environment of the worker that sorts, read from outside while it works, and what the caller says."""
    folder = tmp_path_factory.mktemp("environment")
    file = folder / "culture.raw.h5"
    simulate_maxwell(file, duration_s=2, n_channels=6, n_units=2)
    options = {
        "kilosort_params": {"behaviour": "sleep"},
        "hdf5_plugin_path": os.pathsep.join(["/opt/one", "/opt/two"]),
    }
    environment = with_fake_sorter(HDF5_PLUGIN_PATH="/opt/mine", OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="64")
    with subprocess.Popen(
        [sys.executable, "-c", _SORT, str(file), json.dumps(options)],
        env=environment, stdout=subprocess.PIPE, text=True,
    ) as caller:  # fmt: skip
        worker = _environment_of_the_sorter(caller, folder / "inter_fake" / file.name)
        said, _ = caller.communicate(timeout=60)
    assert caller.returncode == 0
    return {"worker": worker, **json.loads(said)}


def _environment_of_the_sorter(caller: subprocess.Popen[str], inter: Path) -> dict[str, str]:
    """Return the environment of the process that the fake sorter runs in, once it does."""
    me, module = psutil.Process(caller.pid), "spikelab.spike_sorting.worker"
    while not (inter / "fake_attempts" / "1").exists():
        assert caller.poll() is None, "the sort ended before its worker was seen"
        time.sleep(0.01)
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            # The guardian's command ends with the worker's.
            if process.cmdline()[1:3] == ["-m", module]:
                return process.environ()
    pytest.fail("the worker is not among the caller's descendants")


@pytest.mark.timeout(120)
def test_a_worker_gets_it(seen: dict[str, Any]) -> None:
    """A worker of a real sort has pools of at most the cores there are, and its threads sleep while they wait."""
    worker = seen["worker"]
    assert {worker[pool] for pool in POOLS} <= {str(n) for n in range(1, host.usable_cores() + 1)}
    assert worker["OMP_WAIT_POLICY"] == "PASSIVE"
    assert worker["PYTHONPATH"] == seen["caller"]["PYTHONPATH"]


def test_plugins_reach_the_worker(seen: dict[str, Any]) -> None:
    """HDF5 finds the folders of hdf5_plugin_path when it starts, in their order and before the caller's own."""
    folders = seen["worker"]["HDF5_PLUGIN_PATH"].split(os.pathsep)
    assert folders[:2] == ["/opt/one", "/opt/two"]


def test_the_caller_keeps_its_own(seen: dict[str, Any]) -> None:
    """A sort changes nothing in the environment of the process that calls it."""
    assert seen["changed"] == []
    assert seen["caller"]["HDF5_PLUGIN_PATH"] == "/opt/mine"
    assert seen["caller"]["OMP_NUM_THREADS"] == "64"
