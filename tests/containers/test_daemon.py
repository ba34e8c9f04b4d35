"""What is asked of a daemon, and what its answers mean: with a stand-in, so that it is tried where no daemon runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from docker_daemon import Story, docker_daemon

from spikelab.spike_sorting import DockerEnvironmentError, HostOutOfMemoryError
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.containers.errors import reason_of, sdk
from spikelab.spike_sorting.backends.containers.leftovers import Note, labels_for
from spikelab.spike_sorting.backends.containers.running import Contained, memory_limit_bytes, run_contained
from spikelab.spike_sorting.preflight.machine import DockerAnswer, ask_docker
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.state import clean

docker = pytest.importorskip("docker")

Make = Callable[..., SortJob]
DIGEST, OWN = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
IMAGES = {"lab/ks4:1": {"Id": OWN, "RepoDigests": [f"lab/ks4@{DIGEST}"]}}


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: SortJob, story: Story, **options: Any) -> Contained:
    story.images.update(IMAGES)
    with docker_daemon(tmp_path / "docker.sock", story) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        return run_contained(job, ("program", "an argument"), **options)


def test_a_container_is_asked_for_with_all_its_limits(
    tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User, memory without swap, no network, what can be changed and what not, labels; lines; and it is removed."""
    monkeypatch.setenv("SPIKELAB_RUN_ID", "run-1")
    job, heard = make_job(use_docker="lab/ks4:1", total_memory="1G"), []
    story = Story(printed="first\nsecond µV\r\nthe last".encode(), exit_code=5)
    ran = run(tmp_path, monkeypatch, job, story, reads=(tmp_path,), on_line=lambda line: bool(heard.append(line)))
    assert (ran.exit_code, ran.image.to_dict()) == (5, {"name": "lab/ks4:1", "digest": DIGEST})
    assert heard == list(ran.tail) == ["first", "second µV", "the last"]
    host, mounts = story.created["HostConfig"], story.created["HostConfig"]["Mounts"]
    assert (story.created["Entrypoint"], story.created["Cmd"]) == (["program"], ["an argument"])
    assert story.created["User"] == f"{os.getuid()}:{os.getgid()}"
    assert story.created["WorkingDir"] == str(job.folder)
    assert (host["Memory"], host["MemorySwap"], host["NetworkMode"], host["Init"]) == (10**9, 10**9, "none", True)
    assert {mount["Target"]: mount["ReadOnly"] for mount in mounts if mount["Source"] == mount["Target"]} == {
        str(tmp_path): True,
        str(job.folder): False,
        str(job.run.scratch): False,
    }
    labels = story.created["Labels"]
    assert (labels["spikelab.run"], labels["spikelab.folder"]) == ("run-1", str(job.run.inter))
    assert story.asked[-1] == "DELETE /containers/c1"


