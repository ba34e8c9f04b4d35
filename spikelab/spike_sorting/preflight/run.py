"""Everything that can be known before the start: of the machine once, of each recording once, all of it told."""

from __future__ import annotations

from collections.abc import Sequence

from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.checks import BATCH_CHECKS, RECORDING_CHECKS
from spikelab.spike_sorting.preflight.elsewhere import look_at_all
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.preflight.machine import Machine


def run_preflight(jobs: Sequence[Job], *, machine: Machine | None = None, n_parallel: int = 1) -> list[Finding]:
    """Return what speaks against a start, of all recordings at once; nothing is raised and nothing left behind.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be sorted; finished jobs need not be among them.
    machine : Machine or None, default None
        Where readings come from; None for this machine.
    n_parallel : int, default 1
        Recordings in flight at once, whose needs add up.

    Returns
    -------
    list of Finding
        First on the machine and its folders, then on each recording in order.
    """
    return findings_on(look_at_batch(jobs, machine=machine, n_parallel=n_parallel)) if jobs else []


def look_at_batch(
    jobs: Sequence[Job], *, machine: Machine | None = None, n_parallel: int = 1, probe_s: float = 0.0
) -> Batch:
    """Return what the checks look at; the parameters are those of `run_preflight` and `look_at_all`."""
    return Batch(look_at_all(jobs, probe_s), (machine or Machine()).asked_once(), n_parallel)


def findings_on(batch: Batch) -> list[Finding]:
    """Return what all checks find, first on the machine and its folders, then on each recording in order."""
    found = [finding for check in BATCH_CHECKS for finding in check(batch)]
    return found + [finding for facts in batch.recordings for check in RECORDING_CHECKS for finding in check(facts)]
