"""What users call to sort on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.api import Folders, results_of
from spikelab.spike_sorting.batch import OnError
from spikelab.spike_sorting.call_settings import resolve_config
from spikelab.spike_sorting.cluster.flight import run_jobs_on
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Recordings, plan, plan_streams
from spikelab.spike_sorting.outcome import SortRunReport

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData


def sort_on(
    client: Any,
    recording_files: Recordings,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    intermediate_folders: Folders = None,
    results_folders: Folders = None,
    *,
    out_report: SortRunReport | None = None,
    on_error: OnError = "raise",
    wait_for_workers_s: float = 60.0,
    **overrides: Any,
) -> list[SpikeData | None]:
    """Sort recordings on the workers of a Dask cluster, each once, and return their curated units in order.

    The machines must see recordings and folders under the same paths. A recording of which the worker is lost is
    continued by another worker from what is finished. Ctrl-C, and the end of this process, stop the sorters
    everywhere; calling again continues.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster. Where workers have the resource ``GPU``, sorters that use one take ``GPU=1``.
    recording_files, config, sorter, intermediate_folders, results_folders, **overrides
        As in `spikelab.spike_sorting.sort_recording`; recordings in memory alone are refused.
    out_report : SortRunReport or None, default None
        Gets one record per recording, for failures too.
    on_error : {"raise", "continue"}, default "raise"
        Stop the others at the first failure and raise it, or try every recording and return None for failed ones.
    wait_for_workers_s : float, default 60
        How long the cluster may be without a worker that can take what is left, or not answer (s).

    Returns
    -------
    list of SpikeData or None
        One per recording file, in order; a folder of k recordings contributes k.

    Raises
    ------
    ValueError, TypeError
        The call is wrong; nothing has run.
    EnvironmentSortFailure
        The cluster has no workers, or some that lack the sorter, this version of spikelab or the recordings.
    SpikeSortingClassifiedError
        The first failure, with ``on_error="raise"``.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> from spikelab.spike_sorting.cluster import sort_on
    >>> with Client("tcp://head:8786") as client:  # doctest: +SKIP
    ...     results = sort_on(client, ["session1.raw.h5", "session2.raw.h5"], sorter="kilosort4")
    """
    settings = resolve_config(config, sorter, overrides)
    jobs = plan(recording_files, settings, intermediate_folders=intermediate_folders, results_folders=results_folders)
    outcomes = run_jobs_on(client, jobs, on_error=on_error, out_report=out_report, wait_s=wait_for_workers_s)
    return [sd for job, outcome in zip(jobs, outcomes, strict=True) for sd in results_of(job, outcome)]


def sort_multistream_on(
    client: Any,
    recording: str | Path,
    stream_ids: Sequence[str] | None = None,
    config: SortingPipelineConfig | None = None,
    sorter: str | None = None,
    intermediate_folders: Sequence[str | Path] | None = None,
    results_folders: Sequence[str | Path] | None = None,
    *,
    out_report: SortRunReport | None = None,
    on_error: OnError = "raise",
    wait_for_workers_s: float = 60.0,
    **overrides: Any,
) -> dict[str, list[SpikeData | None]]:
    """Sort the streams of one file on the workers of a Dask cluster, each as a recording of its own.

    What a stream is, such as a well of a plate, `spikelab.spike_sorting.sort_multistream` says; what holds on a
    cluster, `sort_on`.

    Parameters
    ----------
    client, out_report, on_error, wait_for_workers_s
        As in `sort_on`.
    recording, stream_ids, config, sorter, intermediate_folders, results_folders, **overrides
        As in `spikelab.spike_sorting.sort_multistream`.

    Returns
    -------
    dict of str to list of SpikeData or None
        Results by stream.

    Raises
    ------
    ValueError
        A stream is not in the file; the message lists those that are.
    EnvironmentSortFailure
        As in `sort_on`.
    SpikeSortingClassifiedError
        The first failure, with ``on_error="raise"``.

    Examples
    --------
    >>> from distributed import Client  # doctest: +SKIP
    >>> from spikelab.spike_sorting.cluster import sort_multistream_on
    >>> with Client("tcp://head:8786") as client:  # doctest: +SKIP
    ...     wells = sort_multistream_on(client, "plate.raw.h5", sorter="kilosort4")
    """
    jobs = plan_streams(
        recording,
        resolve_config(config, sorter, overrides),
        stream_ids,
        intermediate_folders=intermediate_folders,
        results_folders=results_folders,
    )
    batch = tuple(jobs.values())
    outcomes = run_jobs_on(client, batch, on_error=on_error, out_report=out_report, wait_s=wait_for_workers_s)
    return {stream: results_of(job, outcome) for (stream, job), outcome in zip(jobs.items(), outcomes, strict=True)}
