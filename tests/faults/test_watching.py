"""P16 to P20: watching. One batch of workers that hang, spin, think, leak, and run out of memory, two at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.harness import WHOLE, InNamespace, JobOf, Tally, Undisturbed, slow, sort_options
from support import fake_nvidia_driver

pytestmark = pytest.mark.timeout(300)

IMPATIENT = {"sorter_inactivity_base_s": 2.0, "sorter_inactivity_per_min_s": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "hang": {**sort_options("hang"), **IMPATIENT, "sorter_inactivity_max_s": 60.0},
    "deadlock": {**sort_options("deadlock"), **IMPATIENT, "sorter_inactivity_max_s": 60.0},
    "spin": {**sort_options("spin"), **IMPATIENT, "sorter_inactivity_max_s": 7.0},
    "think": {**sort_options("work quietly"), **IMPATIENT, "sorter_inactivity_max_s": 60.0},
    "gpu oom, twice": {**sort_options("gpu oom", attempts=2, batch_size=8), "oom_retry_max": 3},
    "gpu oom, for ever": {**sort_options("gpu oom", batch_size=1024), "oom_retry_max": 2},
    "gpu oom, nothing smaller": {**sort_options("gpu oom", batch_size=2), "oom_retry_max": 9},
    "host oom": {**sort_options("host oom", attempts=1, batch_size=8), "oom_retry_max": 1},
    "segfault once": sort_options("segfault", attempts=1),
    "segfault": sort_options("segfault"),
    "exit 3": sort_options("exit 3"),
}


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Undisturbed, in_namespace: InNamespace
) -> dict[str, dict[str, Any]]:
    """What came of each case."""
    folder = tmp_path_factory.mktemp("watched")
    jobs = [
        {"file": undisturbed.file, "inter": str(folder / f"{k}i"), "results": str(folder / f"{k}r"), "options": options}
        for k, options in enumerate(CASES.values())
    ]
    seen = in_namespace("batch", jobs=jobs, template=undisturbed.inter, parallel=3, limit_s=250)
    keys = ("content", "files", "events")
    return {
        name: {"record": seen["report"]["records"][k], **{key: seen[key][k] for key in keys}}
        for k, name in enumerate(CASES)
    }


def statuses(case: dict[str, Any]) -> list[str]:
    """Return how the workers of the sort phase ended."""
    return [attempt["status"] for attempt in case["record"]["attempts"] if attempt["phase"] == "sort"]


@pytest.mark.parametrize("behaviour", ["hang", "deadlock"])
def test_a_hang_is_noticed(behaviour: str, watched: dict[str, Any], tally: Tally) -> None:
    """P16: a worker whose log, processor and files stand still is stopped within its limit, with its stack."""
    record = watched[behaviour]["record"]
    (attempt,) = record["attempts"]
    held = record["status"] == "sorter_timeout" and attempt["wall_time_s"] < 15
    tally("P16", f"a {behaviour}", 1, held)
    assert held, record
    assert f"in _{behaviour}" in watched[behaviour]["files"]["sorting.log"]
    assert f"in _{behaviour}" in str(watched[behaviour]["files"]["recording_report.json"])


def test_a_busy_worker_is_not_taken_for_a_dead_one(watched: dict[str, Any], tally: Tally) -> None:
    """P16: one that computes in silence is left alone; one that spins trips on the limit of its step, not before."""
    spin, think = watched["spin"]["record"], watched["think"]["record"]
    held = spin["status"] == "sorter_timeout" and "busy without progress" in spin["error_message"]
    tally("P16", "spinning without a word", 1, held and spin["attempts"][-1]["wall_time_s"] >= 7)
    tally("P16", "five seconds of silent work under a limit of two", 1, think["status"] == "success")
    assert held, spin
    assert spin["attempts"][-1]["wall_time_s"] >= 7
    assert think["status"] == "success", think


def test_out_of_memory_is_tried_smaller(watched: dict[str, Any], reference: dict[str, str], tally: Tally) -> None:
    """P19: out of memory is tried again with smaller settings, which the report tells, until it works."""
    case = watched["gpu oom, twice"]
    changed = [event["changed"] for event in case["events"] if event["event"] == "retry"]
    held = statuses(case) == ["oom_gpu"] * 2 + ["success"] and changed == [
        {"batch_size": 4},
        {"batch_size": 2},
    ]
    tally("P19", "out of GPU memory twice, then enough", 1, held)
    assert held, (statuses(case), changed)
    assert case["content"] == reference
    assert case["record"]["retries_used"] == 2
    assert any("batch_size = 4" in warning["message"] for warning in case["record"]["warnings"])
    assert statuses(watched["host oom"]) == ["oom_host_ram", "success"]


def test_out_of_memory_has_an_end(watched: dict[str, Any], tally: Tally) -> None:
    """P19: after the given number of retries, or when nothing smaller is left, out of memory is final."""
    for name, n_attempts in (("gpu oom, for ever", 3), ("gpu oom, nothing smaller", 2)):
        case = watched[name]
        held = statuses(case) == ["oom_gpu"] * n_attempts and case["record"]["status"] == "oom_gpu"
        tally("P19", name, 1, held)
        assert held, (name, statuses(case), case["record"]["status"])


def test_a_crash_is_tried_once_more_and_then_blamed(watched: dict[str, Any], tally: Tally) -> None:
    """P20: a segfault is tried once more, unchanged; a second one is the recording's. Other deaths are final."""
    once, twice, exit_3 = (watched[name] for name in ("segfault once", "segfault", "exit 3"))
    held = [
        statuses(once) == ["sorter_crashed", "success"],
        statuses(twice) == ["sorter_crashed"] * 2 and twice["record"]["status"] == "sorter_crashed",
        statuses(exit_3) == ["sorter_crashed"],
    ]
    tally("P20", "segfault once, segfault for ever, exit 3", 3, sum(held))
    assert all(held), [statuses(case) for case in (once, twice, exit_3)]


