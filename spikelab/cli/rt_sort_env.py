"""``spikelab rt-sort-env``: the environment in which RT-Sort runs."""

from __future__ import annotations

import shlex
from pathlib import Path

from spikelab.cli.config_file import toml_value
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole


def build(folder: Path) -> int:
    """Build and check the environment, say how to use it, and return the exit code."""
    from spikelab.spike_sorting.backends.rt_sort.environment import build_environment

    console = make_console()
    say(console, f"RT-Sort needs an environment of its own: about 1.4 GB in {folder}, and minutes to fill it.")
    try:
        with console.status("Beginning") as status:
            provider = build_environment(folder, status.update)
    except FileExistsError as error:
        raise UsageProblem(str(error), "Name a folder that does not exist yet.") from error
    say(console, f"RT-Sort is ready, in the package {provider} of {folder}. Put this into your configuration:")
    say_whole(console, f"\n[rt_sort]\npython = {toml_value(provider.python)}\n")
    say(console, "or give it to one sort:")
    option = shlex.quote(f"rt_sort_python={provider.python}")
    say_whole(console, f"\n    spikelab sort FILE --sorter rt_sort --set {option}")
    return ExitCode.DONE
