"""An image without a byte: what runs in it is this machine's own, mounted."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """What asks the daemon, beside the code under test."""
    import docker

    client = docker.from_env(timeout=20)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(client: Any) -> Iterator[str]:
    """An empty image in which `python` is the one that runs the tests."""
    # A name of its own: tests in other processes share the daemon, and each removes what it made.
    tag, empty = str(os.getpid()), io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as tar:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    client.api.import_image_from_data(
        empty.getvalue(), repository="spikelab-test/hostfs", tag=tag, changes=[f"ENV PATH={path}"]
    )
    yield f"spikelab-test/hostfs:{tag}"
    client.images.remove(f"spikelab-test/hostfs:{tag}", force=True)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have containers see the system and the Python of this machine."""
    python = {sys.prefix, sys.base_prefix, str(Path(os.path.realpath(sys.executable)).parents[1])}
    seen = [path for path in (*SYSTEM, *python, str(REPOSITORY / "tests")) if Path(path).exists()]
    seen = [path for path in seen if not path.startswith("/usr/") or path == "/usr"]
    monkeypatch.setenv("SPIKELAB_CONTAINER_BIND", os.pathsep.join(dict.fromkeys(seen)))
    return seen


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., SortJob]:
    """Return a function that makes a job with an empty folder and given settings."""

    def make(**overrides: Any) -> SortJob:
        run = RunFolder(inter=tmp_path / "inter", results=tmp_path / "results")
        folder = run.inter / "sort.partial" / "sorter_output"
        folder.mkdir(parents=True)
        return SortJob(None, folder, run, KILOSORT4.override(**overrides), ProgressFile(run.progress, "sort"))

    return make
