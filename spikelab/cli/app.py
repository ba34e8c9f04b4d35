"""The commands: what they are called, what they take, and which function does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from spikelab.cli.output import exit_codes, make_console, say

SORTING, LOOKING, SETTING_UP = "Sort", "Look", "Begin here"


def build_app() -> typer.Typer:
    """Return the command line with all its commands."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(spikelab)
    for panel, commands in (
        (SETTING_UP, (doctor, demo)),
        (SORTING, (sort, multistream)),
        (LOOKING, (streams, report)),
    ):
        for command in commands:
            app.command(rich_help_panel=panel)(command)
    return app
