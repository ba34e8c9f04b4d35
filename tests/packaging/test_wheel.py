"""The wheel, installed into an empty environment with what it declares, is the whole package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support import FAKE_SORTER, PYPROJECT, REPOSITORY, simulate_maxwell

SOURCE = REPOSITORY / "spikelab"


@dataclass(frozen=True)
class Installation:
    """An environment that has spikelab from the wheel, and an empty folder to start programs in."""

    wheel: Path
    bin_folder: Path
    package: Path
    empty_folder: Path

    def run(self, program: str, *arguments: str, **environment: str) -> str:
        """Return what the environment's program prints; fail the test when it fails."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.bin_folder / program, *arguments],
            cwd=self.empty_folder,
            env={**inherited, "NO_COLOR": "1", "COLUMNS": "100", "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Build the wheel and install it, alone, into a new environment that sees this one's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    _succeed("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY))
    (wheel,) = folder.glob("spikelab-*.whl")

    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    bin_folder = home / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    _succeed("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", str(wheel))

    (site_packages,) = home.glob("[Ll]ib/**/site-packages")
    _lend_packages(site_packages)
    empty = folder / "empty"
    empty.mkdir()
    return Installation(wheel, bin_folder, site_packages / "spikelab", empty)


def _succeed(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"


def _lend_packages(site_packages: Path) -> None:
    """Put what the wheel asks for into the environment, and what that asks for, and nothing else.

    They are links into this environment: nothing is downloaded, and a package that nobody declares is missing.
    """
    (metadata,) = site_packages.glob("spikelab-*.dist-info")
    lent: set[str] = set()
    wanted = _requirements(Distribution.at(metadata), frozenset())
    while wanted:
        requirement = wanted.pop()
        found = distribution(requirement.name)
        known = f"{found.name}[{','.join(sorted(requirement.extras))}]"
        if known not in lent:
            lent.add(known)
            wanted += _requirements(found, frozenset(requirement.extras))
            _link(found, site_packages)


def _requirements(found: Distribution, extras: frozenset[str]) -> list[Requirement]:
    """Return what a distribution needs here when it is asked for with `extras`."""
    requirements = [Requirement(line) for line in found.requires or ()]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def _link(found: Distribution, site_packages: Path) -> None:
    for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        if not (site_packages / name).exists():
            (site_packages / name).symlink_to(found.locate_file(name))


def _files(package: Path) -> set[str]:
    """Return the files of a package by their place in it, without compiled ones."""
    found = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package).as_posix() for path in found}


def test_wheel_holds_the_package_and_nothing_else(installed: Installation) -> None:
    """Tests, tools and documents stay out of people's environments."""
    with zipfile.ZipFile(installed.wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"spikelab"}


def test_every_file_of_the_package_is_installed(installed: Installation) -> None:
    """Templates, schemas and other data are where the code looks for them."""
    assert _files(SOURCE) == _files(installed.package)
    assert "py.typed" in _files(installed.package)


def test_public_names_import_from_the_wheel(installed: Installation) -> None:
    """Every public name is found, in the installed package and not in the source tree."""
    code = (
        "import spikelab, spikelab.spike_sorting as sorting\n"
        "for module in (spikelab, sorting):\n"
        "    for name in module.__all__:\n"
        "        getattr(module, name)\n"
        "print(spikelab.__file__)\n"
        "print(spikelab.__version__)"
    )
    origin, version = installed.run("python", "-c", code).splitlines()
    assert Path(origin).resolve() == (installed.package / "__init__.py").resolve()
    project = PYPROJECT["project"]
    assert version == project["version"]


def test_command_line_works_from_the_wheel(installed: Installation) -> None:
    """The command is installed and lists what it can do."""
    help_text = installed.run("spikelab", "--help")
    assert "sort" in help_text
    assert "demo" in help_text


def test_nothing_undeclared_is_lent(installed: Installation) -> None:
    """The environment is what an installation without extras would be: no sorter, no tools, nothing unasked for."""
    code = "from importlib.metadata import distributions; print(*(found.name.lower() for found in distributions()))"
    names = installed.run("python", "-c", code).split()
    assert {"spikelab", "numpy", "spikeinterface"} <= set(names)
    assert not {"torch", "kilosort", "docker", "pytest", "ruff"} & set(names)


def test_a_whole_sort_runs_from_the_wheel(installed: Installation) -> None:
    """Declared dependencies alone take a recording to its results, and its pages are drawn anew from there."""
    simulate_maxwell(installed.empty_folder / "culture.raw.h5", duration_s=5, n_units=4)
    code = """
import json
from spikelab.spike_sorting import load_results, sort_recording
from spikelab.spike_sorting.report import generate_sorting_report
options = {"sorter": "fake", "n_jobs": 1, "compile_to_mat": True, "compile_to_npz": True, "fr_min": 0.0}
(sd,) = sort_recording("culture.raw.h5", spikes_min_first=1, spikes_min_second=1, **options)
assert load_results("sorted_fake/culture.raw.h5") == sd
pages = [f"sorted_fake/culture.raw.h5/sorting_report.{kind}" for kind in ("html", "md")]
before = [open(page, encoding="utf-8").read() for page in pages]
generate_sorting_report("sorted_fake/culture.raw.h5")
after = [open(page, encoding="utf-8").read() for page in pages]
print(json.dumps([sd.N, [len(page) for page in before], [len(page) for page in after]]))
"""
    n_units, before, after = json.loads(installed.run("python", "-c", code, PYTHONPATH=str(FAKE_SORTER)))
    assert n_units > 0
    assert before[0] > 1_000_000, "the page holds the code that draws its plots"
    assert before == pytest.approx(after, rel=0.01)
    for command in ("status", "report"):
        said = installed.run("spikelab", command, "sorted_fake/culture.raw.h5", PYTHONPATH=str(FAKE_SORTER))
        assert "culture.raw.h5" in said
