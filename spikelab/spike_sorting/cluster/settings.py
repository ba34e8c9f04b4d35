"""Clusters as TOML files describe them: workers on this machine, jobs of Slurm, or a scheduler that runs already."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure
from spikelab.spike_sorting._settings import parse_toml
from spikelab.spike_sorting._toml_lines import line_of
from spikelab.spike_sorting.cluster.task import GPU

_RETIRE_MIN = 5
"""A worker stops taking recordings so long before its time is over (min); never more than a tenth of the time."""
_DASHBOARD = "127.0.0.1:0"
"""Dask's own pages: for this machine, at any free port."""


@dataclass(frozen=True, kw_only=True)
class LocalWorkers:
    """Workers on this machine, to try a batch before it goes to a cluster.

    Parameters
    ----------
    workers : int, default 2
        Worker processes; each sorts one recording at a time.
    gpus : int, default 0
        GPUs that each worker advertises.
    wait_min : float, default 1
        How long there may be no worker (min).
    """

    workers: int = 2
    gpus: int = 0
    wait_min: float = 1.0

    def start(self) -> Any:
        """Return a running ``distributed.LocalCluster``; it is closed by its ``with`` block."""
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            resources={GPU: self.gpus} if self.gpus else None,
            dashboard_address=_DASHBOARD,
        )


@dataclass(frozen=True, kw_only=True)
class RunningCluster:
    """A cluster that runs already.

    Parameters
    ----------
    address : str
        Of its scheduler, such as "tcp://head:8786".
    wait_min : float, default 1
        How long there may be no worker (min).
    """

    address: str
    wait_min: float = 1.0

    def start(self) -> Any:
        """Return the address, with which a client is made."""
        return self.address


@dataclass(frozen=True, kw_only=True)
class SlurmJobs:
    """Jobs of Slurm, each of which sorts one recording after the other.

    Parameters
    ----------
    workers : int
        Slurm jobs; each sorts one recording at a time for each of its GPUs, or one without.
    memory : str
        Memory of each job, such as "64GB".
    cores : int, default 4
        Cores of each job.
    gpus : int, default 1
        GPUs of each job; 0 sorts on the CPU.
    walltime : str, default "24:00:00"
        Time of each job: hours, minutes, seconds.
    queue, account : str, optional
        Partition, and who pays.
    gpu_type : str, optional
        Kind of GPU, as Slurm calls it: "a100".
    local_directory : str, optional
        Fast local disk of the nodes, for Dask's own files.
    log_directory : str, optional
        Where Slurm writes what the workers print.
    interface : str, optional
        Network between the nodes, such as "ib0".
    python : str, optional
        Interpreter of the workers; default: the one that runs this.
    prologue : list of str, optional
        Lines of shell before the worker starts: ``module load``, ``conda activate``.
    directives : list of str, optional
        More for ``#SBATCH``, such as "--exclusive".
    wait_min : float, default 1440
        How long there may be no worker (min): Slurm's queue may be long.
    """

    workers: int
    memory: str
    cores: int = 4
    gpus: int = 1
    walltime: str = "24:00:00"
    queue: str | None = None
    account: str | None = None
    gpu_type: str | None = None
    local_directory: str | None = None
    log_directory: str | None = None
    interface: str | None = None
    python: str | None = None
    prologue: list[str] | None = None
    directives: list[str] | None = None
    wait_min: float = 1440.0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``dask_jobqueue.SLURMCluster``.

        A worker has as many threads as it sorts recordings at once, whatever its cores: those are the sorter's.
        """
        threads = max(1, self.gpus)
        gres = "--gres=" + ":".join(filter(None, ("gpu", self.gpu_type, str(self.gpus))))
        # Before Slurm ends it: recordings that it has not begun go to other workers, and it counts as no loss.
        lifetime = ["--lifetime", f"{_lifetime_s(self.walltime)}s"]
        given = {
            "cores": threads,
            "processes": 1,
            "job_cpu": self.cores,
            "memory": self.memory,
            "walltime": self.walltime,
            "queue": self.queue,
            "account": self.account,
            "local_directory": self.local_directory,
            "log_directory": self.log_directory,
            "interface": self.interface,
            "python": self.python,
            "job_script_prologue": self.prologue,
            "job_extra_directives": [*([gres] if self.gpus else []), *(self.directives or ())],
            "worker_extra_args": [*lifetime, *(["--resources", f"{GPU}={self.gpus}"] if self.gpus else [])],
        }
        return {name: value for name, value in given.items() if value is not None}

    def start(self) -> Any:
        """Return a running ``dask_jobqueue.SLURMCluster`` that asks for the workers; its ``with`` block ends them."""
        cluster = self._cluster()
        cluster.scale(jobs=self.workers)
        return cluster

    def job_script(self) -> str:
        """Return what is given to ``sbatch`` for each worker."""
        with self._cluster() as cluster:
            return str(cluster.job_script())

    def _cluster(self) -> Any:
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError as error:
            raise _not_installed() from error
        return SLURMCluster(**self.arguments(), scheduler_options={"dashboard_address": _DASHBOARD})


ClusterSettings = LocalWorkers | RunningCluster | SlurmJobs
_KINDS: Mapping[str, type[Any]] = {"local": LocalWorkers, "dask": RunningCluster, "slurm": SlurmJobs}


def read_cluster(path: Path) -> ClusterSettings:
    """Return the cluster that a TOML file describes.

    Raises
    ------
    ValueError
        The file is no such description; names the line and the key.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tables = parse_toml(text)
    except ValueError as error:
        msg = f"{path} is no TOML: {error}"
        raise ValueError(msg) from error
    unknown = [name for name in tables if name not in _KINDS]
    if unknown or len(tables) != 1:
        where = f"{path}, line {line_of(text, unknown[0]) or '?'}: [{unknown[0]}]" if unknown else f"{path}"
        msg = f"{where}: expected one table, [slurm], [dask] or [local], got {list(tables)}"
        raise ValueError(msg)
    ((name, values),) = tables.items()
    if not isinstance(values, Mapping):
        msg = f"{path}: {name} must be a table, [{name}]"
        raise ValueError(msg)  # noqa: TRY004 - the file is wrong, not the call
    kind = _KINDS[name]
    known = {field.name: field for field in fields(kind)}
    for key, value in values.items():
        line = f"{path}, line {line_of(text, name, key) or '?'}"
        if key not in known:
            msg = f"{line}: [{name}] has no {key!r}; it has {', '.join(known)}"
            raise ValueError(msg)
        _check(line, key, value, get_type_hints(kind)[key])
    missing = [key for key, field in known.items() if field.default is MISSING and key not in values]
    if missing:
        msg = f"{path}, line {line_of(text, name) or '?'}: [{name}] needs {missing[0]!r}"
        raise ValueError(msg)
    return kind(**values)  # type: ignore[no-any-return]


