"""The sorter, here or in a container."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import Story, docker_daemon

from spikelab.spike_sorting._exceptions import DockerEnvironmentError, SorterNotInstalledError
from spikelab.spike_sorting.config import KILOSORT4, RT_SORT_MEA, SortingPipelineConfig
from spikelab.spike_sorting.preflight import raise_for
from spikelab.spike_sorting.preflight.docker import check_docker, check_docker_gpu
from spikelab.spike_sorting.preflight.machine import DockerAnswer, Driver, Gpu, ask_docker, check_installed
from spikelab.spike_sorting.preflight.sorter import check_sorter

Make = Callable[..., Any]
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


# ------------------------------------------------------------------------------------------------------- here


def test_installed_sorter_is_fine(make_batch: Make, make_job: Make) -> None:
    """A sorter of a tested version is not spoken of, and asked for once."""
    asked: list[SortingPipelineConfig] = []
    batch = make_batch(make_job(name="a"), make_job(name="b"), installed=asked.append)
    assert check_sorter(batch) == []
    assert [config.sorter.sorter_name for config in asked] == ["kilosort4"]


def test_missing_sorter_is_its_own_error(make_batch: Make, make_job: Make) -> None:
    """A sorter that is missing is raised as such, with the command that installs it."""
    error = SorterNotInstalledError("Kilosort4 is not installed", sorter="kilosort4", missing="kilosort")
    (found,) = check_sorter(make_batch(make_job(), installed=lambda name: error))
    assert (found.code, found.level) == ("sorter-not-installed", "error")
    assert "pip install" in found.advice
    with pytest.raises(SorterNotInstalledError):
        raise_for([found])


def test_container_brings_its_own_sorter(make_batch: Make, make_job: Make) -> None:
    """A sort in a container does not need the sorter here."""
    batch = make_batch(make_job(use_docker=True), installed=lambda name: pytest.fail("asked"))
    assert check_sorter(batch) == []


def test_real_backends_answer() -> None:
    """The real reading is that of the backend: a sorter without one is missing."""
    assert (check_installed(KILOSORT4) is None) == (importlib.util.find_spec("kilosort") is not None)
    missing = check_installed(RT_SORT_MEA)
    assert missing is not None
    assert missing.sorter == "rt_sort"


# --------------------------------------------------------------------------------------------- in a container


def _reason(batch: Any) -> str | None:
    (found,) = check_docker(batch)
    assert isinstance(found.error, DockerEnvironmentError)
    assert (found.code, found.level) == ("docker-environment", "error")
    return found.error.reason


def test_docker_is_not_asked_without_need(make_batch: Make, make_job: Make) -> None:
    """A sort that runs here, or under Apptainer, does not ask Docker."""
    assert check_docker(make_batch(make_job())) == []
    assert check_docker(make_batch(make_job(use_docker=True, container="apptainer"))) == []


def test_docker_that_is_ready(make_batch: Make, make_job: Make) -> None:
    """A daemon that answers, with the image and its digest, is not spoken of; it is asked once for all recordings."""
    asked: list[str | None] = []
    settings = {"use_docker": "lab/ks4:1", "docker_image_expected_digest": DIGEST}
    jobs = [make_job(name=name, **settings) for name in "ab"]
    batch = make_batch(*jobs, docker=lambda image: asked.append(image) or DockerAnswer(digests=(DIGEST,)))
    assert check_docker(batch) == []
    assert asked == ["lab/ks4:1"]


def test_default_image_is_that_of_the_sorter(make_batch: Make, make_job: Make) -> None:
    """use_docker=True means the image of this sorter, or, where there is none, the daemon alone."""
    asked: list[str | None] = []
    readings = {"docker": lambda image: asked.append(image) or DockerAnswer()}
    check_docker(make_batch(make_job(use_docker=True), default_images={"kilosort4": "spikelab/ks4"}, **readings))
    check_docker(make_batch(make_job(use_docker=True), default_images={}, **readings))
    assert asked == ["spikelab/ks4", None]


@pytest.mark.parametrize("reason", ["client_missing", "daemon_down", "permission_denied", "image_pull_failed"])
def test_reasons_are_those_of_the_error(make_batch: Make, make_job: Make, reason: str) -> None:
    """What Docker lacks is the reason of the error, with an advice of its own."""
    batch = make_batch(make_job(use_docker="lab/ks4:1"), docker=lambda image: DockerAnswer(reason, "its own words"))
    assert _reason(batch) == reason
    (found,) = check_docker(batch)
    assert "its own words" in found.message
    assert found.advice != DockerEnvironmentError.advice


def test_another_digest_is_an_error(make_batch: Make, make_job: Make) -> None:
    """An image that is not the expected one names both digests."""
    settings = {"use_docker": "lab/ks4:1", "docker_image_expected_digest": DIGEST}
    batch = make_batch(make_job(**settings), docker=lambda image: DockerAnswer(digests=(OTHER,)))
    assert _reason(batch) == "other"
    (found,) = check_docker(batch)
    assert DIGEST in found.message
    assert OTHER in found.message


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for the daemon, on a socket of its own."""
    pytest.importorskip("docker")
    images = {"lab/ks4:1": {"Id": OTHER, "RepoDigests": [f"lab/ks4@{DIGEST}"]}}
    with docker_daemon(tmp_path / "docker.sock", Story(images)) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        yield


@pytest.mark.usefixtures("daemon")
def test_reading_of_a_daemon_that_answers() -> None:
    """The daemon's own answer says which digests the image has, by name and by content."""
    assert ask_docker("lab/ks4:1") == DockerAnswer(digests=(DIGEST, OTHER), runtimes=("runc",))
    assert ask_docker(None) == DockerAnswer(runtimes=("runc",))


@pytest.mark.usefixtures("daemon")
def test_reading_of_an_image_that_is_not_here() -> None:
    """An image that is absent is said to be, and not pulled."""
    answer = ask_docker("lab/absent:1")
    assert (answer.reason, "No such image" in answer.detail) == ("image_pull_failed", True)


# The SDK leaves the socket on which nobody answered to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reading_without_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that does not run is told as such."""
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    assert ask_docker("lab/ks4:1").reason == "daemon_down"
    gc.collect()


@pytest.mark.parametrize(
    "runtimes, torch_device, n_found",
    [(("runc",), "auto", 1), (("runc",), "cpu", 0), (("nvidia", "runc"), "auto", 0), (None, "auto", 0)],
)
def test_a_gpu_that_containers_may_not_get_is_told(
    make_batch: Make, make_job: Make, runtimes: tuple[str, ...] | None, torch_device: str, n_found: int
) -> None:
    """Where there is a GPU and no runtime of NVIDIA's, a sort in a container may not start: that is said before."""
    job = make_job(use_docker="lab/ks4:1", kilosort_params={"torch_device": torch_device})
    driver = Driver("570.86", (12, 8), (Gpu("RTX", (8, 6), 10**10, 10**10),))
    batch = make_batch(job, driver=lambda: driver, docker=lambda image: DockerAnswer(runtimes=runtimes))
    assert [found.code for found in check_docker_gpu(batch)] == n_found * ["docker-gpu"]
