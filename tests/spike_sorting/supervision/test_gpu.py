"""The NVIDIA driver is asked through one seam, and never believed to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_nvidia_driver

from spikelab.spike_sorting.supervision.gpu import GpuSample, NvmlGpu


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


PROCESSES = [SimpleNamespace(pid=7, usedGpuMemory=1_500_000_000), SimpleNamespace(pid=8, usedGpuMemory=None)]
ANSWERS = {
    "Init": None,
    "Shutdown": None,
    "DeviceGetCount": 2,
    "DeviceGetHandleByIndex": "a device",
    "DeviceGetName": b"Scripted 3000",
    "DeviceGetUUID": b"GPU-8f2e41d0",
    "DeviceGetMemoryInfo": SimpleNamespace(used=2_000_000_000, total=10_000_000_000),
    "DeviceGetComputeRunningProcesses": PROCESSES,
    "DeviceGetTemperature": 61,
    "DeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=5),
    "DeviceGetCurrentClocksThrottleReasons": 0x41,
}


@dataclass
class ScriptedNvml:
    """A driver whose errors (NVML's numbers) and pauses are set by the test, by function."""

    errors: dict[str, int] = field(default_factory=dict)
    hangs: dict[str, threading.Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    NVMLError: type[NVMLError] = NVMLError

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = name.removeprefix("nvml")
        if function not in ANSWERS:
            raise AttributeError(name)
        return lambda *arguments: self._answer(function)

    def _answer(self, function: str) -> Any:
        self.asked.append(function)
        if function in self.hangs:
            self.hangs[function].wait(30)
        if function in self.errors:
            raise NVMLError(self.errors[function])
        return ANSWERS[function]


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """An event for which a scripted driver waits; the threads it holds end with the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("asking"):
            thread.join(5)


def test_a_sample_has_everything_the_driver_tells():
    """One sample has name, memory, processes, temperature, throttling and use."""
    assert NvmlGpu(ScriptedNvml()).sample(1) == GpuSample(
        index=1,
        name="Scripted 3000",
        used_bytes=2_000_000_000,
        total_bytes=10_000_000_000,
        processes={7: 1_500_000_000, 8: None},
        temperature_c=61.0,
        throttling=("thermal slowdown (hardware)",),
        utilisation_pct=37.0,
    )


def test_nothing_is_loaded_before_the_first_question():
    """Making a reader asks nothing; the driver is opened once."""
    nvml = ScriptedNvml()
    gpu = NvmlGpu(nvml)
    assert nvml.asked == []
    gpu.close()
    assert nvml.asked == []
    gpu.count()
    gpu.count()
    gpu.close()
    assert nvml.asked == ["Init", "DeviceGetCount", "DeviceGetCount", "Shutdown"]


@pytest.mark.parametrize("code", [9, 12])
def test_a_machine_without_a_driver_has_no_gpu(code: int):
    """No library or no driver is no GPU, and not an error; asking for one is."""
    gpu = NvmlGpu(ScriptedNvml(errors={"Init": code}))
    assert gpu.count() == 0
    with pytest.raises(OSError, match=f"NVML error {code}"):
        gpu.sample(0)


@pytest.mark.parametrize("code", [3, 4, 13, 21])
@pytest.mark.parametrize(
    "function, name, empty",
    [
        ("DeviceGetName", "name", None),
        ("DeviceGetMemoryInfo", "used_bytes", None),
        ("DeviceGetComputeRunningProcesses", "processes", None),
        ("DeviceGetTemperature", "temperature_c", None),
        ("DeviceGetUtilizationRates", "utilisation_pct", None),
        ("DeviceGetCurrentClocksThrottleReasons", "throttling", ()),
    ],
)
def test_a_value_that_is_not_told_is_left_out(code: int, function: str, name: str, empty: object):
    """What a device does not support is None, and everything else is there."""
    sample = NvmlGpu(ScriptedNvml(errors={function: code})).sample(0)
    assert getattr(sample, name) == empty
    assert sample.temperature_c == (None if function == "DeviceGetTemperature" else 61.0)


@pytest.mark.parametrize(
    "function", ["HandleByIndex", "MemoryInfo", "ComputeRunningProcesses", "Temperature", "UtilizationRates"]
)
def test_a_lost_gpu_is_lost_whatever_notices(function: str):
    """NVML's error 15 from any question says that the device is lost."""
    assert NvmlGpu(ScriptedNvml(errors={f"DeviceGet{function}": 15})).sample(0) == GpuSample(0, is_lost=True)


def test_any_other_error_blinds():
    """Other errors are OSErrors with NVML's number, and the next question may be answered again."""
    nvml = ScriptedNvml(errors={"DeviceGetMemoryInfo": 999})
    gpu = NvmlGpu(nvml)
    with pytest.raises(OSError, match="NVML error 999"):
        gpu.sample(0)
    nvml.errors.clear()
    assert gpu.sample(0).used_bytes == 2_000_000_000


def test_a_driver_that_was_reloaded_is_opened_again():
    """After "uninitialised" the driver is opened anew."""
    nvml = ScriptedNvml()
    gpu = NvmlGpu(nvml)
    gpu.sample(0)
    nvml.errors["DeviceGetHandleByIndex"] = 1
    with pytest.raises(OSError, match="NVML error 1:"):
        gpu.sample(0)
    nvml.errors.clear()
    assert gpu.sample(0).temperature_c == 61.0
    assert nvml.asked.count("Init") == 2


def test_a_driver_that_hangs_costs_one_thread(hang: threading.Event):
    """A question that hangs is given up in time, further ones fail at once, and answers return when it does."""
    nvml = ScriptedNvml(hangs={"DeviceGetTemperature": hang})
    gpu = NvmlGpu(nvml, limit_s=0.2)
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(TimeoutError, match=r"NVIDIA driver did not answer within 0\.2 s"):
            gpu.sample(0)
    assert time.monotonic() - started < 2
    assert sum(thread.name.startswith("asking") for thread in threading.enumerate()) == 1
    hang.set()
    nvml.hangs.clear()
    for thread in threading.enumerate():
        if thread.name.startswith("asking"):
            thread.join(5)
    assert gpu.sample(0).temperature_c == 61.0


def test_own_memory_is_that_of_our_processes():
    """Ours is what our processes hold; unknown where the driver does not tell."""
    sample = NvmlGpu(ScriptedNvml()).sample(0)
    assert sample.own_bytes({7, 99}) == 1_500_000_000
    assert sample.own_bytes({99}) == 0
    assert sample.own_bytes({7, 8}) is None
    assert GpuSample(0).own_bytes({7}) is None


def test_a_gpu_is_known_by_the_start_of_its_identity():
    """As CUDA does, it takes the first that begins so; what the driver does not know is an error."""
    gpu = NvmlGpu(ScriptedNvml())
    assert gpu.index_of("GPU-8f2e") == 0
    with pytest.raises(OSError, match="no GPU MIG-1"):
        gpu.index_of("MIG-1")


# ------------------------------------------------------------------------------- the real pynvml, a fake driver

WATCH = """
import json, sys
from spikelab.spike_sorting.supervision.gpu import NvmlGpu
gpu = NvmlGpu()
assert "pynvml" not in sys.modules
print(gpu.count(), flush=True)
for line in sys.stdin:
    sample = gpu.sample(0)
    print(json.dumps({**vars(sample), "processes": dict(sample.processes or {})}), flush=True)
"""


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory: pytest.TempPathFactory, require_program: Any) -> Path:
    """A folder with a libnvidia-ml.so.1 that reads its answers from the file ``gpu.txt`` beside it."""
    return fake_nvidia_driver(tmp_path_factory.mktemp("driver"), require_program("gcc"))


def test_pynvml_and_a_driver_are_read_as_scripted(fake_driver: Path):
    """Through the real pynvml: memory that grows, a process of ours, heat, no throttle reasons, and a lost GPU."""
    answers = fake_driver / "gpu.txt"
    answers.write_text("total 8000000000\nused 1000000000\nown 900000000\npid 4242\ntemp 55\nutil 12\n")
    child = subprocess.Popen(
        [sys.executable, "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(fake_driver)},
    )
    with child:
        assert child.stdout.readline() == "1\n"
        first = _asked(child)
        assert first["name"] == "Fake GPU"
        assert (first["used_bytes"], first["total_bytes"]) == (1_000_000_000, 8_000_000_000)
        assert first["processes"] == {"4242": 900_000_000}
        assert (first["temperature_c"], first["utilisation_pct"], first["throttling"]) == (55.0, 12.0, [])
        answers.write_text("total 8000000000\nused 7900000000\nown 7800000000\npid 4242\ntemp 95\n")
        assert _asked(child)["used_bytes"] == 7_900_000_000
        answers.write_text("error 15\n")
        assert _asked(child)["is_lost"] is True
        child.stdin.close()
        assert child.wait(10) == 0


def _asked(child: subprocess.Popen[str]) -> dict[str, Any]:
    child.stdin.write("\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline())


def test_pynvml_without_a_driver_finds_no_gpu(tmp_path: Path):
    """Through the real pynvml on a machine without the library, there is no GPU."""
    code = "import pynvml\ntry:\n pynvml.nvmlInit()\nexcept pynvml.NVMLError: print('none')"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "none" not in probe.stdout:
        pytest.skip("there is a driver here")
    assert NvmlGpu().count() == 0
