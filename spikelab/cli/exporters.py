"""What ``spikelab export`` writes: one function for each format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from spikelab._publish import published
from spikelab.cli.export import Writer
from spikelab.cli.output import UsageProblem
from spikelab.spike_sorting.analyzers import export_analyzer
from spikelab.spike_sorting.api import load_results
from spikelab.spike_sorting.config import FigureConfig
from spikelab.spike_sorting.report.units import load_raw
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages.unit_figures import write_unit_figures
from spikelab.spike_sorting.state import run_of

if TYPE_CHECKING:
    from spikelab.spikedata import SpikeData


def units_of(results: Path, all_units: bool) -> SpikeData:
    """Return the units that passed curation, or all of the sorter.

    Raises
    ------
    FileNotFoundError
        There is no finished sort, or nothing is left of the units that were removed.
    """
    run, curated = run_of(results), load_results(results)
    if not all_units:
        return curated
    if (raw := load_raw(run, curated)) is not None:
        return raw
    msg = f"the units that curation removed are gone from {run.inter}; --set save_raw_pkl=true keeps them"
    raise FileNotFoundError(msg)


def to_phy(results: Path, target: Path, all_units: bool) -> None:
    """Write a folder for Phy, with the traces where a copy of them was kept."""
    sd = units_of(results, all_units)
    sd.to_phy(target, **_traces(run_of(results), sd))


def _traces(run: RunFolder, sd: SpikeData) -> dict[str, Any]:
    import numpy as np

    params = run.sorter_output / "params.py"
    if not run.binary.is_file() or not params.is_file() or not run.still_has_sort(sd.metadata.get("config_digest")):
        return {}
    from spikelab.spikedata._phy_files import read_params

    known = read_params(params)
    return {
        "dat_path": run.binary,
        "n_channels_dat": int(known["n_channels_dat"]),
        "dtype": np.dtype(known["dtype"]).name,
    }


def to_pynapple(results: Path, target: Path, all_units: bool) -> None:
    """Write a TsGroup as pynapple saves it."""
    group = units_of(results, all_units).to_pynapple()
    with TemporaryDirectory(prefix="spikelab_") as folder:
        saved = Path(folder) / "group.npz"  # pynapple adds that ending where it is not there
        group.save(str(saved))
        with published(target) as partial:
            shutil.copyfile(saved, partial)


def to_analyzer(results: Path, target: Path, all_units: bool) -> None:
    """Write a SortingAnalyzer with what viewers show."""
    export_analyzer(results, target, all_units=all_units)


def nwb_writer(start: datetime | None, subject: Sequence[str], location: str) -> Writer:
    """Return what writes an NWB file of a session that began at `start`, with a `subject` of ``key=value`` texts."""
    began = start.astimezone() if start is not None and start.tzinfo is None else start
    pairs = dict(_pair(text) for text in subject)

    def write(results: Path, target: Path, all_units: bool) -> None:
        sd = units_of(results, all_units)
        if began is None and "session_start_time" not in sd.metadata:
            msg = "NWB needs to know when the recording began"
            raise UsageProblem(msg, "Give it, such as --start 2026-05-17T14:30")
        try:
            sd.to_nwb(target, session_start_time=began, subject=pairs or None, location=location)
        except TypeError as error:
            msg = f"--subject: {error}"
            raise UsageProblem(
                msg, "For example --subject subject_id=r1 --subject species='Rattus norvegicus'"
            ) from error

    return write


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        msg = f"--subject takes key=value, got {text!r}"
        raise UsageProblem(msg, "For example --subject subject_id=r1, once for each.")
    return key.strip(), value.strip()


def figure_writer(kind: str) -> Writer:
    """Return what draws all units, and each by itself, into files of this `kind`."""

    def write(results: Path, target: Path, all_units: bool) -> None:
        from spikelab.spikedata.plots import plot_raster, plot_unit_locations
        from spikelab.spikedata.plots._canvas import figure_of

        sd = units_of(results, all_units)
        if not sd.N:
            msg = f"no unit of {results} passed curation; --all-units draws those of the sorter"
            raise ValueError(msg)
        options = replace(FigureConfig(), figure_format=kind)  # type: ignore[arg-type]
        with TemporaryDirectory(prefix=".spikelab_", dir=target.parent) as folder:
            drawn = Path(folder) / target.name
            write_unit_figures(sd, drawn, options)
            for name, draw in (("units", plot_unit_locations), ("raster", plot_raster)):
                figure_of(draw(sd)).savefig(drawn / f"{name}.{kind}", dpi=options.dpi)
            drawn.rename(target)

    return write
