"""When a phase begins, and with what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import FakeGpus, simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting._exceptions import GpuLostError, UnkillableProcessError
from spikelab.spike_sorting.conclusion import _as_former_run
from spikelab.spike_sorting.config import KILOSORT2, KILOSORT4, SortingPipelineConfig
from spikelab.spike_sorting.costs import Estimate, Range, Workload
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import Attempt, RecordingResult
from spikelab.spike_sorting.pipeline import STAGES
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Machine, Torch
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.schedule import (
    Flight,
    devices_for,
    fitted,
    flight_of,
    gpu_environment,
    has_another_gpu,
    look_ahead,
    need_of,
    turn,
)
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.supervision.budget import Budget, Need
from spikelab.spike_sorting.supervision.journal import Journal
from spikelab.spike_sorting.supervision.resources import Resources
from spikelab.spike_sorting.supervision.slots import GpuSlots
from spikelab.spike_sorting.work import Work

LARGE = Estimate(
    name="a", results_folder="a", workload=Workload("kilosort4", "cuda", 384, 3e4, 3600.0, 5.0, tracks_drift=False),
    crossings_Hz=5.0, probe_s=30.0, wall_time_s=Range(1, 2, 3), stages_s={},
    disk_inter_gb=Range(1, 1, 1), disk_results_gb=Range(1, 1, 1), ram_gb=Range(5, 6, 8), vram_gb=None, n_former_runs=0,
)  # fmt: skip
"""6 GB for the sort, 2 GB for what comes after it."""


def on(device: str, **settings: Any) -> SortingPipelineConfig:
    return KILOSORT4.override(kilosort_params={"torch_device": device}, **settings)


def a_job(folder: Path, config: SortingPipelineConfig = KILOSORT4, name: str = "a") -> Job:
    run = RunFolder(folder / "inter" / name, folder / "results" / name)
    for path in (run.inter, run.results):
        path.mkdir(parents=True)
    return Job(name, Source((str(folder / name),)), run, config)


def a_work(job: Job, resources: Resources, estimate: Estimate | None = None, **more: Any) -> Work:
    return Work(replace(job, estimate=estimate), STAGES, "run", time.monotonic(), resources=resources, **more)


@pytest.mark.parametrize(
    "device,phase,n_gpus,visible,expected",
    [
        ("auto", "sort", 2, None, [0, 1]),
        ("cuda", "sort", 2, None, [0, 1]),
        ("cuda:1", "sort", 2, None, [1]),
        ("cuda:1", "sort", 4, "3,2", [2]),
        ("auto", "sort", 0, None, []),
        ("cpu", "sort", 2, None, []),
        ("auto", "finish", 2, None, []),
        ("auto", "sort", 2, "", []),
        ("cuda:1", "sort", None, None, [1]),
    ],
)
def test_which_gpus_a_phase_may_have(
    device: str, phase: Any, n_gpus: int | None, visible: str | None, expected: list[int], monkeypatch: Any
) -> None:
    """Only a sort has a GPU: any that CUDA lists, or the one that the settings name; on the CPU it has none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = GpuSlots(FakeGpus(n_gpus))
    assert [device.index for device in devices_for(slots, phase, on(device))] == expected
    assert len(devices_for(slots, phase, on(device, runner="inline"))) == min(1, len(expected))


def test_the_gpu_that_is_watched_is_the_one_that_is_used(tmp_path: Path) -> None:
    """A worker sees the GPU that it has, and no other; one that the settings name keeps its number."""
    resources = Resources(GpuSlots(FakeGpus(2), tmp_path))
    with turn(a_work(a_job(tmp_path), resources), "sort", on("auto")) as slot:
        assert slot is not None
        assert gpu_environment(on("auto"), slot) == {"CUDA_VISIBLE_DEVICES": "GPU-000"}
        assert gpu_environment(KILOSORT2, slot) == {"CUDA_VISIBLE_DEVICES": "GPU-000"}
        assert gpu_environment(on("cuda:0"), slot) == {}
    with turn(a_work(a_job(tmp_path, name="b"), resources), "finish", on("auto")) as none:
        assert none is None
        assert gpu_environment(on("auto"), none) == {}


