"""The images in docker/ bring what is tested here."""

from __future__ import annotations

import re

import pytest
from support import REPOSITORY

from spikelab.spike_sorting.backends.containers.images import DEFAULT_IMAGES

DOCKER = REPOSITORY / "docker"


def _pins(text: str) -> set[str]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {line for line in lines if line}


@pytest.mark.parametrize("sorter", DEFAULT_IMAGES)
def test_each_default_image_has_a_recipe_with_a_pinned_base_and_a_smoke_test(sorter: str) -> None:
    """Each image that use_docker=True names can be built, from a base with a tag, and checks itself."""
    recipe = (DOCKER / sorter / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=\S+:\d[\w.-]+$", recipe, re.MULTILINE)
    assert "@sha256" not in recipe, "a digest is written down only where a daemon has told it"
    assert re.search(r"^RUN \w+ .*smoke_test", recipe, re.MULTILINE)
    assert list((DOCKER / sorter).glob("smoke_test.*"))


def test_the_image_of_kilosort4_has_the_versions_of_the_tests() -> None:
    """What the image installs is what the tests run with."""
    ours = (REPOSITORY / "requirements" / "constraints.txt").read_text(encoding="utf-8")
    pinned = {re.sub(r"\s*;.*", "", line) for line in _pins(ours) if "<" not in line}
    pinned |= {re.sub(r"\.\*$", ".0", line) for line in pinned}
    assert _pins((DOCKER / "kilosort4" / "requirements.txt").read_text(encoding="utf-8")) <= pinned


def test_the_image_of_rt_sort_has_what_the_environment_has() -> None:
    """`spikelab rt-sort-env` and the image install the same."""
    shipped = REPOSITORY / "spikelab" / "spike_sorting" / "backends" / "rt_sort" / "requirements.txt"
    assert _pins((DOCKER / "rt_sort" / "requirements.txt").read_text(encoding="utf-8")) == _pins(
        shipped.read_text(encoding="utf-8")
    )
