"""``spikelab export``: results for other programs, each beside the results or in one folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole, short_path, tell_problem
from spikelab.cli.results import find_results

Writer = Callable[[Path, Path, bool], None]
"""Takes a results folder, what to write, and whether all units are meant."""


@dataclass(frozen=True)
class Request:
    """What is written, and where.

    Parameters
    ----------
    suffix : str
        What follows the name of a recording.
    write : callable
        Writes one.
    out : Path or None
        Where to; None means into each results folder.
    all_units : bool
        Also those that curation removed.
    as_json : bool
        One JSON document on standard output.
    """

    suffix: str
    write: Writer
    out: Path | None
    all_units: bool
    as_json: bool


def export(folders: Sequence[Path], request: Request) -> int:
    """Write what `request` names for every results folder in or below `folders`; return the exit code.

    Raises
    ------
    UsageProblem
        There are no results, two would have one name, or something is there already; nothing has been written.
    """
    targets = _targets(find_results(folders), request)
    console = make_console(stderr=request.as_json)
    written: dict[str, str] = {}
    problems: dict[str, str] = {}
    try:
        for results, target in targets.items():
            if (problem := _problem_of(request, results, target)) is None:
                written[str(results)] = str(target)
                say(console, short_path(target))
            else:
                problems[str(results)] = problem
                say(console, Text.assemble(f"{short_path(results)}: ", (f"not exported: {problem}", "red")))
    except ImportError as error:
        tell_problem("This machine is not ready", str(error))
        return ExitCode.ENVIRONMENT
    if request.as_json:
        say_whole(make_console(), json.dumps({"exported": written, "failed": problems}, indent=2))
    return ExitCode.SOME_FAILED if problems else ExitCode.DONE


def _problem_of(request: Request, results: Path, target: Path) -> str | None:
    """Write one, and return why that could not be done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        request.write(results, target, request.all_units)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _targets(results: Sequence[Path], request: Request) -> Mapping[Path, Path]:
    targets: dict[Path, Path] = {}
    for folder in results:
        target = (folder if request.out is None else request.out.absolute()) / f"{folder.name}{request.suffix}"
        if target in targets.values():
            msg = f"several results are named {folder.name}, and would all become {target}"
            raise UsageProblem(msg, "Export them with several commands that name several folders, or without --out.")
        if target.exists():
            msg = f"{target} is there already"
            raise UsageProblem(msg, "Remove it, or name another folder with --out.")
        targets[folder] = target
    return targets