@pytest.mark.parametrize(
    "asked,devices,n_gpus,expected",
    [(None, "cpu", 2, 1), (None, "auto", 0, 1), (None, "auto", 1, 2), (None, "auto", 3, 4), (2, "auto", 3, 2),
     (9, "cpu", 0, 5), (None, "cuda:1", 3, 2)],
)  # fmt: skip
def test_how_many_are_in_flight(tmp_path: Path, asked: int | None, devices: str, n_gpus: int, expected: int) -> None:
    """By default each GPU sorts while one more recording is loaded or measured; on the CPU one is sorted at a time."""
    jobs = [a_job(tmp_path, on(devices), name) for name in "abcde"]
    assert flight_of(jobs, asked, GpuSlots(FakeGpus(n_gpus))).n_parallel == expected
    assert flight_of(jobs[:1], asked, GpuSlots(FakeGpus(n_gpus))).n_parallel == 1
    assert flight_of([], asked, GpuSlots(FakeGpus(n_gpus))).n_parallel == 1
    here = [a_job(tmp_path, on(devices, runner="inline"), name) for name in "fg"]
    assert flight_of(here, asked, GpuSlots(FakeGpus(n_gpus))).n_parallel == min(asked or 1, 2)


def test_a_gpu_that_no_sort_can_use_is_reckoned_without(tmp_path: Path) -> None:
    """Beside a card for the screen one GPU has sorts; with a torch for the CPU none has, and nobody waits for one."""
    rtx, screen = Gpu("RTX", (12, 0), 10**10, 10**10, "GPU-111"), Gpu("GT 710", (3, 5), 10**9, 10**9, "GPU-000")
    jobs = [a_job(tmp_path, name=name) for name in "abc"]
    known = Torch("13.0", ("GT 710", "RTX"), ("000", "111"), ("sm_120",))
    for torch, flight in ((known, Flight(2, 1)), (Torch(), Flight(1, 0))):
        machine = Machine(driver=lambda: Driver("580", (13, 0), (screen, rtx)), torch=partial(replace, torch))
        slots = GpuSlots(FakeGpus(2), tmp_path)
        found, batch = look_ahead(jobs, None, slots, looked_at=jobs[:1], machine=replace(machine, environment={}))
        assert (found, batch.n_parallel) == (flight, flight.n_parallel)
        with turn(a_work(jobs[0], Resources(slots)), "sort", KILOSORT4) as slot:
            assert (None if slot is None else slot.device.key) == (None if torch == Torch() else "GPU-111")
        assert [device.index for device in devices_for(slots, "sort", on("cuda:0"))] == [0]


def test_what_a_phase_takes(tmp_path: Path) -> None:
    """Cores and memory come from the estimate and the settings; without an estimate it is an equal share."""
    resources = Resources(GpuSlots(FakeGpus(0)), None, Budget(4, 16e9), 4)
    known = a_work(a_job(tmp_path), resources, LARGE, n_threads=3)
    config = fitted(known)
    assert config.execution.n_jobs == resources.cores_each
    assert config.execution.total_memory == 3_000_000_000  # half of 6 GB, which is more than its share of 16
    assert need_of(known, "sort", config, on_gpu=True) == Need(1, 6e9)
    assert need_of(known, "sort", config, on_gpu=False) == Need(3, 6e9)
    assert need_of(known, "finish", config, on_gpu=False) == Need(resources.cores_each, 2e9)
    assert need_of(known, "prepare", config, on_gpu=False).cores == 1
    known.peaks["run_ram_gb"] = 9.0  # of an attempt that failed
    assert need_of(known, "sort", config, on_gpu=True) == Need(1, 9e9)
    assert need_of(known, "finish", config, on_gpu=False).ram_bytes == 2e9
    unknown = a_work(a_job(tmp_path, name="b"), resources)
    assert need_of(unknown, "finish", fitted(unknown), on_gpu=False).ram_bytes == 4e9
    given = a_work(a_job(tmp_path, on("cpu", n_jobs=7, total_memory="1G"), "c"), resources, LARGE)
    assert fitted(given) == given.job.config
    alone = a_work(a_job(tmp_path, name="d"), Resources())
    assert fitted(alone) == alone.job.config


