"""Completion of commands by the shell, as typer has it."""

from __future__ import annotations

import os

PROGRAM = "spikelab"
_ASKED = "_SPIKELAB_COMPLETE"
"""Variable in which the shell says what it wants to know."""


def script(shell: str) -> str:
    """Return what the `shell` ("bash", "zsh" or "fish") runs at its start."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # there in all versions

    return get_completion_script(prog_name=PROGRAM, complete_var=_ASKED, shell=shell)


def get_ready() -> None:
    """Have typer answer the shell, where it is the shell that asks."""
    if _ASKED in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined] # there in all versions

        completion_init()
