"""A user's script: sort recordings, print the report. Started by the other programs, and by them disturbed."""

from __future__ import annotations

import json
import resource
import sys
from functools import partial
from typing import Any

from spikelab.spike_sorting import SortRunReport, batch, call_settings, sort_recording
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.supervision import process


def main(settings: dict[str, Any]) -> None:
    if "patience" in settings:
        process.Patience = partial(process.Patience, *settings["patience"])  # type: ignore[misc]
    report = SortRunReport()
    try:
        if "jobs" in settings:
            sort_each(settings["jobs"], report, settings.get("parallel", 1))
        else:
            sort_recording(settings["files"], out_report=report, **settings["options"])
    finally:
        peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(json.dumps({**report.to_dict(), "peak_bytes": peak_bytes}) + "\n")
        sys.stdout.flush()


def sort_each(jobs: list[dict[str, Any]], report: SortRunReport, parallel: int) -> None:
    """Sort recordings with settings of their own, as the command line does."""
    planned = []
    for job in jobs:
        folders = {"intermediate_folders": [job["inter"]], "results_folders": [job["results"]]}
        planned += plan(job["file"], call_settings.resolve_config(None, "fake", job["options"]), **folders)
    batch.run_jobs(planned, on_error="continue", out_report=report, max_parallel=parallel)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
