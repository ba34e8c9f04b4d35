"""GPUs that are there, and torch's that can use them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from spikelab.spike_sorting.preflight.builds import runs_on, wheel_index
from spikelab.spike_sorting.preflight.gpu import check_gpu
from spikelab.spike_sorting.preflight.gpu_choice import device_of, first_gpus, left_out, used_gpus
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch, ask_torch, read_driver
from spikelab.spike_sorting.preflight.memory import check_vram
from spikelab.spike_sorting.supervision import host

Make = Callable[..., Any]

GPU = Gpu("RTX 5070 Ti", (12, 0), 16 * 10**9, 15 * 10**9, "GPU-a")
OLD = Gpu("GT 710", (3, 5), 10**9, 10**9, "GPU-old")
DRIVER = Driver("580.65", (13, 0), (GPU,))
GOOD = Torch(cuda_build="13.0", usable=(GPU.name,), uuids=("a",), architectures=("sm_80", "sm_120"))

_FAKE_NVML = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInitWithFlags(unsigned flags) { return INIT; }
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "other"; }
int nvmlSystemGetDriverVersion(char *out, unsigned n) { strcpy(out, "570.86"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 12080; return 0; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = COUNT; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) { *out = (void *)1; return index ? 15 : 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) { *major = 8; *minor = 6; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory_t *m) { m->total = 12000000000; m->free = 9000000000; return MEMORY; }
int nvmlDeviceGetName(void *d, char *out, unsigned n) { strcpy(out, "Fake 3060"); return 0; }
int nvmlDeviceGetUUID(void *d, char *out, unsigned n) { strcpy(out, "GPU-1234"); return 0; }
"""
_READ = """
import dataclasses, json
from spikelab.spike_sorting.preflight.machine import read_driver
print(json.dumps(dataclasses.asdict(read_driver())))
"""


def _found(batch: Any) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in check_gpu(batch)]


def _readings(torch: Torch = GOOD, driver: Driver | None = DRIVER) -> dict[str, Any]:
    return {"driver": lambda: driver, "torch": lambda: torch}


def test_gpu_that_works_is_no_finding(make_batch: Make, make_job: Make) -> None:
    """A GPU that torch has code for is not spoken of."""
    assert _found(make_batch(make_job(), **_readings())) == []


def test_no_gpu_is_told_and_torch_not_asked(make_batch: Make, make_job: Make) -> None:
    """Without a driver the sort runs on the CPU, and the seconds of importing torch are saved."""
    assert _found(make_batch(make_job())) == [("gpu-none", "info")]


def test_torch_is_asked_once(make_batch: Make, make_job: Make) -> None:
    """However many recordings and checks, torch is asked once a run."""
    asked: list[int] = []
    readings = {"driver": lambda: DRIVER, "torch": lambda: asked.append(1) or GOOD}
    batch = make_batch(make_job(name="a"), make_job(name="b"), **readings)
    check_gpu(batch)
    assert used_gpus(batch) == (GPU,)
    assert len(asked) == 1


def test_torch_for_the_cpu_gets_the_exact_remedy(make_batch: Make, make_job: Make) -> None:
    """A GPU beside a torch without CUDA is a warning with the command for this interpreter and driver."""
    (found,) = check_gpu(make_batch(make_job(), **_readings(Torch())))
    assert (found.code, found.level) == ("torch-cpu-only", "warning")
    assert f"{sys.executable} -m pip install 'torch>=2.4,<3' --index-url" in found.advice
    assert found.advice.endswith("whl/cu130")


def test_gpu_newer_than_torch_is_an_error(make_batch: Make, make_job: Make) -> None:
    """A GPU that torch has no code for ends the start, since Kilosort4 would take it and fail."""
    old = Torch("12.4", (GPU.name,), ("a",), ("sm_80", "sm_90"))
    (found,) = check_gpu(make_batch(make_job(), **_readings(old)))
    assert (found.code, found.level) == ("gpu-unsupported", "error")
    assert "12.0" in found.message