def test_phases_of_several_recordings_overlap_within_the_budget(tmp_path: Path) -> None:
    """Two sorts on one GPU never overlap; a sort and what comes before and after another one do."""
    resources = Resources(GpuSlots(FakeGpus(1), tmp_path), None, Budget(2, 7e9), 3)
    flying, together, at_once = set[tuple[str, str]](), set[frozenset[tuple[str, str]]](), threading.Lock()

    def run(name: str) -> None:
        work = a_work(a_job(tmp_path, name=name), resources, LARGE)
        for phase, seconds in (("prepare", 0.05), ("sort", 0.2), ("finish", 0.1)):
            with turn(work, phase, work.job.config.override(n_jobs=1)):  # type: ignore[arg-type]
                with at_once:
                    flying.add((name, phase))
                    together.add(frozenset(flying))
                time.sleep(seconds)
                with at_once:
                    flying.remove((name, phase))

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    phases = [sorted(phase for _, phase in group) for group in together]
    assert all(group.count("sort") < 2 and len(group) < 3 for group in phases)
    assert ["prepare", "sort"] in phases  # 0.6 and 6 GB
    assert ["finish", "sort"] not in phases  # 2 and 6 GB: more than there is


def test_a_wait_is_told_and_ends_with_the_batch(tmp_path: Path) -> None:
    """Who waits for a GPU says so, to those who watch and in the journal; Ctrl-C and the loss of the GPU end it."""
    slots, told = GpuSlots(FakeGpus(1), tmp_path), []
    holder = a_work(a_job(tmp_path, name="a"), Resources(slots))
    waiter = a_work(a_job(tmp_path, name="b"), Resources(slots))
    with turn(holder, "sort", on("auto")):
        waiter.observer = lambda job, progress, use: (told.append(progress.step), waiter.stop.set())
        with pytest.raises(KeyboardInterrupt), turn(waiter, "sort", on("auto")):
            pass
        waiter.stop.clear()
        lost = GpuLostError("gone", device_index=0)
        waiter.observer = lambda *_: slots.set_aside(*slots.visible(), lost)
        with pytest.raises(GpuLostError, match="GPU 0 is not used any more"), turn(waiter, "sort", on("auto")):
            pass
    assert told == ["waiting for a GPU (GPU 0 by this batch)"]
    assert waiter.all_noted()
    assert [event["reason"] for event in waiter.job.run.journal.read()] == told * 2
    assert json.loads(waiter.job.run.progress.read_text())["step"] == told[0]


def test_a_wait_is_no_work(tmp_path: Path) -> None:
    """What a recording waited for others is not remembered as what its sort took."""
    resources = Resources(GpuSlots(FakeGpus(1), tmp_path))
    first, second = (a_work(a_job(tmp_path, name=name), resources, LARGE) for name in "ab")

    def wait() -> None:
        with turn(second, "sort", on("auto")):
            pass

    thread = threading.Thread(target=wait)
    with turn(first, "sort", on("auto")):
        thread.start()
        time.sleep(0.3)
    thread.join(30)
    (waited_s,) = second.waits_s
    assert waited_s > 0.2
    phases = tuple(Attempt(phase, "exit 0", 1.0, "success") for phase in ("prepare", "sort", "finish"))
    timings_s = {"load": 1.0, "sort": 5.0, "waveforms": 2.0}
    result = RecordingResult(
        rec_name="b", rec_path="b", results_folder="b", status="success", wall_time_s=10.0 + waited_s,
        stage_timings_s=timings_s, attempts=phases,
    )  # fmt: skip
    former = _as_former_run(second, result)
    assert former is not None
    assert former.took_s == {"sort": 5.0, "waveforms": 2.0, "other": pytest.approx(3.0)}


