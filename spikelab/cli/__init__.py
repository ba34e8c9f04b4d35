"""The command line: ``spikelab``. Nothing here is imported by the library."""

from __future__ import annotations


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    from spikelab.cli.app import build_app
    from spikelab.cli.completion import PROGRAM, get_ready
    from spikelab.cli.output import print_any_name

    print_any_name()
    get_ready()
    build_app()(prog_name=PROGRAM)