def test_a_gpu_that_torch_cannot_use_is_left_out_by_name(make_batch: Make, make_job: Make) -> None:
    """An old card for the screen has no sort and stops none, whatever its number; one that is asked for is refused."""
    torch = Torch("12.8", (OLD.name, GPU.name), ("old", "a"), ("sm_120",))
    readings = _readings(torch, Driver("580", (13, 0), (OLD, GPU)))
    batch = make_batch(make_job(), **readings)
    (found,) = check_gpu(batch)
    assert (found.code, found.level) == ("gpu-left-out", "warning")
    assert "GT 710 (GPU 0): torch has no code for its compute capability 3.5, only for sm_120" in found.message
    assert found.advice == "Nothing, if the others will do: CUDA_VISIBLE_DEVICES=1 says so."  # no build suits both
    assert (left_out(batch), used_gpus(batch), first_gpus(batch)) == ({"GPU-old"}, (GPU,), (GPU,))
    assert device_of(batch, batch.jobs[0]) == "cuda"
    hidden = make_batch(make_job(), **readings, environment={"CUDA_VISIBLE_DEVICES": "1"})
    assert (_found(hidden), left_out(hidden)) == ([], frozenset())
    by_name = make_batch(make_job(kilosort_params={"torch_device": "cuda:0"}), **readings)
    assert (_found(by_name), left_out(by_name)) == ([("gpu-unsupported", "error")], frozenset())
    here = make_batch(make_job(runner="inline"), **readings)  # which takes the first
    assert _found(here) == [("gpu-unsupported", "error")]


def test_of_gpus_that_one_build_suits_none_need_lie_idle(make_batch: Make, make_job: Make) -> None:
    """A torch that is too old for one of the GPUs is exchanged for one that has code for all."""
    older = Gpu("RTX 3090", (8, 6), 24 * 10**9, 20 * 10**9, "GPU-b")
    torch = Torch("12.4", (GPU.name, older.name), ("a", "b"), ("sm_86", "sm_90"))
    (found,) = check_gpu(make_batch(make_job(), **_readings(torch, Driver("580", (13, 0), (GPU, older)))))
    assert (found.code, "whl/cu130" in found.advice) == ("gpu-left-out", True)


def test_a_gpu_of_which_little_is_known(make_batch: Make, make_job: Make) -> None:
    """One that shares the memory of the machine is used; beside it one that does not answer is named and left out."""
    shared = Gpu("GB10", (12, 1), None, None, "GPU-a")
    lost = Gpu("NVIDIA GPU", (0, 0), None, None, "1", "the GPU does not answer (GPU is lost)")
    readings = _readings(replace(GOOD, usable=("GB10",)), Driver("580", (13, 0), (shared, lost)))
    for job in (make_job(), make_job(sorter_name="kilosort2")):
        batch = make_batch(job, **readings)
        (found,) = check_gpu(batch)
        assert (found.code, "(GPU 1): the GPU does not answer" in found.message) == ("gpu-left-out", True)
        assert (left_out(batch), first_gpus(batch), check_vram(batch)) == ({"1"}, (shared,), [])


@pytest.mark.parametrize(
    "torch, expected",
    [
        (Torch(), {"GPU-a", "GPU-b"}),
        (Torch("13.0"), {"GPU-a", "GPU-b"}),
        (Torch("13.0", (GPU.name,), ("a",), ("sm_120",)), {"GPU-b"}),
        (Torch("13.0", (GPU.name,) * 2, ("", ""), ("sm_120",)), set()),
        (Torch("13.0", (GPU.name,), ("part-of-a",), ("sm_120",)), set()),
    ],
    ids=["for the CPU", "sees none", "sees one", "cannot tell them apart", "sees a part"],
)
def test_a_gpu_is_taken_where_torch_sees_it(make_batch: Make, make_job: Make, torch: Torch, expected: set[str]) -> None:
    """A sort that would compute on the CPU takes no GPU from others; where torch cannot tell, all count."""
    readings = _readings(torch, Driver("580", (13, 0), (GPU, replace(GPU, uuid="GPU-b"))))
    batch = make_batch(make_job(), **readings)
    assert left_out(batch) == expected
    assert device_of(batch, batch.jobs[0]) == ("cpu" if len(expected) == 2 else "cuda")
    in_matlab, contained = make_job(sorter_name="kilosort2"), make_job(use_docker="kilosort4:1")
    for other in (in_matlab, contained):
        assert left_out(make_batch(other, **readings)) == frozenset()


