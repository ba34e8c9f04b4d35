"""What a daemon that cannot run a container says, as errors that people can act on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting._signatures import DOCKER

_WHAT_TO_DO = {
    "client_missing": "pip install 'spikelab[docker]'",
    "daemon_down": "start Docker (systemctl start docker, or Docker Desktop) and check that `docker info` works; where "
    "it listens elsewhere, say so in DOCKER_HOST",
    "permission_denied": "add this user to the group docker (sudo usermod -aG docker $USER) and log in again",
    "image_pull_failed": "docker pull it, or build it as docker/README.md says",
    "other": "see what Docker says",
}
"""By the reason of a DockerEnvironmentError."""


def advice_for(reason: str) -> str:
    """Return what to do about a failure for `reason`."""
    return _WHAT_TO_DO[reason]


def reason_of(error: BaseException) -> tuple[str, str]:
    """Return the reason for `error`, an exception of the SDK or of what it speaks through, and what that means."""
    kind = type(error)
    said = f"{kind.__module__}.{kind.__name__}: {error}"
    for row in DOCKER:
        if row.matches(said, ""):
            return str(row.details["reason"]), row.message
    # What the daemon answers is an exception of the SDK; everything else says that it does not answer.
    if isinstance(error, OSError) and not kind.__module__.startswith("docker."):
        return "daemon_down", "the Docker daemon does not answer, or not any more"
    return "other", "Docker cannot run the container"


def docker_error(error: BaseException) -> DockerEnvironmentError:
    """Return `error` as the error that tells what to do about it."""
    reason, means = reason_of(error)
    said = " ".join(str(getattr(error, "explanation", None) or error).split())
    return DockerEnvironmentError(f"{means} ({said}); {advice_for(reason)}", reason=reason)


def no_program(printed: Sequence[str]) -> DockerEnvironmentError | None:
    """Return the error of an image without the program that was to run, if that is what a container `printed`."""
    for line in printed:
        if any(row.matches(line, "") for row in DOCKER):
            return docker_error(RuntimeError(line))
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the SDK raises into a DockerEnvironmentError with its reason."""
    docker = sdk()
    try:
        yield
    except (docker.errors.DockerException, OSError) as error:
        raise docker_error(error) from error


def sdk() -> Any:
    """Return the package docker.

    Raises
    ------
    DockerEnvironmentError
        It is not installed.
    """
    try:
        docker = import_module("docker")
        if not hasattr(docker, "from_env"):
            # A folder of that name where Python looks, such as the one of our repository, is a package to it.
            msg = "No module named 'docker'"
            raise ModuleNotFoundError(msg)
    except ImportError as error:
        raise docker_error(error) from error
    return docker
