"""How findings are told: what is common once, the worst first."""

from __future__ import annotations

import io

import pytest

from spikelab.cli.findings import count_text, grouped, tell_findings
from spikelab.cli.output import make_console
from spikelab.spike_sorting.preflight import Finding


@pytest.fixture
def console():
    console = make_console()
    console.file = io.StringIO()
    return console


def about(name: str, message: str = "it is too quiet", level: str = "warning", code: str = "quiet") -> Finding:
    return Finding(code, level, message, "Listen again.", name, f"/data/sorted/{name}")


def said(console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_one_fault_of_twenty_recordings_is_read_once(console):
    """What is common to all recordings has three lines, however many they are."""
    tell_findings(console, [about(f"r{k}.h5") for k in range(20)], 20)
    assert said(console) == [
        "warning  all 20 recordings [quiet]",
        "    it is too quiet",
        "    what to do: Listen again.",
    ]


def test_some_of_many_are_named(console):
    """What concerns some recordings names each of them, or, in short, the first ones."""
    findings = [about(f"r{k}.h5") for k in range(5)]
    tell_findings(console, findings, 20)
    assert said(console)[:2] == ["warning  5 recordings [quiet]", "    r0.h5, r1.h5, r2.h5, r3.h5, r4.h5"]
    tell_findings(console, findings, 20, most=2)
    assert "    r0.h5, r1.h5 and 3 more" in said(console)


def test_messages_that_differ_in_the_path_alone_are_one(console):
    """A path of each recording becomes one with a star; a word that happens to be a name stays."""
    findings = [about(name, f"/data/{name}: it is a file") for name in ("a", "b")]
    tell_findings(console, findings, 2)
    assert said(console)[1] == "    /data/*: it is a file"


def test_the_path_of_one_recording_stays_as_it_is(console):
    """Where a finding is about one recording, its path is there to be copied."""
    tell_findings(console, [about("a.h5", "/data/a.h5 is cut")], 3)
    assert said(console)[:2] == ["warning  a.h5 [quiet]", "    /data/a.h5 is cut"]


def test_different_messages_of_one_kind_share_their_advice(console):
    """Numbers of each recording have a line each; what to do comes once; too many are counted."""
    findings = [about(f"r{k}.h5", f"{k} s are missing") for k in range(4)]
    tell_findings(console, findings, 9, most=3)
    assert said(console) == [
        "warning  4 recordings [quiet]",
        "    r0.h5: 0 s are missing",
        "    r1.h5: 1 s are missing",
        "    r2.h5: 2 s are missing",
        "    and 1 more; spikelab preflight tells all",
        "    what to do: Listen again.",
    ]


def test_the_worst_comes_first():
    """Errors stand before warnings, and those before what is only good to know."""
    machine = Finding("gpu-none", "info", "no GPU", "Nothing.")
    groups = grouped([machine, about("a"), about("b", level="error")])
    assert [group.level for group in groups] == ["error", "warning", "info"]
    assert groups[2].subjects == ("this machine",)
    assert count_text([machine, about("a"), about("b"), about("c", level="error")]) == "1 error, 2 warnings, 1 info"


def test_recordings_of_one_name_are_told_apart():
    """Two recordings of one name are named by their results folders."""
    one, other = (Finding("x", "error", "bad", "Do.", "a.h5", f"/{k}/sorted/a.h5") for k in (1, 2))
    assert grouped([one, other])[0].subjects == ("/1/sorted/a.h5", "/2/sorted/a.h5")


def test_commands_in_an_advice_stay_in_one_piece(console):
    """Lines after the first of an advice are commands, which are never broken."""
    console.width, console._force_terminal = 30, True
    command = "pip install something-with-a-long-name --index-url https://example.org"
    tell_findings(console, [Finding("x", "error", "bad", f"Install it:\n{command}")], 1)
    assert f"        {command}" in said(console)
