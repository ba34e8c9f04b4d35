"""Markers of tests that need something from outside are there for tests, and nobody asks for what no test uses."""

from __future__ import annotations

import re
from pathlib import Path

from support import PYPROJECT, REPOSITORY

TESTS = REPOSITORY / "tests"


def _sources() -> str:
    """Text of all tests and of what they import; conftest.py, which declares, does not bear a marker."""
    sources = (path for path in TESTS.rglob("*.py") if path.name != "conftest.py" and path != Path(__file__))
    return "\n".join(path.read_text(encoding="utf-8") for path in sources)


def test_every_marker_has_a_test() -> None:
    """No marker is declared that no test bears."""
    declared = {line.split(":")[0] for line in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    used = set(re.findall(r"\bmark\.(\w+)", _sources()))
    assert declared <= used, f"no test bears {sorted(declared - used)}: remove them from pyproject.toml and conftest.py"


def test_what_is_installed_for_tests_is_asked_for_by_tests() -> None:
    """Each program that .ci/run provides is needed by a test, by its marker or by its name."""
    script = (TESTS.parent / ".ci" / "run").read_text(encoding="utf-8")
    provided = {name.lower() for name in re.findall(r"^provide (\w+)", script, flags=re.MULTILINE)}
    asked = set(re.findall(r"\bmark\.(\w+)|require_program\(\"([\w-]+)\"\)", _sources()))
    assert provided
    assert provided <= {name.replace("-", "_") for pair in asked for name in pair}
