"""Between the caller and a cluster: jobs there, outcomes back, and what is told when neither comes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support import FakeGpus

from spikelab.simulation import simulate_recording, write_maxwell
from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, GpuLostError, IOStallError, SorterCrashedError
from spikelab.spike_sorting.cluster import LocalWorkers, sort_multistream_on
from spikelab.spike_sorting.cluster.flight import _Flight, run_jobs_on
from spikelab.spike_sorting.cluster.link import NO_ANSWER, Link
from spikelab.spike_sorting.cluster.task import look_around, resources_of, sort_one
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.outcome import SortRunReport
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of one worker, which is a process of its own."""
    distributed = pytest.importorskip("distributed")
    with LocalWorkers(workers=1).start() as cluster, distributed.Client(cluster) as client:
        yield client


def _job(folder: Path, name: str) -> Job:
    return Job(name, Source((str(folder / name),)), RunFolder(folder / "inter", folder / name), KILOSORT4)


def _wait_for(there: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + 60
    while not (found := there()):
        assert time.monotonic() < until, what
        time.sleep(0.02)
    return found


def test_what_has_come_back_is_never_done_again(client: Any, tmp_path: Path) -> None:
    """The loss of a worker costs what runs there alone: what it has brought before, also a failure, stays as it is."""
    folder = str(tmp_path)

    def task(job: Mapping[str, Any], *_: Any) -> Mapping[str, Any]:
        import os
        import time
        from pathlib import Path

        begun = Path(folder, f"{job['name']}.begun")
        with begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while job["name"] == "b" and not Path(folder, "go on").exists():
            time.sleep(0.02)
        return {"tries": len(begun.read_text().splitlines())}

    link = Link(client, task)
    link.hand_out({0: _job(tmp_path, "a"), 1: _job(tmp_path, "b")}, ())
    assert _wait_for(lambda: list(link.arrived()), "the first is back") == [(0, {"tries": 1})]
    pids = _wait_for(lambda: (tmp_path / "b.begun").read_text().split(), "the second is begun")
    os.kill(int(pids[-1]), signal.SIGKILL)
    (tmp_path / "go on").touch()
    assert _wait_for(lambda: list(link.arrived()), "the second is back") == [(1, {"tries": 2})]
    assert len((tmp_path / "a.begun").read_text().split()) == 1, "the first was done again"
    assert not link.numbers


def test_workers_that_die_of_a_recording_are_told(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that takes its workers with it, again and again, fails as a crash that names the last of them."""
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)

    def task(*_: Any) -> Mapping[str, Any]:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    link = Link(client, task)
    link.hand_out({7: _job(tmp_path, "a")}, ())
    ((number, error),) = _wait_for(lambda: list(link.arrived()), "it is told")
    assert number == 7
    assert isinstance(error, SorterCrashedError)
    assert "workers that sorted it were lost, 1 in all, the last at tcp://" in str(error)


def test_a_worker_whose_disk_hangs_is_told_as_such(client: Any) -> None:
    """What the worker says reaches the caller in its own kind, with how long it has waited."""

    class Hanging:
        def __fspath__(self) -> str:
            import threading

            threading.Event().wait(20)
            return "/"

    link = Link(client)
    _wait_for(link.workers, "the worker is there again")
    (said,) = link.ask_all(look_around, [], [Hanging()], 0.1, limit_s=30).values()
    assert isinstance(said, IOStallError), repr(said)
    assert (str(said), said.stall_s) == ("a disk of the recordings did not answer within 0.1 s", 0.1)


@pytest.fixture
def here() -> Iterator[Any]:
    """A client of three workers in this process, "cpu", "gpu" and "gpu2"; the latter have a GPU, they say."""
    distributed = pytest.importorskip("distributed")
    workers = {
        name: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": resources, "dashboard": False}}
        for name, resources in (("cpu", {}), ("gpu", {"GPU": 1}), ("gpu2", {"GPU": 1}))
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "protocol": "inproc://"}}
    with distributed.SpecCluster(workers, scheduler) as cluster, distributed.Client(cluster) as client:
        yield client


def _silence(client: Any) -> None:
    def fail(**_: Any) -> None:
        msg = "nobody there"
        raise OSError(msg)

    client.cluster.scheduler.handlers["identity"] = fail


@pytest.mark.parametrize(
    "goes,message", [("gpu", "no worker with a GPU (1 without) for"), ("scheduler", "does not answer (not for")]
)
def test_recordings_that_nobody_can_take_are_given_up(here: Any, tmp_path: Path, goes: str, message: str) -> None:
    """Where GPUs are asked for, workers without do not count, nor do those that only a silent scheduler knows of."""
    report = SortRunReport()

    def go() -> None:
        here.retire_workers(names=["gpu", "gpu2"])
        if goes == "scheduler":
            _silence(here)

    jobs = [_job(tmp_path, name) for name in "ab"]
    outcomes = run_jobs_on(here, jobs, on_error="continue", out_report=report, on_started=go, wait_s=0.2)
    for outcome in outcomes:
        assert isinstance(outcome.error, EnvironmentSortFailure)
        assert message in str(outcome.error)
    assert [record.status for record in report.records] == [outcome.result.status for outcome in outcomes]
    assert (tmp_path / "batch_report.json").is_file()


def test_a_cluster_that_cannot_begin_is_told_of_every_recording(here: Any, tmp_path: Path) -> None:
    """A scheduler that does not answer from the start is an error that says so, and each recording has its record."""
    _silence(here)
    report = SortRunReport()
    with pytest.raises(EnvironmentSortFailure, match="does not answer"):
        run_jobs_on(here, [_job(tmp_path, name) for name in "ab"], out_report=report, wait_s=0.0)
    assert [(record.rec_name, record.status) for record in report.records] == [("a", "skipped"), ("b", "skipped")]


def test_a_scheduler_that_hangs_is_waited_for_no_longer_than_that(here: Any) -> None:
    """An answer that does not come in time is none."""

    async def hang(**_: Any) -> None:
        await asyncio.sleep(60)

    link = Link(here, answer_s=0.1)
    assert sorted((link.workers() or {}).values(), key=len) == [{}, {"GPU": 1}, {"GPU": 1}]
    here.cluster.scheduler.handlers["identity"] = hang
    assert link.workers() is None
    with pytest.raises(NO_ANSWER):
        link.ask_all(hang, limit_s=0.1)


def test_what_the_cluster_forgets_is_told(here: Any, tmp_path: Path) -> None:
    """A recording of which the scheduler knows nothing any more, as when it has ended, fails with that reason."""
    link = Link(here, lambda *_: {})
    here.retire_workers(names=["gpu", "gpu2"])
    link.hand_out({0: _job(tmp_path, "a")}, {0})
    here.cluster.close()
    ((_, error),) = _wait_for(lambda: list(link.arrived()), "it is told")
    assert isinstance(error, EnvironmentSortFailure)
    assert "no longer knows of this recording" in str(error)
    assert link.workers() is None


@pytest.mark.parametrize("lost", [["gpu"], ["gpu", "gpu2"]])
def test_a_worker_that_has_lost_its_gpu_gets_nothing_more(here: Any, tmp_path: Path, lost: list[str]) -> None:
    """P2: its recordings go to workers with a GPU; where none comes in time, they fail with the reason."""
    link, jobs = Link(here), [_job(tmp_path, str(number)) for number in range(2)]
    for name, worker in here.cluster.workers.items():
        slots = resources_of(worker, link.batch, on_gpu=True).slots
        slots.driver = FakeGpus(1)
        if name in lost:
            slots.set_aside(*slots.visible(), GpuLostError("gone", device_index=0))
    flight = _Flight(link, jobs, "continue", None, None, 0.2)
    statuses = {outcome.result.status for outcome in flight.run(with_gpus=True)}
    # The recordings are not there: whoever begins one finds that out.
    assert statuses == ({"recording_unreadable"} if len(lost) == 1 else {"gpu_lost"})
    assert {worker.name for worker in here.cluster.scheduler.workers.values()} == {"cpu", "gpu", "gpu2"} - set(lost)


def test_each_well_of_a_plate_is_a_recording_on_a_cluster(here: Any, tmp_path: Path) -> None:
    """What comes back is by well, also where wells fail, and each has folders and a record of its own."""
    recording = simulate_recording("mea", n_channels=9, duration_s=0.5, n_units=1, dtype="uint16").recording
    plate = write_maxwell(tmp_path / "plate.raw.h5", {"well000": recording, "well001": recording})
    report = SortRunReport()
    too_much = {"preflight_min_free_inter_gb": 1e6}
    wells = sort_multistream_on(here, plate, out_report=report, on_error="continue", sorter="kilosort4", **too_much)
    assert wells == {"well000": [None], "well001": [None]}
    assert {record.status for record in report.records} == {"preflight"}
    assert [Path(record.results_folder).name for record in report.records] == [f"plate.raw.h5_{well}" for well in wells]


def test_a_worker_that_ends_gives_its_recording_back(here: Any, tmp_path: Path) -> None:
    """The end of a worker is none of its recording: what it has by then is no outcome, and another worker goes on."""
    begun, given_back = tmp_path / "begun", tmp_path / "given back"

    def task(*arguments: Any) -> Mapping[str, Any]:
        from distributed import Reschedule, get_worker

        worker = get_worker()
        if not begun.exists():
            begun.touch()
            worker.loop.add_callback(worker.close)
            _wait_for(lambda: worker.status.name != "running", "the worker ends")
        try:
            return sort_one(*arguments)
        except Reschedule:
            given_back.touch()
            raise

    link = Link(here, task)
    link.hand_out({0: _job(tmp_path, "a")}, {0})
    ((_, came),) = _wait_for(lambda: list(link.arrived()), "it is done by another one")
    _wait_for(given_back.exists, "the first has given it back")
    # The recording is not there, as who begins it finds out.
    assert came["outcome"]["result"]["status"] == "recording_unreadable"
    assert len(link.workers() or ()) == 2
