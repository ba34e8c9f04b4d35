"""The page "When a sort fails" says what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from support import REPOSITORY

from spikelab.spike_sorting import _exceptions as errors
from spikelab.spike_sorting.outcome import FAILED, INTERRUPTED, SKIPPED, SUCCESS
from spikelab.spike_sorting.remarks import CODES

PAGE = REPOSITORY / "docs" / "when-a-sort-fails.md"
FAMILIES = (
    errors.BiologicalSortFailure,
    errors.EnvironmentSortFailure,
    errors.ResourceSortFailure,
    errors.SorterCrashedError,
)
AGAIN = {"never": "no", "smaller": "with less", "later": "later"}


def line_of_table(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def errors_of(family: type[errors.SpikeSortingClassifiedError]) -> Iterator[str]:
    """Yield the rows of the errors of a family, as they are defined."""
    members = [family, *family.__subclasses__()] if family is not errors.SorterCrashedError else [family]
    for cls in members:
        meaning = (cls.__doc__ or "").splitlines()[0]
        yield line_of_table(f"`{cls.status}`", f"`{cls.__name__}`", meaning, cls.advice, AGAIN[cls.retry])


def codes_of(kind: str) -> Iterator[str]:
    """Yield the rows of the codes of one kind."""
    for code, known in CODES.items():
        if known.kind == kind:
            cells = (f"`{code}`", known.meaning, known.advice) if kind != "preflight" else (f"`{code}`", known.meaning)
            yield line_of_table(*cells)


def rows_below(heading: str) -> list[str]:
    """Return the rows of the table below a heading of the page."""
    section = re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = (part for part in section if part.splitlines()[0] == heading)
    return [line for line in text.splitlines() if line.startswith("| `")]


def expect(heading: str, rows: Iterable[str]) -> None:
    wanted = list(rows)
    assert rows_below(heading) == wanted, "the table must read:\n" + "\n".join(wanted)


@pytest.mark.parametrize(
    "heading,family",
    [
        ("The recording cannot be sorted", errors.BiologicalSortFailure),
        ("The machine is not ready", errors.EnvironmentSortFailure),
        ("The job was too big, just then", errors.ResourceSortFailure),
        ("The worker died without a word", errors.SorterCrashedError),
    ],
)
def test_every_error_is_on_the_page(heading: str, family: type[errors.SpikeSortingClassifiedError]) -> None:
    """Each classified error stands there with its status, class, meaning, advice and whether to try again."""
    expect(heading, errors_of(family))


def test_no_family_is_left_out() -> None:
    """The families of the page are those that programs catch."""
    assert set(FAMILIES) == set(errors.CLASSIFIED_FAILURES)


@pytest.mark.parametrize(
    "heading,kind",
    [
        ("Found in the samples", "recording"),
        ("Told by the run", "run"),
        ("Found before the start", "preflight"),
        ("Suspicions", "suspicion"),
    ],
)
def test_every_code_is_on_the_page(heading: str, kind: str) -> None:
    """Each code stands there with what it means and what to do."""
    expect(heading, codes_of(kind))


def test_every_status_without_an_error_is_on_the_page() -> None:
    """What a record's status can be besides those of errors is told, too."""
    assert {re.findall(r"`(\w+)`", row)[0] for row in rows_below("What a record says")} == {
        SUCCESS, FAILED, INTERRUPTED, SKIPPED,
    }  # fmt: skip


def test_findings_have_codes_of_the_table() -> None:
    """Each code that a check before the start gives is in the table, by its own name."""
    folder = REPOSITORY / "spikelab" / "spike_sorting" / "preflight"
    source = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    given = re.findall(r"(?:Finding\(|about\([^,()]*(?:\[0\])?[^,()]*,)\s*\"([a-z0-9-]+)\"", source)
    given += re.findall(r"\(\"(limit-\w+)\"", source)
    given += [f"selftest-{what}" for what in re.findall(r"_finding\(\"(\w+)\"", source)]
    assert len(set(given)) > 20
    known = {code for code, entry in CODES.items() if entry.kind == "preflight"}
    assert set(given) == known
