"""What the checks before a start have found, told so that one fault of twenty recordings is read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from spikelab.cli.output import counted, say, say_whole, short_path
from spikelab.spike_sorting.preflight import Finding
from spikelab.spike_sorting.preflight.findings import Level

LEVELS: Mapping[Level, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}
"""From the worst on, with their style."""

_THIS_MACHINE = "this machine"
_MOST_IN_HEADING = 2
"""Names; more than these are counted in the heading and have a line of their own."""
_ADVICE = "    what to do: "


@dataclass(frozen=True)
class Saying:
    """One message, and whom it concerns.

    Parameters
    ----------
    subjects : tuple of str
        Recordings by name, or this machine.
    message : str
        What was found; "*" stands for the name of each recording where they are several.
    """

    subjects: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Group:
    """Findings of one kind, for which the same is to be done.

    Parameters
    ----------
    level : {"error", "warning", "info"}
        How bad they are.
    code, advice : str
        Which kind, and what to do.
    sayings : tuple of Saying
        What was found.
    """

    level: Level
    code: str
    advice: str
    sayings: tuple[Saying, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All that it concerns, each once."""
        return tuple(dict.fromkeys(subject for saying in self.sayings for subject in saying.subjects))


def tell_findings(console: Console, findings: Sequence[Finding], n_recordings: int, *, most: int | None = None) -> None:
    """Print `findings`, the worst first.

    Parameters
    ----------
    console : Console
        Where they go.
    findings : sequence of Finding
        From the checks.
    n_recordings : int
        How many were checked: what concerns all of them need not name them.
    most : int or None, default None
        Names, and messages of one kind, after which the others are only counted.
    """
    for group in grouped(findings):
        for line in _lines(group, n_recordings, most):
            say(console, line)
        advice, *commands = group.advice.splitlines() or [""]
        if advice:
            say(console, Text(_ADVICE + advice))
        for command in commands:
            say_whole(console, f"        {command}")


def count_text(findings: Iterable[Finding]) -> str:
    """Return "1 error, 2 warnings"; empty where there is nothing."""
    levels = [finding.level for finding in findings]
    return ", ".join(_level_text(level, levels.count(level)) for level in LEVELS if level in levels)


def _level_text(level: Level, number: int) -> str:
    return f"{number} info" if level == "info" else counted(number, level)


# --------------------------------------------------------------------------------------------------- grouping


def grouped(findings: Sequence[Finding]) -> list[Group]:
    """Return the findings by kind and advice, the worst first, otherwise in their order."""
    names = _names(findings)
    kinds: dict[tuple[Level, str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.level, finding.code, finding.advice), []).append(finding)
    groups = [Group(*kind, _sayings(alike, names)) for kind, alike in kinds.items()]
    return sorted(groups, key=lambda group: list(LEVELS).index(group.level))


def _names(findings: Iterable[Finding]) -> dict[str | None, str]:
    """Return a name for each results folder: the recording's, or the folder where two recordings share a name."""
    subjects = {finding.results_folder: finding.subject for finding in findings}
    given = list(subjects.values())
    names = {folder: name if given.count(name) == 1 else short_path(folder or "") for folder, name in subjects.items()}
    return {**names, None: _THIS_MACHINE}


def _sayings(findings: Sequence[Finding], names: Mapping[str | None, str]) -> tuple[Saying, ...]:
    common: dict[str, list[Finding]] = {}
    for finding in findings:
        common.setdefault(_without_name(finding), []).append(finding)
    return tuple(_saying(shared, alike, names) for shared, alike in common.items())


def _saying(shared: str, findings: Sequence[Finding], names: Mapping[str | None, str]) -> Saying:
    subjects = tuple(dict.fromkeys(names[finding.results_folder] for finding in findings))
    is_same = len({finding.message for finding in findings}) == 1
    return Saying(subjects, findings[0].message if is_same else shared)


def _without_name(finding: Finding) -> str:
    """Return the message with "*" in place of the recording's name in paths."""
    if finding.results_folder is None:
        return finding.message
    return re.sub(rf"(?<=[/\\]){re.escape(finding.subject)}(?![\w-]|\.\w)", "*", finding.message)


# -------------------------------------------------------------------------------------------------- rendering


def _lines(group: Group, n_recordings: int, most: int | None) -> list[Text]:
    subjects = group.subjects
    is_one = all(saying.subjects == subjects for saying in group.sayings)
    named = is_one and len(subjects) <= _MOST_IN_HEADING
    who = ", ".join(subjects) if named else _how_many(subjects, n_recordings)
    heading = Text.assemble((f"{group.level:<7}", LEVELS[group.level]), f"  {who} ", (f"[{group.code}]", "dim"))
    lines = [heading]
    if is_one and not named and len(subjects) < n_recordings:
        lines.append(Text(f"    {_shortened(subjects, most)}"))
    for saying in group.sayings[:most]:
        whose = "" if is_one else f"{_shortened(saying.subjects, most)}: "
        lines.append(Text(f"    {whose}{saying.message}"))
    n_left = len(group.sayings[most:]) if most is not None else 0
    return [*lines, *([Text(f"    and {n_left} more; spikelab preflight tells all")] if n_left else [])]


def _how_many(subjects: Sequence[str], n_recordings: int) -> str:
    return f"all {n_recordings} recordings" if len(subjects) == n_recordings else f"{len(subjects)} recordings"


def _shortened(names: Sequence[str], most: int | None) -> str:
    n_left = len(names[most:]) if most is not None else 0
    return ", ".join(names[:most]) + (f" and {n_left} more" if n_left else "")
