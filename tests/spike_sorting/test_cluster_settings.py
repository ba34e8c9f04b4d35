"""Clusters as TOML files describe them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from spikelab import __version__
from spikelab.spike_sorting import EnvironmentSortFailure, GPUOutOfMemoryError, UnclassifiedSortError
from spikelab.spike_sorting.cluster import LocalWorkers, RunningCluster, SlurmJobs
from spikelab.spike_sorting.cluster.flight import n_at_once
from spikelab.spike_sorting.cluster.settings import read_cluster
from spikelab.spike_sorting.cluster.task import WorkerFacts, tell, told
from spikelab.spike_sorting.cluster.workers import check_facts
from spikelab.spike_sorting.outcome import Outcome, RecordingResult, describe_error

SLURM = """
[slurm]
workers = 4
memory = "64GB"
cores = 8
gpu_type = "a100"
queue = "gpu"
account = "lab"
prologue = ["module load cuda"]
directives = ["--exclusive"]
"""


def _read(folder: Path, text: str) -> object:
    path = folder / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    return read_cluster(path)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[local]\nworkers = 3", LocalWorkers(workers=3)),
        ('[dask]\naddress = "tcp://head:8786"\nwait_min = 5', RunningCluster(address="tcp://head:8786", wait_min=5)),
        ('[slurm]\nworkers = 2\nmemory = "8GB"\ngpus = 0', SlurmJobs(workers=2, memory="8GB", gpus=0)),
    ],
)
def test_a_file_describes_a_cluster(tmp_path: Path, text: str, expected: object) -> None:
    """Each kind of cluster has a table, and what is left out has its default."""
    assert _read(tmp_path, text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("[slurm]\nworkers = 2\nmemroy = '8GB'", "line 3: [slurm] has no 'memroy'; it has workers, memory"),
        ("[slurm]\nworkers = 2", "line 1: [slurm] needs 'memory'"),
        ("[local]\n\nworkers = 0", "line 3: workers must be a whole number from 1 on, got 0"),
        ("[local]\nworkers = true", "line 2: workers must be a whole number from 1 on, got True"),
        ("[dask]\naddress = ''", "line 2: address must be a text, got ''"),
        ("[dask]\naddress = 'tcp://head:1'\nwait_min = '5'", "line 3: wait_min must be a number of minutes above 0"),
        ("[slurm]\nworkers = 1\nmemory = '8GB'\nwalltime = '1 day'", "line 4: walltime must be hours, minutes"),
        ("[slurm]\nworkers = 1\nmemory = '8GB'\nprologue = 'module load'", "line 4: prologue must be a list of texts"),
        ("[sge]\nworkers = 2", "line 1: [sge]: expected one table, [slurm], [dask] or [local], got ['sge']"),
        ("[local]\n[slurm]", "expected one table"),
        ("local = 3", "local must be a table, [local]"),
        ("workers = ", "cluster.toml is no TOML"),
    ],
)
def test_a_wrong_file_is_told_with_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong in the file is named, with its line and what was expected."""
    with pytest.raises(ValueError, match=re.escape(message)):
        _read(tmp_path, text)


def test_the_job_script_asks_for_one_gpu_and_all_cores_per_recording(tmp_path: Path) -> None:
    """What is given to sbatch asks for what the file says, and starts a worker that sorts one recording at a time."""
    pytest.importorskip("dask_jobqueue")
    slurm = _read(tmp_path, SLURM)
    assert isinstance(slurm, SlurmJobs)
    lines = slurm.job_script().splitlines()
    wanted = {"-p gpu", "-A lab", "--cpus-per-task=8", "--mem=60G", "-t 24:00:00", "--gres=gpu:a100:1", "--exclusive"}
    assert wanted <= {line.removeprefix("#SBATCH ") for line in lines}
    worker = lines[-1]
    assert lines[-2] == "module load cuda"
    assert "--nthreads 1 " in worker
    assert worker.endswith("--lifetime 86100s --resources GPU=1")


def test_jobs_without_a_gpu_ask_for_none() -> None:
    """gpus = 0 asks Slurm for no GPU, advertises none, and ends its worker before short jobs end."""
    arguments = SlurmJobs(workers=1, memory="8GB", gpus=0, walltime="0:30:00").arguments()
    assert arguments["job_extra_directives"] == []
    assert arguments["worker_extra_args"] == ["--lifetime", "1620s"]
    assert arguments["job_cpu"] == 4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": "0.0.1"}, r"tcp://b \(node2\): it has spikelab 0.0.1"),
        ({"missing": ("/data/a.raw.h5", "/data")}, r"tcp://b \(node2\): it does not see /data/a.raw.h5 and 1 more"),
        ({"lacks": "no kilosort"}, r"1 of 2 workers cannot sort: tcp://b \(node2\): no kilosort"),
    ],
)
def test_a_worker_that_cannot_sort_is_named(change: dict[str, object], message: str) -> None:
    """A machine with another version, without the files or without the sorter is named, and nothing is started."""
    fine = {"version": __version__, "gpus": 1.0, "missing": (), "lacks": None, "threads": 1}
    facts = {
        "tcp://a": WorkerFacts(host="node1", **fine),
        "tcp://b": WorkerFacts(**{"host": "node2", **fine, **change}),
    }
    with pytest.raises(EnvironmentSortFailure, match=message):
        check_facts(facts)


@pytest.mark.parametrize("gpus, n_at_a_time", [((4.0, 0.0), 4), ((0.0, 0.0), 3)])
def test_how_many_recordings_a_cluster_has_in_flight(gpus: tuple[float, float], n_at_a_time: int) -> None:
    """One on each GPU, of which a worker may have several; without any, one in each thread of a worker."""
    facts = [WorkerFacts("node", __version__, n_gpus, (), None, n) for n_gpus, n in zip(gpus, (1, 2), strict=True)]
    assert n_at_once(facts) == n_at_a_time


@pytest.mark.parametrize(
    "error",
    [
        UnclassifiedSortError("KeyError: 'x'", stage="sort", remote_traceback="Traceback ..."),
        GPUOutOfMemoryError("the GPU is full", sorter="kilosort4", stage="sort"),
    ],
)
def test_an_error_reads_the_same_on_both_machines(error: Exception) -> None:
    """What a recording failed with is told by the caller in the words of the worker, with its stage once."""
    described = {"stage": "sort", **describe_error(error)}
    result = RecordingResult(rec_name="a", rec_path="/data/a", results_folder="/sorted/a", **described)
    there = told(json.loads(json.dumps(tell(Outcome(result, error)))))
    assert there.result == result
    assert (type(there.error), str(there.error)) == (type(error), str(error))
    assert vars(there.error) == vars(error)
