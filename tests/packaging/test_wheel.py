"""The wheel, installed into an empty environment, is the whole package."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomllib

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "spikelab"


@dataclass(frozen=True)
class Installation:
    """An environment that has spikelab from the wheel, and an empty folder to start programs in."""

    wheel: Path
    bin_folder: Path
    package: Path
    empty_folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """Return what the environment's program prints; fail the test when it fails."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.bin_folder / program, *arguments],
            cwd=self.empty_folder,
            env={**inherited, "NO_COLOR": "1", "COLUMNS": "100"},
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
    """Put this environment's packages behind the new one's own.

    A folder named in a .pth file comes after the folder that the file is in, and the .pth files inside it are
    not read: an editable installation of spikelab here stays out of sight there.
    """
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site_packages / "lent.pth").write_text("\n".join(folders) + "\n", encoding="utf-8")


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
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version == project["version"]


def test_command_line_works_from_the_wheel(installed: Installation) -> None:
    """The command is installed and lists what it can do."""
    help_text = installed.run("spikelab", "--help")
    assert "sort" in help_text
    assert "demo" in help_text