def test_a_gpu_with_too_little_memory_is_left_out(make_batch: Make, make_job: Make) -> None:
    """One that is smaller than what should be free is not used, unless all are: then that is said of the largest."""
    small = replace(GPU, memory_bytes=10**9, free_bytes=10**9, uuid="GPU-b")
    readings = _readings(replace(GOOD, usable=(GPU.name,) * 2, uuids=("a", "b")), Driver("580", (13, 0), (GPU, small)))
    batch = make_batch(make_job(), **readings)
    assert (left_out(batch), _found(batch)) == ({"GPU-b"}, [("gpu-left-out", "warning")])
    batch = make_batch(make_job(preflight_min_free_vram_gb=20), **readings)
    assert (left_out(batch), _found(batch), first_gpus(batch)) == (frozenset(), [], (GPU,))


@pytest.mark.parametrize(
    "torch, code, hint",
    [
        (Torch(error="libcudart.so.12: cannot open"), "torch-broken", "force-reinstall"),
        (Torch("13.0"), "gpu-unusable", "nvidia-smi"),
        (Torch("14.0"), "gpu-unusable", "too old"),
    ],
)
def test_torch_that_cannot_use_the_gpu(make_batch: Make, make_job: Make, torch: Torch, code: str, hint: str) -> None:
    """A torch that is broken, or sees no GPU, is told with what to do."""
    (found,) = check_gpu(make_batch(make_job(), **_readings(torch)))
    assert (found.code, hint in found.advice) == (code, True)


def test_a_demanded_gpu_turns_warnings_into_errors(make_batch: Make, make_job: Make) -> None:
    """A sort with torch_device="cuda" cannot fall back to the CPU."""
    job = make_job(kilosort_params={"torch_device": "cuda"})
    assert _found(make_batch(job)) == [("gpu-none", "error")]
    assert _found(make_batch(job, **_readings(Torch()))) == [("torch-cpu-only", "error")]
    hidden = make_batch(job, **_readings(), environment={"CUDA_VISIBLE_DEVICES": "-1"})
    assert _found(hidden) == [("gpu-hidden", "error")]


def test_kilosort2_without_a_gpu(make_batch: Make, make_job: Make) -> None:
    """Kilosort2 cannot sort on the CPU: a warning, since only MATLAB knows for certain."""
    job = make_job(sorter_name="kilosort2")
    (found,) = check_gpu(make_batch(job))
    assert (found.code, found.level, "Kilosort2 needs" in found.message) == ("gpu-none", "warning", True)
    assert _found(make_batch(job, driver=lambda: DRIVER)) == []


def test_hidden_gpu_and_sort_on_the_cpu(make_batch: Make, make_job: Make) -> None:
    """A GPU that is hidden on purpose is told of; a sort on the CPU has nothing to say."""
    assert _found(make_batch(make_job(), **_readings(), environment={"CUDA_VISIBLE_DEVICES": ""})) == [
        ("gpu-hidden", "info")
    ]
    on_cpu = make_job(kilosort_params={"torch_device": "cpu"})
    assert _found(make_batch(on_cpu, driver=lambda: pytest.fail("asked"))) == []


def test_sort_in_a_container_does_not_ask_this_torch(make_batch: Make, make_job: Make) -> None:
    """A container brings its own torch: the one here is not asked."""
    batch = make_batch(make_job(use_docker="kilosort4:1"), driver=lambda: DRIVER)
    assert _found(batch) == []
    assert used_gpus(batch) == (GPU,)


def test_driver_that_does_not_work(make_batch: Make, make_job: Make) -> None:
    """A driver that fails is told in its own words, and the sort may still run on the CPU."""
    driver = Driver(problem="Driver/library version mismatch")
    (found,) = check_gpu(make_batch(make_job(), driver=lambda: driver))
    assert (found.code, found.level, "mismatch" in found.message) == ("gpu-driver", "warning", True)


@pytest.mark.parametrize(
    "capability, architectures, runs",
    [
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80", "sm_86"), False),
        ((9, 0), ("compute_80",), True),
        ((12, 0), ("sm_120",), True),
        ((12, 0), (), False),
    ],
)
def test_code_runs_on_its_generation(capability: tuple[int, int], architectures: tuple[str, ...], runs: bool) -> None:
    """Machine code runs on later GPUs of its generation, intermediate code on all later ones."""
    assert runs_on(capability, architectures) is runs


