"""``spikelab config show``, ``diff`` and ``init``: settings as a file, and as they come out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spikelab.cli.config_file import to_toml, toml_value
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole, short_path
from spikelab.cli.planning import Places, plan_all_streams
from spikelab.cli.settings import differences, read_config, read_settings
from spikelab.spike_sorting.backends.kilosort4.backend import recommended
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.stages.load import build_recording
from spikelab.spike_sorting.supervision.publish import publish_text


def show_config(config: SortingPipelineConfig, recording: Path | None, *, as_json: bool) -> int:
    """Print all settings, and those that `recording` gets in addition; return the exit code."""
    console = make_console()
    chosen = None if recording is None else _chosen_settings(config, recording)
    if as_json:
        document = config.to_dict() if chosen is None else {"settings": config.to_dict(), "chosen": chosen}
        say_whole(console, json.dumps(document, indent=2, allow_nan=False))
        return ExitCode.DONE
    say_whole(console, to_toml(config, with_docs=False).rstrip("\n"))
    for name, advice in (chosen or {}).items():
        for line in _advice_lines(name, advice):
            say_whole(console, line)
    return ExitCode.DONE


def _chosen_settings(config: SortingPipelineConfig, file: Path) -> dict[str, Any]:
    """Return the settings that the sorter gets for each recording or stream of `file`, with the reasons."""
    if config.sorter.sorter_name != "kilosort4":
        msg = f"settings are chosen for Kilosort4 alone, and the sorter is {config.sorter.sorter_name!r}"
        raise UsageProblem(msg, "Leave the recording out to see the settings of this sorter.")
    jobs = plan_all_streams([file], config, Places())
    found = {job.name: recommended(job.config, build_recording(job)[0]) for job in jobs}
    return {
        name: {"recommended": advice.to_list(), "warnings": list(advice.warnings)} for name, advice in found.items()
    }


def _advice_lines(name: str, advice: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is chosen for one recording, as comments of TOML: the whole output stays a file of settings."""
    yield f"\n# kilosort_params chosen for {name}, where none are given:"
    for one in advice["recommended"]:
        yield f"#   {one['name']} = {toml_value(one['value'])}  # {one['reason']}"
    if not advice["recommended"]:
        yield "#   none: Kilosort4's own defaults"
    for warning in advice["warnings"]:
        yield f"# Note: {warning}"


def diff_config(file: Path, *, as_json: bool) -> int:
    """Print the settings in which `file` differs from the preset of its sorter, and return the exit code."""
    config, console = read_config(None, file, ()), make_console()
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
