"""Between the caller and a cluster: jobs there, outcomes back, and what is told when neither comes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting.cluster import LocalWorkers
from spikelab.spike_sorting.cluster.link import Link
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
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
