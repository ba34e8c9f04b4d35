"""Simulated recordings, sorts of them, and machines, that several tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import pytest

    from spikelab.spike_sorting.run_folder import RunFolder
    from spikelab.spike_sorting.supervision.gpu import GpuSample
    from spikelab.spike_sorting.supervision.process import ExitStatus
    from spikelab.spike_sorting.supervision.progress import Progress

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

FAST = {"kilosort_params": {"nblocks": 0}, "n_jobs": 1}
"""Settings that sort a tiny recording in seconds."""

_SCRIPT = """
import json, os, sys
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
files, options = json.loads(sys.argv[1])
sort_recording(files, out_report=report, **options)
print(json.dumps({"modules": list(sys.modules), "report": report.to_dict(), "environment": dict(os.environ)}))
"""


@dataclass(frozen=True)
class Sorted:
    """A file, its truth, and where it was sorted."""

    file: Path
    truth: Any
    results: Path
    inter: Path
    said: dict[str, Any]


def simulate_maxwell(path: Path, layout: str = "linear", **options: Any) -> Any:
    """Write a small Maxwell file and return its truth."""
    from spikelab.simulation import simulate_recording, write_maxwell

    defaults = {"n_channels": 12, "duration_s": 10, "n_units": 6, "rate_Hz": (6, 12), "peak_uV": (110, 110), "seed": 5}
    scale = {"dtype": "uint16", "gain_uV": 3.147, "offset_uV": -512 * 3.147}
    truth = simulate_recording(layout, **{**defaults, **scale, **options})
    write_maxwell(path, truth.recording)
    return truth


def sort_in_subprocess(files: list[str], **options: Any) -> dict[str, Any]:
    """Sort in a fresh process, as a script would, and return what it saw."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([files, options])],
        capture_output=True,
        text=True,
        check=False,
        env=with_fake_sorter(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def kill_worker(run: RunFolder, phase: str, is_there: Callable[[Progress], bool], n_threads: int = 1) -> ExitStatus:
    """Do `phase` in a worker of our own, with the orders of the first attempt; kill it once its progress says so."""
    from spikelab.spike_sorting.supervision import host
    from spikelab.spike_sorting.supervision.process import WorkerProcess
    from spikelab.spike_sorting.supervision.progress import read_progress

    run.progress.unlink(missing_ok=True)
    attempt = run.new_attempt()
    described = json.loads((attempt.parent / "1" / "job.json").read_text())
    (attempt / "job.json").write_text(json.dumps({**described, "phase": phase}))
    with run.log.open("ab") as log:
        started = WorkerProcess(
            [sys.executable, "-m", "spikelab.spike_sorting.worker", str(attempt)],
            environment=host.worker_environment(n_threads),
            log=log,
            status_path=attempt / "status.json",
        )
    with started as worker:
        while (exited := worker.wait(0.001)) is None:
            progress = read_progress(run.progress)
            if progress is not None and is_there(progress):
                return worker.kill()
        return exited


FAKE_SORTER = Path(__file__).with_name("fake_sorter")


def with_fake_sorter(**environment: str) -> dict[str, str]:
    """Return an environment in which the sorter "fake" is found, as a third party's would be."""
    path = os.pathsep.join(filter(None, [str(FAKE_SORTER), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}


# ---------------------------------------------------------------------------------------------- MATLAB, by Octave

KILOSORT2_STUB = Path(__file__).with_name("kilosort2_stub")
_MATLAB = """#!/bin/sh
# Takes what MATLAB takes, and has Octave do it.
while [ $# -gt 0 ]; do
  case "$1" in
    -nosplash|-nodisplay) shift ;;
    -batch) exec octave-cli --no-init-file --no-site-file --quiet --eval "$2" ;;
    *) echo "matlab: unknown option $1" >&2; exit 2 ;;
  esac
done
"""


def put_matlab_on_path(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a program `matlab` in `folder`, which is Octave, and have it found first."""
    folder.mkdir()
    program = folder / "matlab"
    program.write_text(_MATLAB, encoding="utf-8")
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    patch.delenv("KILOSORT2_PATH", raising=False)
    return program


# ------------------------------------------------------------------------- RT-Sort, by a stand-in for its package

_MODEL = {
    "num_channels_in": 1,
    "sample_size": 200,
    "buffer_front_sample": 40,
    "buffer_end_sample": 40,
    "device": "cuda",
    "architecture_params": ["20", 8, "relu", 0, 0, 0, 0],
}
RT_SORT_STANDIN = Path(__file__).with_name("rt_sort_provider")


def make_interpreter(folder: Path, *paths: Path) -> str:
    """Return an interpreter that finds packages in `paths`, in that order, and nothing else."""
    import venv

    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "standin.pth").write_text("".join(f"{path}\n" for path in paths))
    return str(folder / "bin" / "python")


def make_model(folder: Path, **weights: float) -> str:
    """Write a model that the stand-in loads: spikes lie below a threshold, in noise levels."""
    import numpy as np

    folder.mkdir()
    (folder / "init_dict.json").write_text(json.dumps(_MODEL))
    with (folder / "state_dict.pt").open("wb") as file:
        np.savez(file, **(weights or {"threshold": -5.0}))
    return str(folder)


# -------------------------------------------------------------------------------------------- an NVIDIA driver


@dataclass
class FakeGpus:
    """A driver of so many GPUs, in the place of NVML; None: it does not answer. Those in `lost` fall off the bus.

    Of their memory, 100 bytes each unless `total_bytes` says otherwise, nothing is used that is not in `used_bytes`.
    """

    n: int | None
    lost: Collection[int] = ()
    used_bytes: Mapping[int, int] = field(default_factory=dict)
    total_bytes: Mapping[int, int | None] = field(default_factory=dict)
    has_uuids: bool = True

    def count(self) -> int:
        return self._answer(self.n)

    def uuid(self, index: int) -> str:
        is_told = self.has_uuids and self.n is not None and index not in self.lost
        return self._answer(f"GPU-{index}{index}{index}" if is_told else None)

    def index_of(self, name: str) -> int:
        found = (k for k in range(self.n or 0) if self.uuid(k).startswith(name))
        return int(self._answer(next(found, None)))

    def sample(self, index: int) -> GpuSample:
        from spikelab.spike_sorting.supervision.gpu import GpuSample

        if index in self.lost:
            return GpuSample(index, is_lost=True)
        used, total = self.used_bytes.get(index, 0), self.total_bytes.get(index, 100)
        return GpuSample(index, used_bytes=used, total_bytes=total)

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, value: Any) -> Any:
        if value is None:
            msg = "the driver does not answer"
            raise TimeoutError(msg)
        return value


FAKE_DRIVER = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;
typedef struct { unsigned int gpu, memory; } rates_t;
static unsigned long long value(const char *name) {
    char line[128], key[64]; unsigned long long number, found = 0;
    FILE *file = fopen(getenv_path(), "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %llu", key, &number) == 2 && !strcmp(key, name)) found = number;
    fclose(file);
    return found;
}
#define ERROR ((int)value("error"))
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "scripted"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)1; return ERROR; }
int nvmlDeviceGetName(void *d, char *name, unsigned n) { strncpy(name, "Fake GPU", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory_t *m) {
    while (value("hang")) usleep(20000);
    m->total = value("total"); m->used = value("used"); m->free = m->total - m->used; return ERROR; }
int nvmlDeviceGetUtilizationRates(void *d, rates_t *r) { r->gpu = value("util"); r->memory = 0; return 0; }
int nvmlDeviceGetTemperature(void *d, int s, unsigned *t) { *t = value("temp"); return ERROR; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, process_t *p) {
    if (!p) { *n = 1; return 7; }
    *n = 1; p[0].pid = value("pid"); p[0].used = value("own"); p[0].gi = p[0].ci = ~0u; return 0; }
"""


def fake_nvidia_driver(folder: Path, compiler: Path) -> Path:
    """Make a libnvidia-ml.so.1 for LD_LIBRARY_PATH that reads its answers from ``gpu.txt`` beside it, each time."""
    path_function = f'static const char *getenv_path(void) {{ return "{folder / "gpu.txt"}"; }}\n'
    (folder / "fake.c").write_text(path_function + FAKE_DRIVER)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-o", library, folder / "fake.c"], check=True, capture_output=True
    )
    return folder


# ------------------------------------------------------------------------------------------------------- schemas


def schema_of(name: str) -> dict[str, Any]:
    """Return the schema of that name, from where the package keeps it."""
    from importlib import resources

    folder = resources.files("spikelab.spike_sorting.report") / "schemas"
    return json.loads((folder / f"{name}.schema.json").read_text(encoding="utf-8"))


def violations(value: Any, name: str) -> list[str]:
    """Return where `value` breaks the schema of that name."""
    from jsonschema import Draft202012Validator

    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]


def check_schemas(folder: Path) -> set[str]:
    """Check every file of a results folder that has a schema, strictly read; return the names of those files."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    checked = set()
    for name in ("recording_report", "batch_report", "config_used", "curation_history", "events"):
        file = folder / (f"{name}.jsonl" if name == "events" else f"{name}.json")
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for one in text.splitlines() if name == "events" else [text]:
                assert violations(json.loads(one, parse_constant=refuse), name) == [], file
            checked.add(file.name)
    return checked
