"""Kilosort2 as a backend: MATLAB as a child of the worker, on files that SpikeInterface writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import SorterNotInstalledError
from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.base import Shortage, Shrunk, Sorting, SortJob
from spikelab.spike_sorting.backends.binary import FlatBinary, flat_binary
from spikelab.spike_sorting.backends.containers.images import container_settings
from spikelab.spike_sorting.backends.kilosort2 import launch
from spikelab.spike_sorting.backends.kilosort2.installation import find_installation
from spikelab.spike_sorting.backends.kilosort2.parameters import (
    PARAMETERS,
    batch_step,
    check_parameters,
    smaller_batch,
)
from spikelab.spike_sorting.backends.kilosort2.results import N_CHANNELS, read_results
from spikelab.spike_sorting.config import SortingPipelineConfig

_GOOD_ONLY = "only_good"
"""File that says, to whoever reads the folder, that only good units were asked for."""


class Kilosort2Backend:
    """Kilosort2 in MATLAB, or compiled."""

    name = "kilosort2"

    def installed(self, config: SortingPipelineConfig) -> str | None:
        """Return the commit of Kilosort2's code, "compiled" or "unknown"; None where it is not here."""
        try:
            return find_installation(config.sorter).version
        except SorterNotInstalledError:
            return None

    def check_installed(self, config: SortingPipelineConfig) -> str:
        """Return that version; raise SorterNotInstalledError when MATLAB or Kilosort2 is missing."""
        return find_installation(config.sorter).version

    def check_params(self, config: SortingPipelineConfig) -> None:
        """Raise ValueError when a parameter is unknown, of the wrong type or out of its range."""
        check_parameters(config.sorter.sorter_params)

    def settings(self, config: SortingPipelineConfig) -> Mapping[str, Any]:
        """Return what changes the spikes: parameters, pass band, and the version."""
        return {
            "params": thaw(config.sorter.sorter_params),
            "freq_min": config.recording.freq_min,
            "version": self.installed(config),
            **container_settings(config),
        }

    def device(self, config: SortingPipelineConfig) -> str:  # noqa: ARG002 - asked of every sorter
        """Return "gpu": MATLAB takes one."""
        return "gpu"

    def sort(self, job: SortJob) -> Mapping[str, Any]:
        """Sort ``job.recording`` and leave Kilosort2's files for Phy in ``job.folder``."""
        given = job.config.sorter.sorter_params
        params = {**_defaults(), "freq_min": job.config.recording.freq_min, **given}
        installation = find_installation(job.config.sorter)
        binary = flat_binary(job, job.recording_key(), dtypes=("int16",))
        launch.write_inputs(
            job.recording, params, job.folder, binary.path, with_scripts=installation.folder is not None
        )
        image: dict[str, Any] = {}
        execute = partial(_in_container, job, binary, image) if job.config.sorter.use_docker else None
        launch.run(installation, job.folder, job.progress, execute)
        (job.folder / N_CHANNELS).write_text(f"{job.recording.get_num_channels()}\n", encoding="utf-8")
        _tidy(job.folder, keep_rez=bool(params["save_rez_to_mat"]))
        if params["keep_good_only"]:
            (job.folder / _GOOD_ONLY).touch()
        return {
            **image,
            "batch_samples": batch_step(params),
            "warnings": [told.to_dict() for told in binary.remarks()],
        }

    def read(self, folder: Path, n_samples: int) -> Sorting:
        """Return the spikes in `folder`, validated."""
        return read_results(folder, n_samples, good_only=(folder / _GOOD_ONLY).exists())

    def smaller(self, config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
        """Return a configuration with shorter batches, or None when they cannot shrink further."""
        then = smaller_batch(config.sorter.sorter_params, shortage.factor)
        if then is None:
            return None
        params = {**config.sorter.sorter_params, "NT": then}
        return Shrunk(config.override(kilosort_params=params), {"NT": then}, changes_result=True)

    def environment(self, config: SortingPipelineConfig) -> Mapping[str, str]:  # noqa: ARG002 - asked of every sorter
        """Return nothing: MATLAB needs no variable of its own."""
        return {}


def _in_container(
    job: SortJob, binary: FlatBinary, image: dict[str, Any], command: list[str], take: Callable[[str], None]
) -> tuple[int, tuple[str, ...]]:
    """Run the compiled Kilosort2 of an image; put the image into `image`."""
    from spikelab.spike_sorting.backends.containers.running import run_contained

    def on_line(line: str) -> bool:
        take(line)
        return False

    ran = run_contained(job, command, reads=(binary.path,), on_line=on_line)
    image["image"] = ran.image.to_dict()
    return ran.exit_code, ran.tail


def _defaults() -> dict[str, Any]:
    """Return what SpikeInterface takes besides our parameters, and the parameters' own defaults."""
    return {
        **{name: parameter.default for name, parameter in PARAMETERS.items()},
        "skip_kilosort_preprocessing": False,
    }


def _tidy(folder: Path, *, keep_rez: bool) -> None:
    """Remove what Kilosort2 worked with: scripts, options, and the whitened copy, as large as the recording."""
    for pattern in ("*.m", "*.mat", "temp_wh.dat"):
        for path in folder.glob(pattern):
            if not (keep_rez and path.name == "rez.mat"):
                path.unlink()