def _check(line: str, key: str, value: Any, hint: Any) -> None:
    """Raise ValueError where `value` is not what the setting takes."""
    if hint is int:
        least, is_fit = (0 if key == "gpus" else 1), type(value) is int
        fits, wanted = is_fit and value >= least, f"a whole number from {least} on"
    elif hint is float:
        fits, wanted = type(value) in {int, float} and value > 0, "a number of minutes above 0"
    elif "list" in str(hint):
        fits, wanted = isinstance(value, list) and all(isinstance(one, str) for one in value), "a list of texts"
    else:
        fits, wanted = isinstance(value, str) and bool(value), "a text"
    if fits and key == "walltime":
        fits, wanted = _seconds(value) > 0, 'hours, minutes and seconds, such as "24:00:00"'
    if not fits:
        msg = f"{line}: {key} must be {wanted}, got {value!r}"
        raise ValueError(msg)


def _seconds(walltime: str) -> int:
    """Return the seconds of "[days-]hours:minutes:seconds", as Slurm writes times; 0 where it is none."""
    days, dash, rest = walltime.rpartition("-")
    parts = rest.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return 0
    hours, minutes, seconds = map(int, parts)
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _lifetime_s(walltime: str) -> int:
    whole = _seconds(walltime)
    return whole - min(_RETIRE_MIN * 60, whole // 10)


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[Any]:
    """Yield a client of the cluster, which runs for the ``with`` block, or on if it ran before.

    Raises
    ------
    EnvironmentSortFailure
        Dask is not installed, or the cluster cannot be reached.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise _not_installed() from error
    if isinstance(settings, RunningCluster):
        try:
            client = Client(settings.start())
        except (OSError, ValueError) as error:
            msg = f"no Dask scheduler answers at {settings.address} ({error}); start one, or correct the address"
            raise EnvironmentSortFailure(msg) from error
        with client:
            yield client
        return
    with settings.start() as cluster, Client(cluster) as client:
        yield client


def _not_installed() -> EnvironmentSortFailure:
    return EnvironmentSortFailure(
        f'sorting on a cluster needs Dask, which {sys.executable} does not have: pip install "spikelab[cluster]"'
    )
