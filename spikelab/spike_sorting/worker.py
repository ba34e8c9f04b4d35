"""The only entry point of a worker: ``python -m spikelab.spike_sorting.worker ATTEMPT_FOLDER``.

It does the unfinished stages of the phase that ``job.json`` in ATTEMPT_FOLDER names. A failure leaves ``exit.json``
there: what it was, in words that the orchestrator can turn back into an error.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._classifier import classify
from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError, UnclassifiedSortError
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.pipeline import run_stages
from spikelab.spike_sorting.stages.overcome import Overcome
from spikelab.spike_sorting.supervision.process import EXIT_DISK_FULL
from spikelab.spike_sorting.supervision.progress import read_progress
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Do the work and return the exit code."""
    folder = Path(arguments[0])
    # Whoever aborts us wants to know where we hang: the stacks of all threads go to the log.
    faulthandler.enable(all_threads=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    # Told in the results instead: the metrics are NaN, and the sorting is kept by us.
    for message in ("Bin duration of", "Amplitude cutoff set to NaN", "The extractor is not serializable to file"):
        warnings.filterwarnings("ignore", message=message)
    described = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    job, phase = Job.from_dict(described["job"]), described["phase"]
    try:
        overcome = Overcome.from_dict(described["overcome"])
        # Typed by hand, it is nobody's run.
        run_id = os.environ.get(RUN_COOKIE)
        run_stages(job, described["keys"], phase, run_id, overcome)
    except Exception as error:  # noqa: BLE001 - the boundary of this process: the orchestrator rebuilds the error from what is told
        _log.exception("phase %s failed", phase)
        return _tell(folder, describe_failure(job, error))
    return 0


def _tell(folder: Path, failure: dict[str, Any]) -> int:
    """Write down what this worker failed with, and return the exit code that goes with it."""
    try:
        publish_json(folder / "exit.json", failure)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        _log.exception("how this worker ended could not be written down")
        return EXIT_DISK_FULL
    return 1


def describe_failure(job: Job, error: Exception) -> dict[str, Any]:
    """Return `error` as the orchestrator reads it: classified, or with its traceback."""
    progress = read_progress(job.run.progress)
    # The sorter's log is evidence of the sorter's failures only.
    evidence = job.run.inter if progress is not None and progress.stage == "sort" else job.run.scratch
    classified = classify(job.config.sorter.sorter_name, evidence, error)
    if classified is not None:
        _complete(classified, job, progress.stage if progress else None)
    message, stack = f"{type(error).__name__}: {error}", traceback.format_exc()
    if isinstance(error, UnclassifiedSortError):
        # It was raised in a container, and told already as it will be told by us.
        message, stack = str(error.args[0]), error.remote_traceback
    return {
        "status": "failed",
        "stage": progress.stage if progress else None,
        "step": progress.step if progress else None,
        "message": message,
        "classified": classified.to_dict() if classified else None,
        "traceback": stack,
    }


def _complete(error: SpikeSortingClassifiedError, job: Job, stage: str | None) -> None:
    """Fill in what whoever raised `error` had no need to know."""
    known = {
        "sorter": job.config.sorter.sorter_name if stage == "sort" else None,
        "log_path": str(job.run.log),
        "stage": stage,
    }
    for name in set(known) & set(error.detail_names()):
        if getattr(error, name) is None:
            setattr(error, name, known[name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
