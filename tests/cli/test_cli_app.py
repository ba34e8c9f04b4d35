"""The command line as a stranger meets it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from spikelab.cli.app import build_app

COMMANDS = [
    "clean",
    "compare",
    "completion",
    "demo",
    "doctor",
    "estimate",
    "multistream",
    "preflight",
    "report",
    "rt-sort-env",
    "sort",
    "status",
    "streams",
    "train-detector",
    "watch",
]
SETTINGS = ["diff", "init", "show"]
FORMATS = ["analyzer", "figures", "nwb", "phy", "pynapple"]


def test_help_lists_exactly_the_commands_there_are(spikelab):
    """Every command stands in the help with what it does, and nothing else does."""
    said = spikelab("--help").output
    names = (command.callback.__name__.replace("_", "-") for command in build_app().registered_commands)
    assert sorted(names) == COMMANDS
    for command in (*COMMANDS, "config", "export"):
        assert f" {command} " in said


def test_help_on_settings_lists_its_commands(spikelab):
    """config has commands of its own, and its help names them."""
    said = spikelab("config", "--help").output
    for command in SETTINGS:
        assert f" {command} " in said


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(f"config {name}" for name in SETTINGS), *(f"export {name}" for name in FORMATS)]
)
def test_every_command_explains_itself(spikelab, command):
    """A command's help begins with a sentence and exits with 0."""
    result = spikelab(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.output
    assert "<bool>" not in result.output


def test_help_fits_on_a_screen():
    """At 80 columns each command has one line, in groups, and all of them fit on a screen of 45 lines."""
    said = CliRunner(env={"COLUMNS": "80"}).invoke(build_app(), ["--help"]).output.splitlines()
    begun = [line.split()[1] for line in said if line.startswith("│ ")]
    assert sorted(set(begun) - {"--version", "--help"}) == sorted([*COMMANDS, "config", "export"])
    assert len(said) <= 45


def test_version_is_that_of_the_package(spikelab):
    """--version prints one line that names the installed version."""
    result = spikelab("--version")
    assert (result.exit_code, result.output) == (0, f"spikelab {version('spikelab')}\n")


def test_help_imports_nothing_heavy():
    """Asking for help loads no numerical package, so that it is instant."""
    program = """
import sys
from spikelab.cli import main
try:
    main()
except SystemExit:
    print([name for name in ("numpy", "spikeinterface", "torch", "h5py", "psutil", "pynvml") if name in sys.modules])
"""
    for command in ((), ("sort",), ("preflight",), ("status",), ("config", "init")):
        asked = [sys.executable, "-c", program, *command, "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_no_arguments_show_the_help(spikelab):
    """Who types only the name is shown what can follow."""
    assert "multistream" in spikelab().output


def test_a_mistyped_command_is_a_wrong_call(spikelab):
    """An unknown command exits with 2 and suggests the one that was meant."""
    result = spikelab("multistreem", "x")
    assert result.exit_code == 2
    assert "multistream" in result.output
