"""The images in docker/ bring what is tested here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

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


_DOCKER = """#!/bin/sh
echo "$@" >> "$DOCKER_SAID"
case "$1 $FAILS" in "$FAILS $FAILS") exit 1 ;; esac
case "$1" in image) echo sha256:abc ;; version) echo 20.10 ;; esac
"""


def _build(tmp_path: Path, *arguments: str, fails: str = "-", **environment: str) -> tuple[Any, list[str]]:
    """Return how docker/build.sh ended, and what it had a stand-in for `docker` do."""
    said, program = tmp_path / "said", tmp_path / "docker"
    program.write_text(_DOCKER)
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "DOCKER_SAID": str(said), "FAILS": fails, **environment}
    done = subprocess.run(
        [DOCKER / "build.sh", *arguments], env=variables, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    return done, said.read_text().splitlines() if said.exists() else []


@pytest.mark.parametrize("sorter", DEFAULT_IMAGES)
def test_one_command_builds_an_image_and_tries_it(sorter: str, tmp_path: Path) -> None:
    """docker/build.sh builds what use_docker=True looks for, and runs its smoke test without a network."""
    image = DEFAULT_IMAGES[sorter]
    done, said = _build(tmp_path, sorter, "--build-arg", "BASE=mine", GPUS="all")
    assert said[:2] == [
        f"build --tag {image} --build-arg BASE=mine {DOCKER / sorter}",
        f"run --rm --network none --gpus all {image}",
    ]
    assert (done.returncode, done.stdout.strip()) == (0, f"{image} is sha256:abc, built by Docker 20.10")


def test_an_image_that_fails_is_a_failure(tmp_path: Path) -> None:
    """What cannot be built is not run; a smoke test that fails, and a sorter without a recipe, end with an error."""
    done, said = _build(tmp_path, "kilosort4", fails="build")
    assert (done.returncode, len(said)) == (1, 1)
    done, said = _build(tmp_path, "kilosort4", fails="run")
    assert (done.returncode, done.stdout) == (1, "")
    done, _ = _build(tmp_path, "kilosort9")
    assert (done.returncode, "usage" in done.stderr) == (2, True)


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
