"""The same sorts on several machines: here worker processes of one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import FAKE_SORTER, simulate_maxwell, with_fake_sorter

from spikelab.spike_sorting import (
    EnvironmentSortFailure,
    SorterNotInstalledError,
    SortRunReport,
    load_results,
)
from spikelab.spike_sorting.cluster import LocalWorkers, sort_on
from spikelab.spike_sorting.roster import read_rosters
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, holder_of, read_card
from spikelab.spike_sorting.supervision.progress import read_progress
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE, has_cookie

QUICK = {"sorter": "fake", "n_jobs": 1, "create_figures": False, "generate_sorting_report": False}
_CLIENT = """
import json, sys
from distributed import Client
from spikelab.spike_sorting.cluster import sort_on
address, files, options = json.loads(sys.argv[1])
with Client(address) as client:
    sort_on(client, files, **options)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of two workers with a GPU each, they say, which know the fake sorter."""
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAKE_SORTER)
        patch.setenv("PYTHONPATH", with_fake_sorter()["PYTHONPATH"])
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        with LocalWorkers(workers=2, gpus=1).start() as cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    made = [folder / f"r{number}.raw.h5" for number in range(2)]
    for number, file in enumerate(made):
        simulate_maxwell(file, n_channels=4, n_units=2, duration_s=3, seed=number)
    return made


def _run(file: Path) -> RunFolder:
    return RunFolder(file.parent / "inter_fake" / file.name, file.parent / "sorted_fake" / file.name)


def _wait_until(is_so: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def _is_sorting(file: Path) -> bool:
    said = read_progress(_run(file).progress)
    return said is not None and said.stage == "sort" and said.step == "threshold"


def _processes_of(run_id: str) -> list[int]:
    """Return the processes that carry the cookie of a try."""
    return [pid for pid in psutil.pids() if has_cookie(pid, RUN_COOKIE, run_id)]


def test_a_batch_survives_the_loss_of_a_worker(client: Any, files: list[Path]) -> None:
    """Of a worker that is killed, another one continues the recording; all are sorted once, none twice."""
    lost: dict[str, Any] = {}

    def kill_one() -> None:
        _wait_until(lambda: all(map(_is_sorting, files)), "both are being sorted")
        lost.update(read_card(_run(files[0]).results / LOCK_NAME), rosters=read_rosters(_run(files[0]).results.parent))
        lost["asked"] = [task.resource_restrictions for task in client.cluster.scheduler.tasks.values()]
        os.kill(lost["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    report, seen = SortRunReport(), set[str]()
    params = {"behaviour": "sleep", "seconds": 8, "attempts": 1}
    results = sort_on(client, files, out_report=report, kilosort_params=params, **QUICK)
    killer.join()
    assert [record.status for record in report.records] == ["success", "success"]
    assert [[one.code for one in record.warnings if one.code == "worker-lost"] for record in report.records] == [
        ["worker-lost"],
        [],
    ]
    assert [sd == load_results(_run(file).results) for sd, file in zip(results, files, strict=True)]
    assert [roster.results for roster in lost["rosters"]] == [tuple(_run(file).results for file in files)]
    assert lost["asked"] == [{"GPU": 1}, {"GPU": 1}]
    for file in files:
        events = _run(file).journal.read()
        finished = [event["stage"] for event in events if event["event"] == "stage_finished"]
        assert len(finished) == len(set(finished)) == 7, "a stage was done twice, or not at all"
        seen |= {event["run_id"].partition(".")[0] for event in events if event["event"] == "run_started"}
    tries = [event for event in _run(files[0]).journal.read() if event["event"] == "run_started"]
    assert len(tries) == 2, "the killed one was continued"
    assert len(seen) == 2, "tries of a recording are tries of one run"
    assert not _processes_of(lost["run_id"])
    batch = json.loads((_run(files[0]).results.parent / "batch_report.json").read_text())
    assert batch["n_succeeded"] == 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["client lost", "Ctrl-C"])
def test_sorters_stop_with_their_client(client: Any, files: list[Path], end: signal.Signals) -> None:
    """When the caller is gone, or presses Ctrl-C, the sorters stop on all machines, and their folders are free."""
    run = _run(files[1])
    run.remove_reports()
    run.progress.unlink(missing_ok=True)
    options = {**QUICK, "kilosort_params": {"behaviour": "hang", "marker": end.name}}
    asked = json.dumps([client.scheduler.address, [str(files[1])], options])
    with subprocess.Popen(
        [sys.executable, "-c", _CLIENT, asked], env=with_fake_sorter(), stderr=subprocess.PIPE
    ) as caller:
        try:
            _wait_until(lambda: _is_sorting(files[1]), "it is being sorted")
            run_id = read_card(run.results / LOCK_NAME)["run_id"]
            assert _processes_of(run_id)
        finally:
            caller.send_signal(end)
        _, complaint = caller.communicate(timeout=90)
    _wait_until(lambda: holder_of(run.results) is None, "the folder is free")
    assert not _processes_of(run_id)
    assert run.journal.read()[-1]["status"] == "interrupted"
    if end == signal.SIGINT:
        assert b"KeyboardInterrupt" in complaint


def test_workers_that_lack_the_sorter_are_named(client: Any, files: list[Path]) -> None:
    """Nothing starts on a cluster whose workers lack the sorter; the error says which they are and what they miss."""
    with pytest.raises(SorterNotInstalledError, match=r"2 of 2 workers cannot sort: tcp://.*To do: install the sorter"):
        sort_on(client, files, sorter="kilosort2", kilosort_path=str(files[0].parent))


def test_a_cluster_without_workers_is_told(files: list[Path]) -> None:
    """A cluster that has no worker in time is an error that says so, and where."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(EnvironmentSortFailure, match=r"at inproc://.* has had no worker for 0 s"),
    ):
        sort_on(client, files, sorter="kilosort4", wait_for_workers_s=0.2)