def test_nothing_healthy_was_stopped(watched: dict[str, Any], tally: Tally) -> None:
    """P18: on a machine without a GPU, and with sensors that see nothing, no worker is stopped for it."""
    stops = {name: [e for e in case["events"] if e["event"] == "stopping"] for name, case in watched.items()}
    stopped = {name for name, found in stops.items() if found}
    blind = [e["sensor"] for case in watched.values() for e in case["events"] if e.get("kind") == "blind"]
    tally("P18", "no GPU, no NVML: workers left alone", len(CASES) - 3, len(CASES) - len(stopped))
    assert stopped == {"hang", "deadlock", "spin"}
    assert len(blind) == len(set(blind)) or len(blind) <= 3 * len(CASES)


# ------------------------------------------------------------------------------------------- a driver, a sleep

UNKNOWN_ERROR, LOST = "error 999\n", "error 15\n"
DRIVERS = {
    "fails": UNKNOWN_ERROR,
    "hangs": "hang 1\n",
    "GPU full of others' memory": "total 8000000000\nused 7990000000\nown 7000000000\npid 1\ntemp 55\nutil 99\n",
}


@pytest.fixture
def nvidia_driver(tmp_path: Path, require_program: Callable[[str], Path]) -> Path:
    """Folder with a driver of our own, which says what a file tells it to."""
    return fake_nvidia_driver(tmp_path, require_program("gcc"))


