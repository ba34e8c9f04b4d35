"""``spikelab config show``, ``diff`` and ``init``: settings as a file, and as they come out."""

from __future__ import annotations

import json
from pathlib import Path

from spikelab.cli.config_file import to_toml, toml_value
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole, short_path
from spikelab.cli.settings import differences, read_settings
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.supervision.publish import publish_text


def show_config(config: SortingPipelineConfig, *, as_json: bool) -> int:
    """Print all settings, and return the exit code."""
    text = json.dumps(config.to_dict(), indent=2, allow_nan=False) if as_json else to_toml(config, with_docs=False)
    say_whole(make_console(), text.rstrip("\n"))
    return ExitCode.DONE


def diff_config(file: Path, *, as_json: bool) -> int:
    """Print the settings in which `file` differs from the preset of its sorter, and return the exit code."""
    config, console = read_settings(None, file, ()), make_console()
    changed, sorter = differences(config), config.sorter.sorter_name
    if as_json:
        settings = {name: {"value": value, "preset": preset} for name, (value, preset) in changed.items()}
        say_whole(console, json.dumps({"sorter": sorter, "settings": settings}, indent=2, allow_nan=False))
        return ExitCode.DONE
    if not changed:
        say(console, f"No difference: {short_path(file)} has the settings of the preset {sorter!r}.")
    for name, (value, preset) in changed.items():
        say_whole(console, f"{name} = {toml_value(value)}  # preset {sorter!r}: {toml_value(preset)}")
    return ExitCode.DONE


def init_config(file: Path, sorter: str | None, *, force: bool) -> int:
    """Write all settings of the preset of `sorter` with what they mean to `file`, and return the exit code."""
    config = read_settings(sorter, None, ())
    if file.exists() and not force:
        msg = f"{file} is there already"
        raise UsageProblem(msg, "Choose another name, or give --force to replace it.")
    try:
        publish_text(file.absolute(), to_toml(config, with_docs=True))
    except OSError as error:
        msg = f"{file} cannot be written: {error.strerror}"
        raise UsageProblem(msg, "Name a file in a folder that is there and that you may write to.") from error
    console = make_console()
    say(console, f"Wrote {short_path(file)}: all settings of the preset {config.sorter.sorter_name!r}, explained.")
    say_whole(console, f"Change what you need, then: spikelab sort FILES --config {short_path(file)}")
    return ExitCode.DONE
