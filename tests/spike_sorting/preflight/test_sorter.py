"""The sorter, here or in a container."""

from __future__ import annotations

import gc
import importlib.util
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting._exceptions import DockerEnvironmentError, SorterNotInstalledError
from spikelab.spike_sorting.config import KILOSORT4, RT_SORT_MEA, SortingPipelineConfig
from spikelab.spike_sorting.preflight import raise_for
from spikelab.spike_sorting.preflight.docker import check_docker
from spikelab.spike_sorting.preflight.machine import DockerAnswer, ask_docker, check_installed
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


class _Daemon(BaseHTTPRequestHandler):
    """Answers what the Docker daemon answers to the three questions of the check."""

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1.44")
        if path == "/version":
            self._say({"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        elif path == "/images/lab/ks4:1/json":
            self._say({"Id": OTHER, "RepoDigests": [f"lab/ks4@{DIGEST}"]})
        elif path == "/_ping":
            self._say("OK")
        else:
            self._say({"message": f"No such image: {path}"}, 404)

    def _say(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for the daemon, on a socket of its own."""
    pytest.importorskip("docker")
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socketserver.ThreadingUnixStreamServer(str(path), _Daemon) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("daemon")
def test_reading_of_a_daemon_that_answers() -> None:
    """The daemon's own answer says which digests the image has, by name and by content."""
    assert ask_docker("lab/ks4:1") == DockerAnswer(digests=(DIGEST, OTHER))
    assert ask_docker(None) == DockerAnswer()


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
