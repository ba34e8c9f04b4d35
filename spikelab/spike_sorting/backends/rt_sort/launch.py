"""RT-Sort's orders and traces, written for the interpreter that has it, and that interpreter as a child."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from spikelab.spike_sorting._exceptions import (
    InsufficientActivityError,
    SorterCrashedError,
    SorterNotInstalledError,
    SpikeSortingClassifiedError,
)
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.binary import write_samples
from spikelab.spike_sorting.backends.child import Execute, as_child, check_ended, run_logged
from spikelab.spike_sorting.backends.pass_band import filtered
from spikelab.spike_sorting.backends.rt_sort.installation import SCRIPT, Provider
from spikelab.spike_sorting.backends.rt_sort.model import Model
from spikelab.spike_sorting.backends.rt_sort.model_folder import not_loadable
from spikelab.spike_sorting.backends.rt_sort.parameters import thresholds
from spikelab.spike_sorting.backends.rt_sort.provider import STATUS, STEP
from spikelab.spike_sorting.config import RTSortConfig, SortingPipelineConfig
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.progress import Reporter

LOG = "rt_sort.log"
"""What RT-Sort printed, in the folder of the sorter."""
WORK = "rt_sort_inter"
"""RT-Sort's own traces, in the folder of the sorter; as large as three copies of the recording or more."""
ONE_THREAD = MappingProxyType(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
)
"""RT-Sort has processes of its own; threads that wait spin, which costs a busy machine ten times the time."""
_CHECK_TIMEOUT_S = 300.0
_BAR = re.compile(r"(\d+)%\|")
_BAR_INTERVAL_S = "5"


def window_samples(options: RTSortConfig, n_samples: int, fs_Hz: float) -> tuple[int, int]:
    """Return the first sample of the recording that is sorted, and the one after the last.

    Raises
    ------
    ValueError
        The window begins after the end of the recording, or is shorter than a sample.
    """
    if options.recording_window_ms is None:
        return 0, n_samples
    first, end = (round(ms / 1000 * fs_Hz) for ms in options.recording_window_ms)
    if end <= first:
        msg = f"rt_sort_recording_window_ms={tuple(options.recording_window_ms)} holds no sample at {fs_Hz:g} Hz"
        raise ValueError(msg)
    if first >= n_samples:
        length_ms = 1000 * n_samples / fs_Hz
        msg = (
            f"rt_sort_recording_window_ms begins at {options.recording_window_ms[0]:g} ms, and the recording has "
            f"{length_ms:g} ms"
        )
        raise ValueError(msg)
    return first, min(end, n_samples)


def n_processes(options: RTSortConfig) -> int:
    """Return how many processes RT-Sort starts."""
    return options.num_processes or host.usable_cores()


def run(job: SortJob, python: str, model: Model, execute: Execute | None = None) -> dict[str, Any]:
    """Sort ``job.recording`` and leave plain arrays in ``job.folder``; return what RT-Sort says of its work.

    Parameters
    ----------
    job : SortJob
        What to sort.
    python : str
        Interpreter that has RT-Sort.
    model : Model
        Its detection model.
    execute : callable or None, default None
        Runs the interpreter; None: as a child of this process.

    Raises
    ------
    SpikeSortingClassifiedError
        It failed: in its own words, classified by what it printed, or SorterCrashedError.
    """
    options = job.config.rt_sort
    (job.folder / WORK).mkdir()
    window = window_samples(options, job.recording.get_num_samples(), job.recording.sampling_frequency)
    traces = job.folder / WORK / "traces.npy"
    _write_traces(job, traces, window)
    orders = job.folder / WORK / "orders.json"
    orders.write_text(json.dumps(_orders(job, model, traces, window[0])), encoding="utf-8")
    in_child = partial(as_child, job.folder, {**os.environ, **environment(options)})
    ended = run_logged(
        # It ignores PYTHONUNBUFFERED, and what it printed last is what tells of a crash.
        [python, "-I", "-u", str(SCRIPT), "sort", str(orders)],
        job.folder / LOG,
        execute or in_child,
        _Follower(job.progress).read,
    )
    check_ended(ended, "rt_sort", "RT-Sort", job.folder / LOG)
    said = _status(orders.with_name(STATUS))
    error = error_of(said, model, job.folder / LOG)
    if error is not None:
        raise error
    return said


