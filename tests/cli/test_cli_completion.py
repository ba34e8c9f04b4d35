"""``spikelab completion``: what the Tab key offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

ASK = r"""
eval "$(spikelab completion bash)"
offered() {
  COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
  "$(complete -p spikelab | sed 's/.* -F \([^ ]*\) .*/\1/')" spikelab "${COMP_WORDS[COMP_CWORD]}"
  echo "${COMPREPLY[@]}"
}
offered spikelab s
offered spikelab export ""
offered spikelab sort --pa
offered spikelab sort --sorter kilosort4 --set snr
offered spikelab sort reco
complete -p spikelab
"""


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds the command."""
    command = tmp_path / "spikelab"
    command.write_text(f"#!{sys.executable}\nfrom spikelab.cli import main\nmain()\n")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_settings_and_files(on_path):
    """In a real bash, Tab offers commands, options, names of settings, and files where a recording is meant."""
    run = ["bash", "--norc", "-eu", "-c", ASK]
    said = subprocess.run(run, env=on_path, capture_output=True, text=True, check=True).stdout.splitlines()
    commands, formats, options, settings, files, registered = said
    assert commands.split() == ["sort", "streams", "status"]
    assert formats.split() == ["phy", "nwb", "pynapple", "analyzer", "figures"]
    assert options.split() == ["--parallel"]
    assert settings.split() == ["snr_min="]
    assert files == ""  # then bash offers files
    assert "-o default" in registered


@pytest.mark.parametrize(
    "shell, question, answer",
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "spikelab so"}, '"sort"'),
        ("fish", {"_TYPER_COMPLETE_ARGS": "spikelab so", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "sort\t"),
    ],
)
def test_other_shells_ask_and_are_answered(spikelab, on_path, shell, question, answer):
    """The script of zsh and of fish asks with a variable, and what is said to that has the command and its help."""
    assert "_SPIKELAB_COMPLETE=complete_" + shell in spikelab("completion", shell).stdout
    asked = {**on_path, "_SPIKELAB_COMPLETE": f"complete_{shell}", **question}
    said = subprocess.run(["spikelab"], env=asked, capture_output=True, text=True, check=True).stdout
    assert answer in said
    assert "Sort recordings" in said


def test_an_unknown_shell_is_a_wrong_call(spikelab):
    """The shells that there are, are listed."""
    result = spikelab("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output