def test_a_bar_of_progress_is_heard_as_it_moves(
    tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars return to the start of their line and end none: each state of one is a line all the same."""
    job, heard = make_job(use_docker="lab/ks4:1"), list[str]()
    story = Story(printed=b"begun\r\n  0%|\r 50%|\r100%|\ndone\r")
    run(tmp_path, monkeypatch, job, story, on_line=lambda line: bool(heard.append(line)))
    assert heard == ["begun", "  0%|", " 50%|", "100%|", "done"]


def test_a_container_that_is_killed_for_memory_ran_out_of_memory(
    tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 137 alone is a kill by anybody; with the daemon's word for it, memory ran out."""
    job = make_job(use_docker="lab/ks4:1")
    assert run(tmp_path, monkeypatch, job, Story(exit_code=137)).exit_code == 137
    (tmp_path / "docker.sock").unlink()
    story = Story(exit_code=137, ran_out_of_memory=True)
    with pytest.raises(HostOutOfMemoryError, match="memory limit") as caught:
        run(tmp_path, monkeypatch, job, story)
    assert caught.value.details == {"sorter": "kilosort4", "log_path": str(job.run.log), "stage": "sort"}
    assert story.asked[-1] == "DELETE /containers/c1"


@pytest.mark.parametrize(
    "step, status, message, reason, said",
    [
        ("create", 400, 'invalid mount config for type "bind": bind source path does not exist: /x', "other", "folder"),
        ("start", 500, 'could not select device driver "" with capabilities: [[gpu]]', "other", "Container Toolkit"),
        ("start", 500, "something new", "other", "something new"),
        ("wait", 0, "", "daemon_down", "does not answer"),
    ],
)
def test_a_daemon_that_refuses_or_dies_says_why(
    tmp_path: Path,
    make_job: Make,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    status: int,
    message: str,
    reason: str,
    said: str,
) -> None:
    """Whatever fails after the image was found has its reason and its words, and the container is removed."""
    story = Story(refuses={step: (status, message)})
    with pytest.raises(DockerEnvironmentError, match=said) as caught:
        run(tmp_path, monkeypatch, make_job(use_docker="lab/ks4:1"), story)
    assert caught.value.reason == reason
    assert step == "create" or story.asked[-1] == "DELETE /containers/c1"


def test_a_container_that_somebody_else_removes_is_no_failure(
    tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep at the same time removes it first: it is gone, which is what was wanted."""
    for status, message in ((404, "No such container: c1"), (409, "removal of container c1 is already in progress")):
        story = Story(refuses={"c1": (status, message)})
        assert run(tmp_path, monkeypatch, make_job(use_docker="lab/ks4:1"), story).exit_code == 0
        for path in (tmp_path / "docker.sock", tmp_path / "inter"):
            path.rename(path.with_name(f"{path.name}-{status}"))


def test_a_container_that_an_earlier_attempt_left_is_ended_first(
    tmp_path: Path, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it of this run or of another one in the folder: its note is lost to the next; other folders keep theirs."""
    job = make_job(use_docker="lab/ks4:1")
    left = {"same": ("inline", job.run.inter), "former": ("run-0", job.run.inter), "foreign": ("run-0", tmp_path)}
    left["canary"] = ("inline", job.run.canary)
    of_canary = job.run.container_notes[1]
    of_canary.parent.mkdir(parents=True)
    Note(labels_for(*left["canary"])).write(of_canary)
    story = Story(left={name: labels_for(*card) for name, card in left.items()})
    assert run(tmp_path, monkeypatch, job, story).exit_code == 0
    assert list(story.left) == ["foreign"]
    assert not of_canary.exists()
    for name in ("former", "canary"):
        assert story.asked.index(f"DELETE /containers/{name}") < story.asked.index("POST /containers/create")


@pytest.mark.parametrize(
    "story, error",
    [
        (Story(exit_code=137, ran_out_of_memory=True), HostOutOfMemoryError),
        (Story(refuses={"start": (500, "could not select device driver")}), DockerEnvironmentError),
        (Story(exit_code=0), None),
    ],
)
def test_a_container_that_cannot_be_removed_hides_nothing(
    tmp_path: Path,
    make_job: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    story: Story,
    error: type[Exception] | None,
) -> None:
    """What the program came to is told all the same; that a container is left is in the log, and noted for later."""
    job = make_job(use_docker="lab/ks4:1")
    story.refuses["c1"] = (500, "device or resource busy")
    with pytest.raises(error, match=r"memory limit|device driver") if error else nullcontext():
        run(tmp_path, monkeypatch, job, story)
    assert "device or resource busy" in caplog.text
    assert job.run.container_note.exists()


def test_a_container_of_a_canary_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sort of the first seconds has left is looked for, too, by the folder of its own that it has."""
    run, story = RunFolder(inter=tmp_path / "inter", results=tmp_path / "results"), Story()
    run.results.mkdir()
    run.canary.mkdir(parents=True)
    run.claim({"file": "a"})
    notes = run.container_note, run.canary / "container.json"
    for note in notes:
        Note({"spikelab.folder": str(note.parent)}).write(note)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    with pytest.raises(DockerEnvironmentError, match=r"delete .*container\.json"):
        clean(run.results)
    assert all(note.exists() for note in notes), "it may still be at work there"
    with docker_daemon(tmp_path / "docker.sock", story):
        clean(run.results)
    assert story.asked.count("GET /containers/json") == 2
    assert not any(note.exists() for note in notes)


_FETCHING = "Error while fetching server API version"


@pytest.mark.parametrize(
    "error, reason",
    [
        (docker.errors.DockerException(f"{_FETCHING}: FileNotFoundError(2)"), "daemon_down"),
        (
            docker.errors.DockerException(f"{_FETCHING}: PermissionError(13)"),
            "permission_denied",
        ),
        (docker.errors.ImageNotFound("No such image: lab/ks4:1"), "image_pull_failed"),
        (docker.errors.APIError("500 Server Error: toomanyrequests"), "other"),
        (ConnectionResetError("reset"), "daemon_down"),
        (TimeoutError("read timed out"), "daemon_down"),
        (ModuleNotFoundError("No module named 'docker'"), "client_missing"),
    ],
)
def test_each_failure_of_the_client_has_its_reason(error: Exception, reason: str) -> None:
    """What the SDK raises, for want of a daemon, of rights, of the image or of an answer."""
    assert reason_of(error)[0] == reason


def test_a_folder_named_docker_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client is not installed, a folder of its name, as in a clone of spikelab, is not taken for it."""
    # What Python makes of a folder without modules; where the client is installed, that one goes first.
    monkeypatch.setitem(sys.modules, "docker", ModuleType("docker"))
    with pytest.raises(DockerEnvironmentError, match=r"spikelab\[docker\]") as caught:
        sdk()
    assert caught.value.reason == "client_missing"
    assert ask_docker(None) == DockerAnswer("client_missing", "No module named 'docker'")


@pytest.mark.parametrize(
    "total_memory, free, limit", [(None, 10**9, 95 * 10**7), ("500M", 10**9, 5 * 10**8), ("9G", 10**9, 95 * 10**7)]
)
def test_the_limit_of_memory_is_what_is_allowed_and_free(total_memory: str | None, free: int, limit: int) -> None:
    """A container never gets all that is free: the machine must not run out before it does."""
    assert memory_limit_bytes(total_memory, free) == limit
