"""The site is built from what is there, and leaves nothing public out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

import spikelab.spike_sorting

DOCS = REPOSITORY / "docs"


@pytest.mark.timeout(300)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """`make docs` has nothing to complain about: no dead link inside, no page that nothing leads to.

    The examples that sort nothing are run; `make docs` runs all.
    """
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        tmp_path / "read",
        DOCS,
        tmp_path / "out",
    ]
    options = {
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "SPIKELAB_DOCS_SKIP": "quick-start.ipynb overnight.ipynb",
    }
    built = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **options})
    assert built.returncode == 0, built.stderr
    settings = (tmp_path / "out" / "generated" / "settings.html").read_text(encoding="utf-8")
    assert "snr_min" in settings


def test_what_is_public_is_in_the_reference() -> None:
    """Each public name has a place on a page of the reference."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    listed = {line.strip() for line in pages.splitlines()}
    missing = [name for name in spikelab.spike_sorting.__all__ if name not in listed]
    assert not missing, "list them on a page in docs/api/"
