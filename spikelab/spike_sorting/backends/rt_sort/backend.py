"""RT-Sort as a backend: a child of the worker, in the interpreter that has it."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.base import Shortage, Shrunk, Sorting, SortJob
from spikelab.spike_sorting.backends.containers.images import container_settings, version_in_container
from spikelab.spike_sorting.backends.rt_sort import launch
from spikelab.spike_sorting.backends.rt_sort.installation import SCRIPT, Provider, find_provider
from spikelab.spike_sorting.backends.rt_sort.model import Model, choose_model
from spikelab.spike_sorting.backends.rt_sort.model_folder import check_model_folder
from spikelab.spike_sorting.backends.rt_sort.parameters import check_parameters, thresholds
from spikelab.spike_sorting.config import RTSortConfig, SortingPipelineConfig

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_LONG_S, _SHORTEST_S = 1200.0, 20.0
"""Detection window from which halving starts where the length of the recording is not known, and where it ends."""
_STRIDE = 3
"""Steps of processes that are given up at once."""


class RTSortBackend:
    """RT-Sort of whichever package carries it there."""

    name = "rt_sort"

    def installed(self, config: SortingPipelineConfig) -> str | None:
        """Return the package that carries RT-Sort, with its version; None where there is none."""
        provider = _provider(config)
        return version_in_container(config.sorter) or (None if provider is None else str(provider))

    def check_installed(self, config: SortingPipelineConfig) -> str:
        """Return that package; raise SorterNotInstalledError when the interpreter or a package is missing."""
        return version_in_container(config.sorter) or str(find_provider(config))

    def check_params(self, config: SortingPipelineConfig) -> None:
        """Raise ValueError when a threshold or the device is not one, or parameters of another sorter are given."""
        if config.sorter.sorter_params:
            msg = f"kilosort_params={dict(config.sorter.sorter_params)} are not RT-Sort's; its own are rt_sort_params"
            raise ValueError(msg)
        if not _DEVICE.fullmatch(config.rt_sort.device):
            msg = f"rt_sort_device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {config.rt_sort.device!r}"
            raise ValueError(msg)
        check_parameters(config.rt_sort.params, config.rt_sort.probe)

    def settings(self, config: SortingPipelineConfig) -> Mapping[str, Any]:
        """Return what changes the spikes: thresholds, windows, pass band, the model's contents, the package."""
        options, provider = config.rt_sort, _provider(config)
        kept = {name: True for name in ("save_rt_sort_pickle",) if getattr(options, name)}
        return {
            "params": thaw(thresholds(options.probe, options.params)),
            "recording_window_ms": thaw(options.recording_window_ms),
            "detection_window_s": options.detection_window_s,
            "band": [config.recording.freq_min, config.recording.freq_max],
            "model": choose_model(config, provider).digest(),
            "version": self.installed(config),
            **container_settings(config),
            **kept,
        }

    def device(self, config: SortingPipelineConfig) -> str:
        """Return torch's name of it, or "auto"."""
        return config.rt_sort.device

    def sort(self, job: SortJob) -> Mapping[str, Any]:
        """Sort ``job.recording`` and leave spikes, root electrodes and templates in ``job.folder``."""
        image: dict[str, Any] = {}
        if job.config.sorter.use_docker:
            python, model = "python", choose_model(job.config, None)
            execute = partial(_in_container, job, model, image)
        else:
            provider = find_provider(job.config)
            python, model, execute = provider.python, choose_model(job.config, provider), None
        check_model_folder(model.folder)
        said = launch.run(job, python, model, execute)
        if job.config.rt_sort.delete_inter:
            shutil.rmtree(job.folder / launch.WORK)
        return {
            **image,
            "provider": f"{said['provider']} {said['version']}",
            "device": said["device"],
            "model": model.origin,
            "warnings": [
                told.to_dict()
                for told in model.remarks(job.config.rt_sort.probe, float(job.recording.sampling_frequency))
            ],
        }

    def read(self, folder: Path, n_samples: int) -> Sorting:
        """Return the spikes in `folder`, validated."""
        from spikelab.spike_sorting.backends.rt_sort.results import read_results

        return read_results(folder, n_samples)

    def smaller(self, config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
        """Return a configuration with fewer processes, then with a shorter detection window; None at the end.

        The GPU is used by one process alone: there only the window counts.
        """
        now = launch.n_processes(config.rt_sort)
        if now > 1 and shortage.of == "host":
            # In one stride: attempts are few, and the window, which comes next, takes most of the memory.
            fewer = {"rt_sort_num_processes": max(1, int(now * shortage.factor**_STRIDE))}
            return Shrunk(config.override(**fewer), fewer, changes_result=False)
        longest_s = _sorted_s(config.rt_sort, shortage.duration_s)
        then_s = min(config.rt_sort.detection_window_s or longest_s, longest_s) * shortage.factor
        if then_s < _SHORTEST_S:
            return None
        shorter = {"rt_sort_detection_window_s": then_s}
        return Shrunk(config.override(**shorter), shorter, changes_result=True)

    def environment(self, config: SortingPipelineConfig) -> Mapping[str, str]:  # noqa: ARG002 - asked of every sorter
        """Return pools of one thread, for RT-Sort has processes of its own."""
        return launch.ONE_THREAD


def _sorted_s(options: RTSortConfig, duration_s: float) -> float:
    """Return the length of what RT-Sort is given (s): the recording, or the window of it that is chosen."""
    first_ms, end_ms = options.recording_window_ms or (0.0, math.inf)
    length_s = min(end_ms / 1000, duration_s or math.inf) - first_ms / 1000
    return length_s if math.isfinite(length_s) else _LONG_S


def _in_container(
    job: SortJob, model: Model, image: dict[str, Any], command: list[str], take: Callable[[str], None]
) -> tuple[int, tuple[str, ...]]:
    """Run the interpreter of an image; put the image into `image`."""
    from spikelab.spike_sorting.backends.containers.running import run_contained

    def on_line(line: str) -> bool:
        take(line)
        return False

    variables = launch.environment(job.config.rt_sort)
    ran = run_contained(job, command, reads=(SCRIPT, model.folder), environment=variables, on_line=on_line)
    image["image"] = ran.image.to_dict()
    return ran.exit_code, ran.tail


def _provider(config: SortingPipelineConfig) -> Provider | None:
    if config.sorter.use_docker:
        return None
    try:
        return find_provider(config)
    except SorterNotInstalledError:
        return None
