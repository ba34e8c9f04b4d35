"""What every sorter looks like from outside: a description without state, over a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from spikelab.spike_sorting._exceptions import SorterCrashedError
from spikelab.spike_sorting._settings import FrozenMap
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SortJob:
    """What a sorter is given.

    Parameters
    ----------
    recording : BaseRecording
        What to sort.
    folder : Path
        Where the sorter writes its own files.
    run : RunFolder
        The run that it belongs to.
    config : SortingPipelineConfig
        All settings.
    progress : ProgressFile
        Where to say how far it is.
    """

    recording: Any
    folder: Path
    run: RunFolder
    config: SortingPipelineConfig
    progress: ProgressFile

    def recording_key(self) -> str:
        """Return what tells this recording, as it was loaded, from any other; empty where nothing was loaded."""
        marker = self.run.read_marker("load")
        return str(marker["key"]) if marker else ""


@dataclass(frozen=True)
class Sorting:
    """Spikes as the sorter reports them.

    Parameters
    ----------
    samples : ndarray of int64, shape (n_spikes,)
        Sample of each spike in the sorted recording, rising.
    units : ndarray of int64, shape (n_spikes,)
        Index into `unit_ids` of each spike.
    unit_ids : ndarray, shape (n_units,)
        The sorter's names of its units.
    unit_properties : mapping of str to list
        What the sorter says of each unit, one value per unit.
    """

    samples: NDArray[np.int64]
    units: NDArray[np.int64]
    unit_ids: NDArray[Any]
    unit_properties: Mapping[str, list[Any]]


@dataclass(frozen=True)
class Shortage:
    """Memory that a sorter ran out of.

    Parameters
    ----------
    of : {"gpu", "host"}
        Whose memory.
    step : str
        Step of the sorter, in its own words.
    factor : float
        How hard to shrink: 0.5 halves.
    extent_um : tuple of float
        Width and height of the array (um).
    asked : mapping
        Parameters of the sorter that the user asked for, before anything was made smaller.
    duration_s : float, default 0.0
        Length of the recording (s), where known.
    """

    of: Literal["gpu", "host"]
    step: str
    factor: float
    extent_um: tuple[float, float] = (0.0, 0.0)
    asked: Mapping[str, Any] = FrozenMap()
    duration_s: float = 0.0


@dataclass(frozen=True)
class Shrunk:
    """A configuration that needs less memory.

    Parameters
    ----------
    config : SortingPipelineConfig
        The configuration.
    changed : mapping
        The settings that differ, by name.
    changes_result : bool
        Whether the result may differ from that of the configuration that was asked for.
    """

    config: SortingPipelineConfig
    changed: Mapping[str, Any]
    changes_result: bool


class SorterBackend(Protocol):
    """A sorter: no state, everything is in the folder."""

    name: str

    def installed(self, config: SortingPipelineConfig) -> str | None:
        """Return the version that `config` would run, or None; quick, since it is asked for each recording."""
        ...

    def check_installed(self, config: SortingPipelineConfig) -> str:
        """Return that version; raise SorterNotInstalledError when it is missing or untested."""
        ...

    def check_params(self, config: SortingPipelineConfig) -> None:
        """Raise ValueError when a parameter of the sorter is unknown or has an impossible value."""
        ...

    def settings(self, config: SortingPipelineConfig) -> Mapping[str, Any]:
        """Return the settings that change what the sorter finds, as plain values."""
        ...

    def device(self, config: SortingPipelineConfig) -> str:
        """Return what it computes on: "cpu", "gpu", "cuda", "cuda:1", or "auto", a GPU where there is one.

        All but "cpu" have a GPU for themselves while they sort, where there is one, and wait for it; quick, and asked
        before the sorter is known to be installed.
        """
        ...

    def sort(self, job: SortJob) -> Mapping[str, Any] | None:
        """Sort ``job.recording`` and leave the sorter's files in ``job.folder``; return what to note, if anything."""
        ...

    def read(self, folder: Path, n_samples: int) -> Sorting:
        """Return the spikes in `folder`, validated; raise SorterCrashedError when files disagree."""
        ...

    def smaller(self, config: SortingPipelineConfig, shortage: Shortage) -> Shrunk | None:
        """Return a configuration that needs less of what ran out, or None when it cannot shrink further."""
        ...

    def environment(self, config: SortingPipelineConfig) -> Mapping[str, str]:
        """Return environment variables that its worker needs."""
        ...


def check_sorting(sorting: Sorting, n_samples: int, sorter: str) -> Sorting:
    """Return `sorting`, or raise SorterCrashedError when its arrays disagree with each other or the recording."""
    import numpy as np

    problems = []
    if sorting.samples.shape != sorting.units.shape:
        problems.append(f"{sorting.samples.size} spike times but {sorting.units.size} labels")
    if sorting.samples.size and np.any(np.diff(sorting.samples) < 0):
        problems.append("spike times are not in order")
    if sorting.samples.size and not (sorting.samples[0] >= 0 and sorting.samples[-1] < n_samples):
        problems.append(f"spikes lie outside the recording of {n_samples} samples")
    if sorting.units.size and not (sorting.units.min() >= 0 and sorting.units.max() < sorting.unit_ids.size):
        problems.append("labels of units that do not exist")
    problems += [
        f"{len(values)} values of {name} for {sorting.unit_ids.size} units"
        for name, values in sorting.unit_properties.items()
        if len(values) != sorting.unit_ids.size
    ]
    if problems:
        msg = f"{sorter} left files that disagree: {'; '.join(problems)}"
        raise SorterCrashedError(msg, sorter=sorter)
    return sorting
