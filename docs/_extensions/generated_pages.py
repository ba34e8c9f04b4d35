"""Pages that are written from the code before each build, so that they cannot say anything else than it does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import typer
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click
from typer.main import get_command

from spikelab.cli.app import build_app
from spikelab.cli.config_file import meaning
from spikelab.spike_sorting._settings import flat_name, thaw
from spikelab.spike_sorting.config import SortingPipelineConfig

REPOSITORY = Path(__file__).parents[2]
BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files beside docs/ that are pages of the site as well, and the names of those."""
EXAMPLES = REPOSITORY / "examples"

WHOLE_PACKAGES = {
    "Curation": "spikelab.curation",
    "Pictures": "spikelab.spikedata.plots",
    "Simulation": "spikelab.simulation",
    "Stimulation": "spikelab.stim_sorting",
}
"""Packages with a page that lists all of their names; those of others are on pages in docs/api/."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what this extension does to a build."""
    # Before autosummary looks at the pages that there are.
    app.connect("builder-inited", _write_pages, priority=400)
    app.connect("source-read", _point_inside)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx) -> None:
    apis = {f"{module.rpartition('.')[2]}.md": api_page(title, module) for title, module in WHOLE_PACKAGES.items()}
    pages = {"settings.md": settings_page(), "command-line.md": command_line_page(), **apis}
    beside = {page: (REPOSITORY / file).read_text(encoding="utf-8") for file, page in BESIDE.items()}
    examples = {f"examples/{file.name}": file.read_text(encoding="utf-8") for file in EXAMPLES.glob("*.ipynb")}
    folder = Path(app.srcdir) / "generated"
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    for name, text in {**pages, **beside, **examples}.items():
        _write_if_changed(folder / name, text)
    app.project.discover(app.config.exclude_patterns, app.config.include_patterns)


def _write_if_changed(file: Path, text: str) -> None:
    """Leave an equal file alone: Sphinx reads again what has a new time."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def _point_inside(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Let links that are right in the repository lead to the pages of the site."""
    for file, page in BESIDE.items():
        source[0] = re.sub(rf"\]\((?:\.\./)*{re.escape(file)}(#[\w-]*)?\)", rf"](/generated/{page}\1)", source[0])
    source[0] = re.sub(r"\]\((?:\.\./)*README\.md\)", "](/getting-started.md)", source[0])
    source[0] = re.sub(r"\]\((?:\.\./)*docs/", "](/", source[0])


def api_page(title: str, module: str) -> str:
    """Return the page of a package: what it is, and each of its public names."""
    package = import_module(module)
    directives = (f".. currentmodule:: {module}", ".. autosummary::\n   :toctree: ../api/generated/\n   :nosignatures:")
    listed = "\n".join(f"   {name}" for name in sorted(package.__all__))
    block = "\n\n".join((*directives, listed))
    return f"# {title}\n\n{(package.__doc__ or '').splitlines()[0]}\n\n```{{eval-rst}}\n{block}\n```\n"


def settings_page() -> str:
    """Return the page with every setting: its name, default and meaning."""
    introduction = (
        "# Settings\n\n"
        "Each setting has a flat name, which `sort_recording(...)`, `SortingPipelineConfig.override(...)` and `--set`\n"
        "take, and a place in a group, which files of settings have: `snr_min = 6` below `[curation]`. The defaults\n"
        "are those of Kilosort4. `spikelab config init` writes them as a file, `spikelab config diff FILE` says\n"
        "what a file changes.\n"
    )
    config = SortingPipelineConfig()
    groups = (_settings_of(group.name, getattr(config, group.name)) for group in dataclasses.fields(config))
    return introduction + "\n".join(groups)


def _settings_of(name: str, group: Any) -> str:
    lines = [f"\n## {name}\n", f"{(type(group).__doc__ or '').strip()}\n"]
    hints = get_type_hints(type(group))
    for field in dataclasses.fields(group):
        default = repr(thaw(getattr(group, field.name)))
        lines.append(f"`{flat_name(field)}` = `{default}`\n: {_meaning(field, hints[field.name])}\n")
    return "\n".join(lines)


def _meaning(field: dataclasses.Field[Any], hint: Any) -> str:
    """Return what a setting means, and its name in a file where that is another one."""
    text = re.sub(r" \(--set \w+\)$", "", meaning(field, hint))
    return text if flat_name(field) == field.name else f"{text} In a file: `{field.name}`."


def command_line_page() -> str:
    """Return the page with each command of `spikelab` and its options."""
    command = get_command(build_app())
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="spikelab", title="Command line")
    return "\n".join(_without_decoration(text))


def _without_decoration(text: str) -> Iterator[str]:
    """Yield the lines of `text` without the options that every program of this kind has."""
    for line in text.splitlines():
        if not re.search(r"`--(install-completion|show-completion)`", line):
            yield line.rstrip()
