"""SpikeInterface's analyzer of a finished sort, for its viewers and tools."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from spikelab.spike_sorting.api import load_results
from spikelab.spike_sorting.backends.binary import job_kwargs
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.descriptions import without_downloads
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages.waveforms import extensions
from spikelab.spike_sorting.state import run_of
from spikelab.spike_sorting.supervision.publish import publish_folder

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData

VIEWED: Mapping[str, Mapping[str, Any]] = {
    "correlograms": {},
    "isi_histograms": {},
    "template_similarity": {"method": "cosine"},
}
"""What viewers show besides what every sort computes."""


def export_analyzer(results: str | Path, folder: str | Path, *, all_units: bool = False) -> Path:
    """Write a SpikeInterface ``SortingAnalyzer`` of a finished sort, with what viewers show; whole or not at all.

    Units, templates, amplitudes, locations and metrics are those of the sort; correlograms, histograms of intervals and
    similarities of templates are added. The traces are not copied: they are filtered as they are read from the
    recording.

    Parameters
    ----------
    results : path
        Results folder of one recording, whose intermediate files are still there.
    folder : path
        A folder that is not there yet.
    all_units : bool, default False
        All units of the sorter, not only those that passed curation.

    Returns
    -------
    Path
        The folder, which ``spikeinterface.load_sorting_analyzer`` reads.

    Raises
    ------
    FileNotFoundError
        There is no finished sort, or its intermediate files are gone, also where another sort has used their folder.
    FileExistsError
        The folder is there already.
    ValueError
        No unit passed curation.

    Examples
    --------
    >>> export_analyzer("sorted_kilosort4/a.raw.h5", "a_analyzer")  # doctest: +SKIP
    PosixPath('a_analyzer')
    """
    run, folder = run_of(results), Path(folder).expanduser().absolute()
    if folder.exists():
        msg = f"{folder} is there already; remove it, or choose another folder"
        raise FileExistsError(msg)
    sd = load_results(run.results)
    whole = _analyzer_of(run, sd)
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            # Of the sorting, which is in the folder as a whole.
            warnings.filterwarnings("ignore", "The extractor is not serializable", UserWarning)
            chosen = whole.save_as("binary_folder", partial) if all_units else _curated(whole, sd, run, partial)
            chosen.compute({name: dict(options) for name, options in VIEWED.items()})
        publish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _analyzer_of(run: RunFolder, sd: SpikeData) -> Any:
    from spikeinterface import load_sorting_analyzer

    if not run.analyzer.is_dir():
        msg = (
            f"the analyzer {run.analyzer} of {run.results} is gone with the intermediate files; "
            "sort again, without delete_inter"
        )
        raise FileNotFoundError(msg)
    if not run.still_has_sort(sd.metadata.get("config_digest")):
        msg = (
            f"{run.inter} was used for another sort since, and its analyzer is not that of {run.results}; "
            "sort again, with an intermediate folder of its own"
        )
        raise FileNotFoundError(msg)
    analyzer = load_sorting_analyzer(run.analyzer)
    if analyzer.has_recording():
        without_downloads(analyzer.recording)
    return analyzer


def _curated(whole: Any, sd: SpikeData, run: RunFolder, folder: Path) -> Any:
    """Return the units that passed curation as an analyzer in `folder`; those that were merged are measured again."""
    if not sd.N:
        msg = f"no unit of {run.results} passed curation; all_units gives those of the sorter"
        raise ValueError(msg)
    if any("merged_from" in unit for unit in sd.neuron_attributes):
        return _measured(whole, sd, run, folder)
    return whole.select_units(_ids_in(whole, sd), format="binary_folder", folder=folder)


def _ids_in(whole: Any, sd: SpikeData) -> Sequence[Any]:
    """Return the units as the analyzer names them: a file may have turned a number into a text."""
    named = {str(unit_id): unit_id for unit_id in whole.unit_ids}
    return [named[str(unit["unit_id"])] for unit in sd.neuron_attributes]


def _measured(whole: Any, sd: SpikeData, run: RunFolder, folder: Path) -> Any:
    from spikeinterface.core import create_sorting_analyzer

    if not whole.has_recording():
        msg = f"units of {run.results} were merged, and to measure them the recording is needed, which is gone"
        raise FileNotFoundError(msg)
    used = json.loads(run.config_used.read_text(encoding="utf-8"))
    config = SortingPipelineConfig.from_dict(used["config"])
    jobs = job_kwargs(config.execution, whole.recording)
    analyzer = create_sorting_analyzer(
        sd.to_sorting(),
        whole.recording,
        format="binary_folder",
        folder=folder,
        sparse=False,
        return_in_uV=True,
        seed=config.execution.random_seed,
        job_kwargs=jobs,
    )
    analyzer.compute(extensions(config), **jobs)
    return analyzer
