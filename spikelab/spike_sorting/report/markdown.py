"""The report as a short note in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from spikelab.spike_sorting.report import wording
from spikelab.spike_sorting.report.facts import Facts
from spikelab.spike_sorting.report.wording import duration, number


def to_markdown(facts: Facts) -> str:
    """Return the note: verdict first, then what explains it."""
    sections = [section.rstrip() for section in _sections(facts) if section.strip()]
    return "\n\n".join(sections) + "\n"


def _sections(facts: Facts) -> Iterator[str]:
    yield f"# Sorting report: {inline(facts.result.rec_name)}"
    yield f"**{inline(wording.verdict(facts))}**"
    yield inline(wording.explanation(facts))
    if facts.result.advice:
        yield f"**What to do:** {inline(facts.result.advice)}"
    yield _bullets("Look at this", [str(one) for one in facts.suspicions])
    yield _bullets("Warnings", [str(one) for one in facts.warnings])
    if not facts.result.succeeded:
        yield from _failure(facts)
    yield table("Recording and run", ("", ""), wording.fact_rows(facts))
    yield table("Curation", ("criterion", "threshold", "failed", "left"), _curation_rows(facts))
    yield table("Units kept", ("", "median", "quartiles", "range"), wording.quality_rows(facts))
    yield table("Where the time went", ("stage", "time"), _timing_rows(facts))
    yield table("Settings that differ from the preset", ("setting", "used", "preset"), _change_rows(facts))
    yield table("Settings chosen for this recording", ("setting", "value", "why"), wording.recommended_rows(facts))
    if facts.result.succeeded:
        yield _bullets("Warnings in the log", wording.log_warnings(facts))


def _failure(facts: Facts) -> Iterator[str]:
    rows = wording.attempt_rows(facts)
    yield table("Attempts", ("phase", "ended with", "time", "status"), rows)
    tail = wording.log_tail(facts)
    if tail:
        yield f"## Last lines of the log\n\n{_fenced(tail)}"


def _curation_rows(facts: Facts) -> wording.Rows:
    rows = [
        (f"{step.criterion} (stage {step.stage})", step.threshold, number(step.n_failed), number(step.n_left))
        for step in facts.steps
    ]
    return [("units found", "", "", number(facts.result.n_units)), *rows] if rows else []


def _timing_rows(facts: Facts) -> wording.Rows:
    return [(stage, duration(seconds)) for stage, seconds in facts.timings_s.items()]


def _change_rows(facts: Facts) -> wording.Rows:
    return [(change.name, change.value, change.preset) for change in facts.changes]


# ---------------------------------------------------------------------------------------------------- syntax


def inline(text: str) -> str:
    """Return `text` on one line, so that no character of it is markup."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", escaped)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a section with a table; nothing without rows."""
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *([inline(cell) for cell in row] for row in rows)]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _bullets(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {inline(line)}" for line in lines)]) if lines else ""


def _fenced(text: str) -> str:
    # A fence longer than any in the text cannot be closed by it.
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