def test_each_look_says_anew_which_gpus_are_left_out(tmp_path: Path) -> None:
    """On a worker that lasts for many recordings, one bad look keeps no GPU from the next; no look changes nothing."""
    driver = Driver("580", (13, 0), (Gpu("RTX", (12, 0), 10**10, 10**10, "GPU-000"),))
    slots, jobs = GpuSlots(FakeGpus(1), tmp_path), [a_job(tmp_path)]
    sees, sees_none = Torch("13.0", ("RTX",), ("000",), ("sm_120",)), Torch("13.0")
    looks = ((sees_none, jobs, 0), (sees_none, [], 0), (sees, jobs, 1), (Torch(error="took too long"), jobs, 1))
    for torch, looked_at, expected in looks:
        machine = Machine(driver=lambda: driver, torch=partial(replace, torch), environment={})
        flight, _ = look_ahead(jobs, None, slots, looked_at=looked_at, machine=machine)
        assert (flight.n_gpus, len(devices_for(slots, "sort", KILOSORT4))) == (expected, expected)


def test_only_a_lost_gpu_is_replaced_for_the_same_recording(tmp_path: Path) -> None:
    """A sort whose GPU fell off the bus goes on elsewhere; one with a process that cannot be ended does not."""
    slots = GpuSlots(FakeGpus(2), tmp_path)
    work, lost = a_work(a_job(tmp_path), Resources(slots)), GpuLostError("gone", device_index=0)
    slots.set_aside(slots.visible()[0], lost)
    assert has_another_gpu(work, "sort", on("auto"), lost)
    assert not has_another_gpu(work, "sort", on("cuda:0"), lost)
    assert not has_another_gpu(work, "sort", on("auto"), UnkillableProcessError("hangs"))
    slots.set_aside(slots.visible()[1], lost)
    assert not has_another_gpu(work, "sort", on("auto"), lost)


_BATCH = """
import json, sys
from pathlib import Path
from support import FakeGpus
from spikelab.spike_sorting.batch import run_jobs
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.supervision.slots import GpuSlots
files, folder = json.loads(sys.argv[1])
config = SortingPipelineConfig.preset("fake").override(
    n_jobs=1, curate_first=False, curate_second=False, generate_sorting_report=False, create_figures=False,
    kilosort_params={"behaviour": "sleep", "seconds": 1},
)
seen = []
slots = GpuSlots(FakeGpus(2, lost=[0]), Path(folder))
outcomes = run_jobs(
    plan(files, config), on_error="continue", max_parallel=2, slots=slots,
    observer=lambda job, progress, use: seen.append((job.name, progress.stage, use.gpu)),
)
print(json.dumps({"records": [outcome.result.to_dict() for outcome in outcomes], "seen": sorted(set(map(str, seen)))}))
"""


def test_a_batch_goes_on_without_the_gpu_that_it_lost(tmp_path: Path) -> None:
    """Of two recordings on two GPUs one loses its own: it goes on on the other, after the sort that has it."""
    files = [str(tmp_path / f"{name}.raw.h5") for name in "ab"]
    for file in files:
        simulate_maxwell(Path(file), n_channels=4, n_units=2, duration_s=3)
    environment = with_fake_sorter()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", _BATCH, json.dumps([files, str(tmp_path)])],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    first, second = said["records"]
    assert [record["status"] for record in (first, second)] == ["success", "success"]
    moved, stayed = (first, second) if len(first["attempts"]) > 3 else (second, first)
    sorts = [
        [(a["gpu"], a["status"]) for a in record["attempts"] if a["phase"] == "sort"] for record in (moved, stayed)
    ]
    assert sorts == [[("GPU 0", "gpu_lost"), ("GPU 1", "success")], [("GPU 1", "success")]]
    assert [warning["code"] for warning in moved["warnings"] if warning["code"].startswith("retried")] == [
        "retried-elsewhere"
    ]
    name = moved["rec_name"]
    marker = json.loads((tmp_path / "inter_fake" / name / "sort.done.json").read_text())
    assert marker["summary"]["cuda_visible_devices"] == "GPU-111"
    told = json.loads(RunFolder(tmp_path / "inter_fake" / name, Path(moved["results_folder"])).report_json.read_text())
    assert told["sorter"]["changed"] is None, "another GPU is no other setting"
    events = Journal(Path(moved["results_folder"]) / "events.jsonl").read()
    assert [event["gpu"] for event in events if event["event"] == "gpu_set_aside"] == [0]
    assert str((name, "sort", "GPU 1")) in said["seen"]