def check(config: SortingPipelineConfig, provider: Provider, model: Model) -> SpikeSortingClassifiedError | None:
    """Return why a sort could not begin, found by importing RT-Sort and loading the model; None where it can."""
    with TemporaryDirectory(prefix="spikelab-rt-sort-") as folder:
        orders = Path(folder, "orders.json")
        device, named = config.rt_sort.device, {"model": str(model.folder), "folder": folder}
        given = {"given": sorted(config.rt_sort.params)}
        orders.write_text(json.dumps({"device": device, **named, **given}), encoding="utf-8")
        command = [provider.python, "-I", str(SCRIPT), "check", str(orders)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            msg = f"{provider.python} took longer than {_CHECK_TIMEOUT_S:g} s to import {provider}"
            return SorterNotInstalledError(msg, sorter="rt_sort", missing=provider.name)
        if done.returncode:
            last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            msg = f"{provider} does not work in {provider.python}: {last}"
            return SorterNotInstalledError(msg, sorter="rt_sort", missing=provider.name)
        return error_of(_status(orders.with_name(STATUS)), model, None)


def error_of(said: Mapping[str, Any], model: Model, log_path: Path | None) -> SpikeSortingClassifiedError | None:
    """Return the error that RT-Sort's status tells of, or None when it is done."""
    log = None if log_path is None else str(log_path)
    message = str(said.get("message", ""))
    match said.get("outcome"):
        case "done":
            return None
        case "model":
            return not_loadable(model.folder, message)
        case "not_installed":
            return SorterNotInstalledError(message, sorter="rt_sort", missing=said["missing"])
        case "no_sequences":
            return InsufficientActivityError(message, sorter="rt_sort", units_at_failure=0, log_path=log)
        case _:
            msg = "RT-Sort ended without a word on how"
            return SorterCrashedError(msg, sorter="rt_sort", exit_name="exit code 0", log_path=log)


def _status(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write_traces(job: SortJob, path: Path, window: tuple[int, int]) -> None:
    """Write what is sorted, in uV and band-passed, as 4-byte floats."""
    import numpy as np

    recording = filtered(job.recording, job.config).frame_slice(*window)
    header = BytesIO()
    shape = (window[1] - window[0], recording.get_num_channels())
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    write_samples(job, recording, path, "float32", header=header.getvalue())


def _orders(job: SortJob, model: Model, traces: Path, first_sample: int) -> dict[str, Any]:
    options = job.config.rt_sort
    window_s = options.detection_window_s
    return {
        "folder": str(job.folder),
        "work": str(job.folder / WORK),
        "traces": str(traces),
        "first_sample": first_sample,
        "fs_Hz": float(job.recording.sampling_frequency),
        "locations_um": job.recording.get_channel_locations()[:, :2].tolist(),
        "model": str(model.folder),
        "device": options.device,
        "num_processes": n_processes(options),
        "verbose": options.verbose,
        "params": thresholds(options.probe, options.params),
        "given": sorted(options.params),
        "detection_ms": None if window_s is None else 1000 * window_s,
        "save_pickle": options.save_rt_sort_pickle,
    }


def environment(options: RTSortConfig) -> dict[str, str]:
    """Return variables for RT-Sort: a bar of progress is a line of the log every few seconds, or none."""
    # Any text but none disables the bars.
    return {**ONE_THREAD, "TQDM_DISABLE": "" if options.verbose else "1", "TQDM_MININTERVAL": _BAR_INTERVAL_S}


class _Follower:
    """Tells how far RT-Sort is, from what it prints.

    Parameters
    ----------
    progress : Reporter
        Where to say so.
    """

    def __init__(self, progress: Reporter) -> None:
        self._progress = progress
        self._step = ""

    def read(self, line: str) -> None:
        """Report the step that `line` begins, or the share of it that is done."""
        if line.startswith(STEP):
            self._step = line.removeprefix(STEP).strip()
            self._progress.report(self._step)
        elif (bar := _BAR.search(line)) is not None:
            self._progress.report(self._step, int(bar[1]) / 100)
