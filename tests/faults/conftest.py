"""Faults on purpose: where they may happen, and the table of what was survived.

Everything that kills runs as a program of ``inside/`` in a private PID namespace. A test hands it settings and
gets back what it saw. Each test says by ``tally`` which promise it tried, how often, and how often it held;
the table is printed at the end, and written to the file that SPIKELAB_FAULTS_TABLE names.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from faults.harness import InNamespace, Tally, Undisturbed, sort_options
from faults.promises import PROMISES, write_table
from filelock import FileLock
from support import simulate_maxwell, with_fake_sorter

INSIDE = Path(__file__).with_name("inside")
REPOSITORY = Path(__file__).parents[2]
_NAMESPACE = ("unshare", "-rpf", "--mount-proc", "--kill-child")
_OF_REAL_ROOT = ("unshare", "-pf", "--mount-proc", "--kill-child")
_TALLIES = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker of the long tests also where pyproject.toml does not name it."""
    config.addinivalue_line("markers", "slow: minutes long; runs in `make faults` only")


@cache
def _why_no_namespace() -> str | None:
    try:
        done = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        return "unshare (util-linux) is not installed"
    return f"no private PID namespace here: {done.stderr.strip()}" if done.returncode else None


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of fault programs: with the fake sorter, and without minutes of compilation in total."""
    found = with_fake_sorter(NUMBA_DISABLE_JIT="1", PYTHONHASHSEED="0", HDF5_USE_FILE_LOCKING="FALSE")
    found["PYTHONPATH"] = os.pathsep.join([found["PYTHONPATH"], str(REPOSITORY / "tests")])
    return found


@pytest.fixture(scope="session")
def in_namespace(environment: dict[str, str]) -> InNamespace:
    """Return a function that runs a program of ``inside/`` in a private namespace and returns what it says."""
    if reason := _why_no_namespace():
        if os.environ.get("SPIKELAB_REQUIRE_STRACE", "0") not in {"", "0"}:
            pytest.fail(f"{reason}, and SPIKELAB_REQUIRE_STRACE demands it", pytrace=False)
        pytest.skip(reason)

    def run(program: str, *, limit_s: float = 100.0, real_root: bool = False, **settings: Any) -> Any:
        if real_root and os.getuid() != 0:
            pytest.skip("other users are needed: run as root")
        namespace = _OF_REAL_ROOT if real_root else _NAMESPACE
        command = [*namespace, sys.executable, str(INSIDE / f"{program}.py"), json.dumps(settings)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=limit_s, env=environment, cwd=REPOSITORY
        )
        assert done.returncode == 0, f"{program} {settings}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def in_namespaces(in_namespace: InNamespace) -> Callable[..., list[Any]]:
    """Return a function that runs one program with several settings, two at once where pytest runs alone."""
    n_at_once = 1 if os.environ.get("PYTEST_XDIST_WORKER") else 2

    def run(program: str, each: list[dict[str, Any]], **common: Any) -> list[Any]:
        with ThreadPoolExecutor(n_at_once) as pool:
            return list(pool.map(lambda own: in_namespace(program, **common, **own), each))

    return run


@pytest.fixture
def seed() -> int:
    """Seed of this test's random choices: new each time, printed, and repeated by SPIKELAB_FAULTS_SEED."""
    value = int(os.environ.get("SPIKELAB_FAULTS_SEED") or random.randrange(10**6))
    sys.stdout.write(f"SPIKELAB_FAULTS_SEED={value}\n")  # shown where the test fails
    return value


# ------------------------------------------------------------------------------------------------- a recording


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Undisturbed:
    """One recording sorted in peace, made once for all processes that test at the same time."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "undisturbed"
    found = Undisturbed(*(str(shared / name) for name in ("culture.raw.h5", "inter", "results")))
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            shared.mkdir()
            simulate_maxwell(Path(found.file), duration_s=4)
            job = {"file": found.file, "inter": found.inter, "results": found.results, "options": sort_options()}
            subprocess.run(
                [sys.executable, str(INSIDE / "sort.py"), json.dumps({"jobs": [job]})],
                check=True, capture_output=True, env=environment, timeout=100,
            )  # fmt: skip
    return found


@pytest.fixture(scope="session")
def reference(undisturbed: Undisturbed) -> dict[str, str]:
    """Digests of the undisturbed results."""
    names = ("spikedata_curated.h5", "spikedata_raw.h5", "curation_history.json")
    return {name: hashlib.sha256(Path(undisturbed.results, name).read_bytes()).hexdigest() for name in names}


@pytest.fixture
def job_of(undisturbed: Undisturbed, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that describes a sort of the recording in folders of its own."""

    def job(name: str, behaviour: str = "ok", settings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return {
            "file": undisturbed.file,
            "inter": str(tmp_path / name / "inter"),
            "results": str(tmp_path / name / "results"),
            "options": {**sort_options(behaviour, **more), **(settings or {})},
        }

    return job


# --------------------------------------------------------------------------------------------------- the table


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Return a function that notes for the table how often a promise was tried in one way, and how often it held."""

    def note(promise: str, fault: str, tried: int, held: int, remark: str = "") -> None:
        assert promise in PROMISES
        record_property("tally", {"promise": promise, "fault": fault, "tried": tried, "held": held, "remark": remark})

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write it where SPIKELAB_FAULTS_TABLE says."""
    reports = [
        report
        for status in ("passed", "failed", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(status, ())
    ]
    tallies = [value for report in reports for name, value in report.user_properties if name == "tally"]
    if not tallies:
        return
    lines = list(write_table(tallies))
    terminalreporter.section("promises")
    for line in lines:
        terminalreporter.write_line(line)
    if path := os.environ.get("SPIKELAB_FAULTS_TABLE"):
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
