"""The workers of a cluster: whether there are any, and whether they can sort."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, SorterNotInstalledError
from spikelab.spike_sorting.cluster.link import NO_ANSWER, Link
from spikelab.spike_sorting.cluster.task import GPU, WorkerFacts, look_around
from spikelab.spike_sorting.jobs import Job

_MOST_TOLD = 3
_LOOK_S = 0.2
"""Time between two looks for the first worker (s)."""
_DISKS_S = 60.0
"""Time for the disks of a machine to say whether the recordings are there (s)."""
_CHECK_S = 300.0
"""Time for all workers to look at themselves: some start another Python for it (s)."""
_log = logging.getLogger(__name__)


def check_workers(link: Link, jobs: Sequence[Job], wait_s: float) -> list[WorkerFacts]:
    """Wait for a worker, and return what all that are there say of themselves.

    Parameters
    ----------
    link : Link
        To the cluster.
    jobs : sequence of Job
        What is to be sorted there.
    wait_s : float
        How long to wait for the first worker (s).

    Raises
    ------
    EnvironmentSortFailure
        There is no worker, or one has another version of spikelab or does not see a recording; names the machines.
    SorterNotInstalledError
        A worker lacks the sorter.
    """
    wait_for_a_worker(link, wait_s)
    configs = [config.to_dict() for config in dict.fromkeys(job.config for job in jobs)]
    places = sorted({place for job in jobs for place in _read_from(job)})
    _log.info("looking at the workers of %s", link.address)
    try:
        said = link.ask_all(look_around, configs, places, _DISKS_S, limit_s=_CHECK_S)
    except NO_ANSWER as error:
        raise _silent(link, str(error)) from error
    facts = {address: WorkerFacts(**found) for address, found in said.items() if isinstance(found, Mapping)}
    broken = {address: f"{type(one).__name__}: {one}" for address, one in said.items() if address not in facts}
    advice = "see whether spikelab[cluster] is installed there, too, and whether their disks answer"
    _raise_any(EnvironmentSortFailure, "cannot be used", advice, broken, len(said))
    check_facts(facts)
    return list(facts.values())


def check_facts(facts: Mapping[str, WorkerFacts]) -> None:
    """Raise where a worker, by its address, cannot sort; see `check_workers`."""
    _check_versions(facts)
    lacks = {f"{address} ({one.host})": one.lacks for address, one in facts.items() if one.lacks is not None}
    advice = "install the sorter in the environment that the workers run in, or start workers that have it"
    _raise_any(SorterNotInstalledError, "cannot sort", advice, lacks, len(facts))
    _check_places(facts)


def wait_for_a_worker(link: Link, wait_s: float) -> None:
    """Wait until the cluster has a worker.

    Raises
    ------
    EnvironmentSortFailure
        It has none within `wait_s` seconds.
    """
    until = time.monotonic() + wait_s
    while not (there := link.workers()):
        if time.monotonic() > until:
            raise no_workers(link, there, wait_s)
        time.sleep(_LOOK_S)


def can_take(resources: Mapping[str, float], *, on_gpu: bool) -> bool:
    """Return whether a worker with `resources` can sort a recording, `on_gpu` or not."""
    return not on_gpu or resources.get(GPU, 0) >= 1


def no_workers(
    link: Link, there: Mapping[str, Mapping[str, float]] | None, wait_s: float, *, on_gpu: bool = False
) -> EnvironmentSortFailure:
    """Return the error that tells of a cluster without workers, when those that are `there` are known."""
    if there is None:
        return _silent(link, f"not for {wait_s:.0f} s")
    others = f" with a GPU ({len(there)} without)" if on_gpu and there else ""
    start = f"dask worker ADDRESS --nthreads 1 --resources {GPU}=1" if on_gpu else "cluster.scale(2)"
    return EnvironmentSortFailure(
        f"the cluster at {link.address} has had no worker{others} for {wait_s:.0f} s; nothing can be sorted there. "
        f"Start workers, such as {start}, look at their logs (on Slurm: squeue), or wait for longer"
    )


def _silent(link: Link, found: str) -> EnvironmentSortFailure:
    return EnvironmentSortFailure(
        f"the cluster at {link.address} does not answer ({found}); see whether its scheduler and its workers run, and "
        "the network between here and there. Then call again: what is finished stays finished"
    )


def _read_from(job: Job) -> list[str]:
    """Return what a worker must see: the recording, and the folder above that of the run that is there already."""
    above = next((str(place) for place in job.run.results.parents if place.exists()), None)
    files = [str(path) for path in job.source.owner_card()["files"] if Path(path).exists()]
    return [*files, *([above] if above else [])]


def _check_versions(facts: Mapping[str, WorkerFacts]) -> None:
    from spikelab import __version__

    others = {
        f"{address} ({one.host})": f"it has spikelab {one.version}"
        for address, one in facts.items()
        if one.version != __version__
    }
    advice = f"expected {__version__}, as here: install the same version everywhere"
    _raise_any(EnvironmentSortFailure, "would sort with another version", advice, others, len(facts))


def _check_places(facts: Mapping[str, WorkerFacts]) -> None:
    missing = {
        f"{address} ({one.host})": f"it does not see {one.missing[0]}"
        + (f" and {len(one.missing) - 1} more" if len(one.missing) > 1 else "")
        for address, one in facts.items()
        if one.missing
    }
    advice = "put recordings and results into folders that all machines see under the same path"
    _raise_any(EnvironmentSortFailure, "do not see the files", advice, missing, len(facts))


def _raise_any(
    kind: type[EnvironmentSortFailure], what: str, advice: str, found: Mapping[str, str], n_workers: int
) -> None:
    if found:
        told = "; ".join(f"{where}: {why}" for where, why in list(found.items())[:_MOST_TOLD])
        more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
        msg = f"{len(found)} of {n_workers} workers {what}: {told}{more}. To do: {advice}"
        raise kind(msg)
