"""Docker, for sorts in a container: client, daemon, image and its digest."""

from __future__ import annotations

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, of_error
from spikelab.spike_sorting.preflight.machine import DockerAnswer

_WHAT = {
    "client_missing": "the package docker is not installed",
    "daemon_down": "the Docker daemon does not answer",
    "permission_denied": "this user may not use the Docker daemon",
    "image_pull_failed": "the image is not on this machine",
}
_ADVICE = {
    "client_missing": "pip install 'spikelab[docker]'",
    "daemon_down": "Start Docker (systemctl start docker, or Docker Desktop) and check that `docker info` works.",
    "permission_denied": "Add this user to the group docker (sudo usermod -aG docker $USER) and log in again.",
}


def check_docker(batch: Batch) -> list[Finding]:
    """Find why a sort in a Docker container could not start."""
    configs = [job.config for job in batch.jobs if _is_in_docker(job.config)]
    wanted = {(_image_of(batch, config), config.execution.docker_image_expected_digest): None for config in configs}
    findings = [finding for image, digest in wanted for finding in _findings(batch, image, digest)]
    return list(dict.fromkeys(findings))


def _is_in_docker(config: SortingPipelineConfig) -> bool:
    return bool(config.sorter.use_docker) and config.sorter.container == "docker"


def _image_of(batch: Batch, config: SortingPipelineConfig) -> str | None:
    asked = config.sorter.use_docker
    return asked if isinstance(asked, str) else batch.machine.default_images.get(config.sorter.sorter_name)


def _findings(batch: Batch, image: str | None, digest: str | None) -> list[Finding]:
    answer = batch.machine.docker(image)
    if answer.reason is not None:
        return [_cannot_run(answer.reason, answer, image)]
    if digest is not None and image is None:
        return [_unchecked(digest)]
    found = answer.digests or ()
    if digest is None or image is None or digest.rpartition("@")[2] in found:
        return []
    msg = f"the image {image} has the digest {' or '.join(found)}; docker_image_expected_digest is {digest}"
    advice = f"docker pull {image.partition('@')[0]}@{digest.rpartition('@')[2]}, or correct the expected digest."
    return [of_error(DockerEnvironmentError(msg, reason="other"), advice=advice)]


def _unchecked(digest: str) -> Finding:
    message = f"docker_image_expected_digest is {digest}, and use_docker=True names no image to compare it with"
    return Finding("docker-digest", "warning", message, "Name the image: use_docker='NAME:TAG'.")


def _cannot_run(reason: str, answer: DockerAnswer, image: str | None) -> Finding:
    subject = f" ({image})" if reason == "image_pull_failed" else ""
    error = DockerEnvironmentError(f"{_WHAT[reason]}{subject}: {answer.detail}", reason=reason)
    return of_error(error, advice=_ADVICE.get(reason, f"docker pull {image}"))
