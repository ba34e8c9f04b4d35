"""Kilosort4 as a backend: installed or not, which settings count, how to run it and read it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._classifier import classify
from spikelab.spike_sorting._exceptions import InsufficientActivityError, SorterNotInstalledError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.base import Shortage, Shrunk, Sorting, SortJob
from spikelab.spike_sorting.backends.binary import FlatBinary, flat_binary
from spikelab.spike_sorting.backends.containers.images import container_settings, version_in_container
from spikelab.spike_sorting.backends.kilosort4 import advisor, ladder
from spikelab.spike_sorting.backends.kilosort4.memory import in_memory_bytes
from spikelab.spike_sorting.backends.kilosort4.parameters import (
    HARMLESS,
    OUR_NUMBERS,
    OURS,
    PARAMETERS,
    RUN_ARGUMENTS,
    check_against_recording,
    check_parameters,
)
from spikelab.spike_sorting.backends.kilosort4.request import Request, torch_device
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.supervision.memory import free_memory_bytes

OLDEST, BELOW = (4, 1, 7), (4, 2)
_SAID_BY_RECORDING = frozenset({"n_chan_bin", "fs"})
"""Settings that the recording has the last word on."""
_OF_REQUEST = (*RUN_ARGUMENTS, "accelerated", *OUR_NUMBERS)
_GLIBC_OWN_WAYS = {"MALLOC_MMAP_MAX_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""The defaults of the C library. A worker's allocator keeps what was freed (``host.worker_environment``), which is
fast, and wrong where memory is short.
"""


