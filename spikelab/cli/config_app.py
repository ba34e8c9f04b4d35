"""The commands below ``spikelab config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikelab.cli.commands import Command, Group
from spikelab.cli.options import AsJson, Assignments, ConfigFile, Sorter
from spikelab.cli.output import exit_codes


def build_config_app() -> typer.Typer:
    """Return the group of commands about settings."""
    app = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        short_help="Show, compare, or begin a file of settings.",
        help="Show the settings, compare a file of them with the preset, or begin such a file.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (show, diff, init):
        app.command(cls=Command)(command)
    return app


@exit_codes()
def show(
    file: Annotated[
        Path | None, typer.Argument(exists=True, help="A recording: also what Kilosort4 gets for it, and why.")
    ] = None,
    sorter: Sorter = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Print all settings that a sort with these options has, as TOML."""
    from spikelab.cli.config_commands import show_config
    from spikelab.cli.settings import read_config

    raise typer.Exit(show_config(read_config(sorter, config, assignments or ()), file, as_json=as_json))


@exit_codes()
def diff(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Settings in a TOML file.")],
    as_json: AsJson = False,
) -> None:
    """Print the settings in which a file differs from the preset of its sorter."""
    from spikelab.cli.config_commands import diff_config

    raise typer.Exit(diff_config(file, as_json=as_json))


@exit_codes()
def init(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="File to write, such as lab.toml.")],
    sorter: Sorter = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace a file that is there.")] = False,
) -> None:
    """Write a file with all settings of a preset, each with what it means, to begin with."""
    from spikelab.cli.config_commands import init_config

    raise typer.Exit(init_config(file, sorter, force=force))
