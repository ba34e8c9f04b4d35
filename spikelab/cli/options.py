"""Options that several commands take: their names, types and help."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class OnError(str, Enum):
    """What the first failed recording means for the others."""

    RAISE = "raise"
    CONTINUE = "continue"


class Probe(str, Enum):
    """Kinds of probes that detection models are for."""

    MEA = "mea"
    NEUROPIXELS = "neuropixels"


class FigureFormat(str, Enum):
    """Kinds of files of figures."""

    PNG = "png"
    SVG = "svg"


class Shell(str, Enum):
    """Shells whose Tab key can complete commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def _sorters(typed: str) -> list[str]:
    """Return the sorters whose names begin with what is `typed`."""
    from spikelab.spike_sorting.config import available_sorters

    return [name for name in available_sorters() if name.startswith(typed)]


def _settings(typed: str) -> list[str]:
    """Return the settings whose names begin with what is `typed`."""
    from spikelab.spike_sorting.config import flat_settings

    return [f"{name}=" for name in flat_settings() if name.startswith(typed)]


Recording = Annotated[Path, typer.Argument(exists=True, help="Recording: a file or a folder.")]
Recordings = Annotated[list[Path], typer.Argument(exists=True, help="Recordings, or folders of recordings.")]
Folders = Annotated[
    list[Path],
    typer.Argument(exists=True, file_okay=False, help="Results folders of spikelab, or folders above them."),
]
DoctorFolders = Annotated[
    list[Path] | None,
    typer.Argument(exists=True, file_okay=False, help="Folders with sorts.  (default: the current one)"),
]
Sorter = Annotated[
    str | None,
    typer.Option(
        "--sorter", metavar="NAME", autocompletion=_sorters, help="Sorter, for its preset.  (default: kilosort4)"
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", exists=True, dir_okay=False, help="Settings in a TOML file.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", autocompletion=_settings, help="One setting, such as snr_min=6; may be repeated."
    ),
]
Results = Annotated[
    Path | None,
    typer.Option("--results", metavar="DIR", file_okay=False, help="Results go to DIR/NAME, not beside the recording."),
]
Intermediate = Annotated[
    Path | None,
    typer.Option("--intermediate", metavar="DIR", file_okay=False, help="Intermediate files go to DIR/NAME."),
]
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="What the first failure means for the other recordings.")
]
UnusedOnError = Annotated[OnError, typer.Option("--on-error", hidden=True)]
"""Taken where it means nothing, so that the options of a sort fit."""
Parallel = Annotated[
    int | None,
    typer.Option("--parallel", metavar="N", min=1, help="Recordings in flight at once.  (default: GPUs + 1)"),
]
Cluster = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Sort on the machines that this TOML file describes: [slurm], [dask] or [local].",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", metavar="", help="Say what would be sorted, what that takes and what speaks against it; no more."
    ),
]
CleanDryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Say what would go, and remove nothing.")]
AsJson = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON document; messages go to standard error.")
]
