"""The commands below ``spikelab export``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from spikelab.cli.commands import Command, Group
from spikelab.cli.options import AsJson, FigureFormat, Folders
from spikelab.cli.output import exit_codes

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", file_okay=False, help="Goes there, not into the results folder."),
]
AllUnits = Annotated[
    bool, typer.Option("--all-units", metavar="", help="All units of the sorter, not only those that curation kept.")
]


def build_export_app() -> typer.Typer:
    """Return the group of commands that write results for other programs."""
    app = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        short_help="Write results for Phy, NWB, pynapple, SpikeInterface.",
        help=(
            "Write results for other programs, into the results folder or below --out. Whatever is there already is "
            "left alone."
        ),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (phy, nwb, pynapple, analyzer, figures):
        app.command(cls=Command)(command)
    return app


@exit_codes()
def phy(folders: Folders, out: Out = None, all_units: AllUnits = False, as_json: AsJson = False) -> None:
    """Write NAME_phy, a folder that Phy opens.

    Open it with: phy template-gui NAME_phy/params.py

    With the recording where it was kept (--set keep_binary=true); without it Phy shows no traces.
    """
    from spikelab.cli.export import Request, export
    from spikelab.cli.exporters import to_phy

    raise typer.Exit(export(folders, Request("_phy", to_phy, out, all_units, as_json)))


@exit_codes()
def nwb(
    folders: Folders,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--start",
            metavar="TIME",
            parser=datetime.fromisoformat,
            help="When the recording began, such as 2026-05-17T14:30; in local time, unless it ends in +02:00.",
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="KEY=VALUE",
            help="About the subject: subject_id, species, sex, age, ...; may be repeated. Archives ask for these four.",
        ),
    ] = None,
    location: Annotated[
        str, typer.Option("--location", metavar="TEXT", help="Brain area, or kind of culture.")
    ] = "unknown",
    out: Out = None,
    all_units: AllUnits = False,
    as_json: AsJson = False,
) -> None:
    """Write NAME.nwb: units, templates and electrodes."""
    from spikelab.cli.export import Request, export
    from spikelab.cli.exporters import nwb_writer

    writer = nwb_writer(start, subject or (), location)
    raise typer.Exit(export(folders, Request(".nwb", writer, out, all_units, as_json)))


@exit_codes()
def pynapple(folders: Folders, out: Out = None, all_units: AllUnits = False, as_json: AsJson = False) -> None:
    """Write NAME_pynapple.npz, a TsGroup of pynapple.

    Open it with: pynapple.load_file("NAME_pynapple.npz")
    """
    from spikelab.cli.export import Request, export
    from spikelab.cli.exporters import to_pynapple

    raise typer.Exit(export(folders, Request("_pynapple.npz", to_pynapple, out, all_units, as_json)))


@exit_codes()
def analyzer(folders: Folders, out: Out = None, all_units: AllUnits = False, as_json: AsJson = False) -> None:
    """Write NAME_analyzer, a SortingAnalyzer of SpikeInterface.

    Open it with: sigui NAME_analyzer (spikeinterface-gui), or spikeinterface.load_sorting_analyzer in Python.

    The recording is not copied, and is read from where it lies.
    """
    from spikelab.cli.export import Request, export
    from spikelab.cli.exporters import to_analyzer

    raise typer.Exit(export(folders, Request("_analyzer", to_analyzer, out, all_units, as_json)))


@exit_codes()
def figures(
    folders: Folders,
    kind: Annotated[FigureFormat, typer.Option("--format", help="Kind of file.")] = FigureFormat.PNG,
    out: Out = None,
    all_units: AllUnits = False,
    as_json: AsJson = False,
) -> None:
    """Write NAME_figures: each unit, all places, all spikes."""
    from spikelab.cli.export import Request, export
    from spikelab.cli.exporters import figure_writer

    raise typer.Exit(export(folders, Request("_figures", figure_writer(kind.value), out, all_units, as_json)))