@pytest.mark.parametrize(
    "cuda, capabilities, index",
    [
        ((13, 0), [(12, 0)], "cu130"),
        ((13, 0), [(6, 1)], "cu126"),
        ((12, 8), [(8, 6)], "cu128"),
        ((12, 4), [(12, 0)], "cu128"),
        ((12, 4), [(8, 6)], "cu126"),
        ((11, 8), [(8, 6)], None),
        ((13, 0), [(3, 5), (12, 0)], "cu130"),
        ((13, 0), [(6, 1), (12, 0)], "cu130"),
        ((13, 0), [(6, 1), (8, 6)], "cu126"),
    ],
)
def test_builds_of_torch(cuda: tuple[int, int], capabilities: list[tuple[int, int]], index: str | None) -> None:
    """The build that is named suits the driver and has code for most of the GPUs, the newest one where that is even."""
    assert wheel_index(cuda, [Gpu("x", capability, 1, 1) for capability in capabilities]) == index


# ------------------------------------------------------------------------------------------- the real readings


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_real_torch_is_asked_in_another_process() -> None:
    """The torch that is installed answers, and is not imported here."""
    before = "torch" in sys.modules
    said = ask_torch()
    assert said.error is None
    assert ("torch" in sys.modules) == before


def test_torch_counts_gpus_as_in_a_worker() -> None:
    """Numbers of GPUs mean the same to the torch that is asked as to the one that sorts."""
    answer = 'dict(cuda_build=os.environ["CUDA_DEVICE_ORDER"], usable=[], uuids=[], architectures=[])'
    said = ask_torch([sys.executable, "-c", f"import json, os; print(json.dumps({answer}))"])
    assert said == Torch(host.worker_environment(1)["CUDA_DEVICE_ORDER"])


def test_broken_torch_is_an_answer() -> None:
    """A torch that cannot be imported, or kills its process, is told in the last line it wrote."""
    said = ask_torch([sys.executable, "-c", "raise OSError('libcudart.so.12: cannot open')"])
    assert said.error == "OSError: libcudart.so.12: cannot open"
    assert ask_torch([sys.executable, "-c", "import os; os._exit(9)"]).error == "exit 9"


def test_driver_that_hangs_is_not_waited_for() -> None:
    """A driver that never answers costs the time limit, and counts as one that does not work."""
    release = Event()
    try:
        driver = read_driver(timeout_s=0.05, ask=lambda: release.wait(30) and None)
    finally:
        release.set()
    assert driver is not None
    assert driver.problem is not None
    assert "does not answer" in driver.problem


def _read_through(gcc: Path, folder: Path, *, init: int = 0, memory: int = 0, count: int = 1) -> dict[str, Any] | None:
    source = folder / "nvml.c"
    source.write_text(_FAKE_NVML)
    library = folder / "libnvidia-ml.so.1"
    answers = [f"-DINIT={init}", f"-DMEMORY={memory}", f"-DCOUNT={count}"]
    subprocess.run([gcc, "-shared", "-fPIC", *answers, "-o", library, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", _READ], env={"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True, check=True
    )
    value: dict[str, Any] | None = json.loads(done.stdout)
    return value


@pytest.mark.skipif(sys.platform != "linux", reason="the fake library is for Linux")
def test_readings_through_a_fake_library(require_program: Make, tmp_path: Path) -> None:
    """What NVML says is read by its own calls: driver, CUDA, GPUs with memory and identity; or why it fails.

    A GPU that shares the memory of the machine has none of its own; one that is lost takes none of the others with it.
    """
    gcc = require_program("gcc")
    read = _read_through(gcc, tmp_path)
    gpu = {"name": "Fake 3060", "capability": [8, 6], "memory_bytes": 12 * 10**9, "free_bytes": 9 * 10**9}
    assert read == {
        "version": "570.86",
        "cuda": [12, 8],
        "gpus": [{**gpu, "uuid": "GPU-1234", "problem": None}],
        "problem": None,
    }
    broken = _read_through(gcc, tmp_path, init=18)
    assert broken is not None
    assert "mismatch" in broken["problem"].lower()
    shared = _read_through(gcc, tmp_path, memory=3, count=2)
    assert shared is not None
    there, lost = shared["gpus"]
    assert (there["name"], there["memory_bytes"], there["problem"]) == ("Fake 3060", None, None)
    assert (lost["uuid"], "does not answer" in lost["problem"], shared["problem"]) == ("1", True, None)