@slow
@pytest.mark.parametrize("how", DRIVERS)
def test_a_driver_that_fails_stops_nothing(
    how: str,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    nvidia_driver: Path,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P18: an NVIDIA driver that fails or hangs in the middle of a sort is told of once, and the sort goes on.

    So it does when other programs fill the GPU.
    """
    job = job_of("run", "sleep", settings={"kilosort_params": {"behaviour": "sleep", "seconds": 4}})
    seen = in_namespace(
        "gpu_driver", job=job, template=undisturbed.inter, driver=str(nvidia_driver), answers=DRIVERS[how]
    )
    blind = [event for event in seen["events"] if event.get("kind") == "blind" and "gpu" in event["sensor"]]
    n_told = 0 if "others" in how else 1
    held = seen["record"]["status"] == "success" and seen["content"] == reference and len(blind) == n_told
    tally("P18", f"the NVIDIA driver in the middle of a sort: {how}", 1, held)
    assert held, (seen["record"], blind)


@pytest.mark.parametrize(
    "answers,status,error",
    [
        (LOST, "gpu_lost", "GpuLostError"),
        pytest.param(
            "total 8000000000\nused 7990000000\nown 7900000000\npid {worker}\ntemp 55\n",
            "oom_gpu",
            "GpuMemoryWatchdogError",
            marks=slow,
        ),
    ],
    ids=["lost", "full"],
)
def test_a_gpu_that_fails_is_named(
    answers: str,
    status: str,
    error: str,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    nvidia_driver: Path,
    tally: Tally,
) -> None:
    """P18: a GPU that falls off the bus, or that the sort itself fills, ends the sort with an error of its own."""
    job = job_of("run", "hang", settings={"oom_retry_max": 0})
    seen = in_namespace("gpu_driver", job=job, template=undisturbed.inter, driver=str(nvidia_driver), answers=answers)
    record = seen["record"]
    held = (record["status"], record["error_class"]) == (status, error) and not seen["left"]
    tally("P18", f"the GPU in the middle of a sort: {status}", 1, held)
    assert held, record
    assert record["advice"]
    assert [event["reason"] for event in seen["events"] if event["event"] == "stopping"]


def test_a_lost_gpu_is_not_used_again(
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    nvidia_driver: Path,
    tally: Tally,
) -> None:
    """P2: after a GPU was lost, the next recording of the batch that would use it fails at once, with the reason."""
    jobs = {"job": job_of("first", "hang"), "after": job_of("second")}
    seen = in_namespace("gpu_driver", **jobs, template=undisturbed.inter, driver=str(nvidia_driver), answers=LOST)
    (second,) = seen["after"]
    held = (seen["record"]["status"], second["status"]) == ("gpu_lost", "gpu_lost") and not second["attempts"]
    tally("P2", "a GPU that was lost, and the next recording", 1, held)
    assert held, seen
    assert "GPU 0 is not used any more in this batch" in second["error_message"]
    assert [event["gpu"] for event in seen["events"] if event["event"] == "gpu_set_aside"] == [0]


@pytest.mark.parametrize("whom", ["everything", pytest.param("the orchestrator", marks=slow)])
def test_a_sleep_trips_nothing(
    whom: str,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P17: a sort that stood still for longer than its limits, as in a machine that slept, goes on untouched."""
    job = job_of("run", settings={**IMPATIENT, "kilosort_params": {"behaviour": "sleep", "seconds": 1.5}})
    seen = in_namespace("frozen", job=job, template=undisturbed.inter, whom=whom, seconds=3.0)
    stops = [event for event in seen["events"] if event["event"] == "stopping"]
    held = seen["record"]["status"] == "success" and not stops and seen["content"] == reference and not seen["left"]
    tally("P17", f"{whom} stands still for 3 s under a limit of 2 s", 1, held)
    assert held, (seen["record"], stops)


# --------------------------------------------------------------------------------------------- disk and memory


@pytest.mark.parametrize("size", ["40m", pytest.param("80m", marks=slow)])
def test_a_small_disk_is_no_reason_to_stop(
    size: str,
    undisturbed: Undisturbed,
    in_namespace: InNamespace,
    tmp_path: Path,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P16: with default limits, a small recording on a small disk is sorted, not stopped for little free space."""
    disk = tmp_path / "disk"
    job = {"file": undisturbed.file, "inter": str(disk / "i"), "results": str(disk / "r"), "options": sort_options()}
    seen = in_namespace("batch", jobs=[job], template=undisturbed.inter, small_disk={str(disk): size})
    (record,) = seen["report"]["records"]
    tally("P16", f"a small recording on a disk of {size[:-1]} MB, default limits", 1, record["status"] == "success")
    assert record["status"] == "success", record
    assert seen["content"] == [reference]


@slow
def test_memory_of_the_run_is_watched(
    undisturbed: Undisturbed, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P19: a leak is stopped by the watch before the kernel has to, at the limit that was set."""
    options = {**sort_options("leak"), "host_ram_warn_pct": 15.0, "host_ram_abort_pct": 25.0, "oom_retry_max": 0}
    job = {"file": undisturbed.file, "inter": str(tmp_path / "i"), "results": str(tmp_path / "r"), "options": options}
    seen = in_namespace("batch", jobs=[job], template=undisturbed.inter, memory_bytes=8_000_000_000)
    if "skip" in seen:
        pytest.skip(seen["skip"])
    (record,) = seen["report"]["records"]
    held = record["error_class"] == "HostMemoryWatchdogError" and record["attempts"][-1]["exit_name"] == "SIGKILL"
    tally("P19", "a leak, stopped by the watch", 1, held)
    assert held, record
    assert not seen["left"]


@slow
def test_a_disk_that_fills_up_costs_one_recording(
    undisturbed: Undisturbed, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P7: a sorter that fills the disk on which everything lies is stopped for it, and the next recording is sorted."""
    disk = tmp_path / "disk"
    place = {"inter": str(disk / "i"), "results": str(disk / "r")}
    first = {"file": undisturbed.file, **place, "options": sort_options("fill disk")}
    good = {"file": undisturbed.file, "inter": str(tmp_path / "i"), "results": str(tmp_path / "r")}
    jobs = [first, {**good, "options": sort_options()}]
    seen = in_namespace("batch", jobs=jobs, template=undisturbed.inter, small_disk={str(disk): "60m"})
    statuses = [record["status"] for record in seen["report"]["records"]]
    tally("P7", "the sorter fills the disk on which everything lies", 1, statuses == ["disk_exhausted", "success"])
    assert statuses == ["disk_exhausted", "success"], seen["report"]["records"]
    assert not seen["left"]


@slow
@pytest.mark.parametrize("dies", ["during the first", "before the second", "before the call", "that of the recording"])
def test_a_disk_that_dies_costs_its_recording_only(
    dies: str,
    undisturbed: Undisturbed,
    in_namespace: InNamespace,
    job_of: JobOf,
    tmp_path: Path,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P2, P16: when a disk of one recording stops to answer, that one fails by name and the other is sorted.

    Where the results lie on another disk, the failure has its report.
    """
    limits = {"io_stall_s": 3.0, "sorter_inactivity_base_s": 6.0, "sorter_inactivity_per_min_s": 0.0, **WHOLE}
    jobs = [job_of("first", "work quietly", limits), job_of("second", "ok", limits)]
    dead = 1 if dies == "before the second" else 0
    dying = Path(jobs[dead]["inter"]).parent
    if dies == "that of the recording":
        dying = tmp_path / "share"
        dying.mkdir()
        jobs[0]["file"] = shutil.copy(undisturbed.file, dying)
    seen = in_namespace(
        "dead_disk",
        jobs=jobs,
        dying=str(dying),
        dies_in=None if dies == "before the call" else jobs[0]["inter"],
        template=undisturbed.inter,
        limit_s=110,
    )
    if "skip" in seen:
        pytest.skip(seen["skip"])
    failed, sorted_ = seen["report"]["records"][dead], seen["report"]["records"][1 - dead]
    # What waits there for a name that another process asks for hangs in the kernel, where no signal reaches it.
    held = failed["status"] in {"io_stall", "unkillable"} and sorted_["status"] == "success"
    tally("P16", f"a disk stops to answer: {dies}", 1, held)
    assert held, seen["report"]["records"]
    assert dies.startswith(("during", "that")) or str(dying) in failed["error_message"]
    assert seen["content"][1 - dead] == reference
    assert seen["reported"][dead] == (dies == "that of the recording")
    assert seen["seconds"] < 80