class Kilosort4Backend:
    """Kilosort4 in this interpreter's torch, on a GPU where there is one."""

    name = "kilosort4"

    def installed(self, config: SortingPipelineConfig) -> str | None:
        """Return the installed version, or the image that brings it, or None."""
        try:
            return version_in_container(config.sorter) or version("kilosort")
        except PackageNotFoundError:
            return None

    def check_installed(self, config: SortingPipelineConfig) -> str:
        """Return the installed version; raise SorterNotInstalledError when it is missing or untested."""
        found = self.installed(config)
        if found is None:
            msg = "Kilosort4 is not installed: pip install 'kilosort>=4.1.7,<4.2' torch"
            raise SorterNotInstalledError(msg, sorter=self.name, missing="kilosort")
        if not config.sorter.use_docker and not OLDEST <= _numbers(found) < BELOW:
            msg = f"kilosort {found} is installed; 4.1.7 and later 4.1 are tested: pip install 'kilosort>=4.1.7,<4.2'"
            raise SorterNotInstalledError(msg, sorter=self.name, missing="kilosort>=4.1.7,<4.2")
        return found

    def check_params(self, config: SortingPipelineConfig) -> None:
        """Raise ValueError when a parameter is unknown, of the wrong type or out of its range."""
        check_parameters(config.sorter.sorter_params)

    def settings(self, config: SortingPipelineConfig) -> Mapping[str, Any]:
        """Return what changes the spikes: parameters, given and recommended, pass band, seed, and the version."""
        unread = HARMLESS | _SAID_BY_RECORDING | {"torch_device", "advise"}
        params = {name: value for name, value in config.sorter.sorter_params.items() if name not in unread}
        return {
            "params": thaw(params),
            "advice": advisor.VERSION if _is_advised(config) else None,
            "freq_min": config.recording.freq_min,
            "random_seed": config.execution.random_seed,
            "version": self.installed(config),
            **container_settings(config),
        }

    def device(self, config: SortingPipelineConfig) -> str:
        """Return torch's name of it, or "auto"."""
        return str(config.sorter.sorter_params.get("torch_device", "auto"))

    def sort(self, job: SortJob) -> Mapping[str, Any]:
        """Sort ``job.recording`` and leave Kilosort4's files for Phy in ``job.folder``."""
        from spikelab.spike_sorting.backends.kilosort4 import contained, results

        request, advice = sort_request(job)
        run = contained.run_steps if job.config.sorter.use_docker else _run_steps
        with _explaining_silence(job):
            ran = run(job, request)
            results.require_spikes(job.folder, job.recording.get_num_samples())
        results.write_phy_params(job.folder, job.run.sorter_output, request.binary, request.fs_Hz)
        return {
            **ran,
            "recommended": advice.to_list(),
            "batch_samples": request.settings.get("batch_size", PARAMETERS["batch_size"].default),
            "notes": list(advice.warnings),
            "warnings": [told.to_dict() for told in request.binary.remarks()],
        }

    def read(self, folder: Path, n_samples: int) -> Sorting:
        """Return the spikes in `folder`, validated."""
        from spikelab.spike_sorting.backends.kilosort4.results import read_results

        return read_results(folder, n_samples)

    def smaller(self, config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
        """Return a configuration that needs less of what ran out, or None when it cannot shrink further."""
        return ladder.smaller(config, shortage)

    def environment(self, config: SortingPipelineConfig) -> Mapping[str, str]:
        """Return what makes the allocators, after a shortage, give back what is not in use."""
        params = config.sorter.sorter_params
        on_gpu = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"} if params.get("clear_cache") else {}
        on_host = _GLIBC_OWN_WAYS if params.get("arrays_on_disk") else {}
        return {**on_gpu, **on_host}


def _run_steps(job: SortJob, request: Request) -> Mapping[str, Any]:
    """Sort in this process; return which functions of upstream ours stood in for."""
    from spikelab.spike_sorting.backends.kilosort4.logfile import log_file
    from spikelab.spike_sorting.backends.kilosort4.steps import run_steps

    with log_file(job.folder):
        return {"accelerated": list(run_steps(request, job.progress, job.run.sorter_checkpoints))}


def sort_request(job: SortJob) -> tuple[Request, advisor.Recommendations]:
    """Return what Kilosort4 is asked to do for `job`, and the advice in it: it stands where the user gave nothing.

    Raises
    ------
    ValueError
        A parameter, or the probe, does not fit the recording.
    """
    from spikelab.spike_sorting.probes.dictionary import check_probe, probe_dictionary

    given = job.config.sorter.sorter_params
    fs_Hz, n_channels = float(job.recording.sampling_frequency), job.recording.get_num_channels()
    check_against_recording(given, n_channels, fs_Hz)
    probe = probe_dictionary(job.recording)
    check_probe(probe, n_channels)
    probe = _without_channels(probe, given.get("bad_channels"))
    advice = _advice(job.config, job.recording, probe)
    binary = flat_binary(job, job.recording_key())
    params = _in_own_units({**advice.values, **given}, binary)
    device: Any = params.get("torch_device", "auto")
    request = Request(
        binary=binary,
        key=job.recording_key(),
        probe=probe,
        fs_Hz=fs_Hz,
        settings=kilosort_settings(params, job.config.recording.freq_min),
        device=device if job.config.sorter.use_docker else torch_device(device),
        folder=job.folder,
        # Upstream's own seed is 1, so that our default seed of 0 gives upstream's result.
        seed=1 + job.config.execution.random_seed,
        in_memory_bytes=in_memory_bytes(
            params.get("arrays_on_disk"), job.config.execution.total_memory, free_memory_bytes()
        ),
        **{name: params[name] for name in _OF_REQUEST if name in params},
    )
    return request, advice


def _in_own_units(params: Mapping[str, Any], binary: FlatBinary) -> dict[str, Any]:
    """Return `params` with which Kilosort4 sees a scaled copy in the units of the recording, as they are meant."""
    if binary.step == 1.0:
        return dict(params)
    return {**params, "scale": (params.get("scale") or 1.0) * binary.step}


def kilosort_settings(params: Mapping[str, Any], freq_min: float) -> dict[str, Any]:
    """Return Kilosort4's settings that differ from its defaults: the pass band, then `params` without ours."""
    unread = {*OURS, *_SAID_BY_RECORDING}
    named = {name: value for name, value in params.items() if name not in unread}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    return {"highpass_cutoff": freq_min, **lists}


def recommended(config: SortingPipelineConfig, recording: Any) -> advisor.Recommendations:
    """Return the settings that a sort of `recording` takes where `config` says nothing; none when it says not to."""
    from spikelab.spike_sorting.probes.dictionary import probe_dictionary

    probe = _without_channels(probe_dictionary(recording), config.sorter.sorter_params.get("bad_channels"))
    return _advice(config, recording, probe)


def _advice(config: SortingPipelineConfig, recording: Any, probe: Mapping[str, Any]) -> advisor.Recommendations:
    fs_Hz, gains = float(recording.sampling_frequency), recording.get_channel_gains()
    advice = advisor.recommend_settings(
        probe,
        fs_Hz,
        recording.get_num_samples() / fs_Hz,
        str(recording.dtype),
        gain_uV=None if gains is None else float(gains[0]),
        given=config.sorter.sorter_params,
    )
    return advice if _is_advised(config) else advisor.Recommendations((), advice.warnings)


def _is_advised(config: SortingPipelineConfig) -> bool:
    return bool(config.sorter.sorter_params.get("advise", True))


def _numbers(text: str) -> tuple[int, ...]:
    parts = (part for part in text.split("+", maxsplit=1)[0].split("."))
    return tuple(int(part) for part in parts if part.isdigit())


def _without_channels(probe: dict[str, Any], bad_channels: Any) -> dict[str, Any]:
    """Return `probe` without the contacts of the channels `bad_channels`; the file keeps them."""
    import numpy as np

    kept = ~np.isin(probe["chanMap"], list(bad_channels or ()))
    return {name: value if name == "n_chan" else np.asarray(value)[kept] for name, value in probe.items()}


@contextmanager
def _explaining_silence(job: SortJob) -> Iterator[None]:
    """Turn what Kilosort4 raises for want of spikes into an error that says what the recording shows."""
    from spikelab.spike_sorting.backends.kilosort4.diagnosis import explained

    try:
        yield
    except Exception as error:
        silent = classify("kilosort4", job.folder, error)
        if not isinstance(silent, InsufficientActivityError):
            raise
        raise explained(silent, job) from error
