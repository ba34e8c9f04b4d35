"""Docker, for sorts in a container: client, daemon, image and its digest."""

from __future__ import annotations

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting.backends.containers.errors import advice_for
from spikelab.spike_sorting.backends.containers.images import check_digest, how_to_get
from spikelab.spike_sorting.backends.containers.runtime import Image
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding, of_error
from spikelab.spike_sorting.preflight.gpu_choice import used_gpus
from spikelab.spike_sorting.preflight.machine import DockerAnswer

_WHAT = {
    "client_missing": "the package docker is not installed",
    "daemon_down": "the Docker daemon does not answer",
    "permission_denied": "this user may not use the Docker daemon",
    "image_pull_failed": "the image is not on this machine",
    "other": "Docker cannot run a container",
}


def check_docker(batch: Batch) -> list[Finding]:
    """Find why a sort in a Docker container could not start."""
    configs = [job.config for job in batch.jobs if _is_in_docker(job.config)]
    wanted = {(_image_of(batch, config), config.execution.docker_image_expected_digest): None for config in configs}
    findings = [finding for image, digest in wanted for finding in _findings(batch, image, digest)]
    return list(dict.fromkeys(findings))


def check_docker_gpu(batch: Batch) -> list[Finding]:
    """Find a GPU that containers will probably not get."""
    images = {_image_of(batch, job.config) for job in batch.jobs if _is_in_docker(job.config)}
    if not images or not used_gpus(batch):
        return []
    runtimes = batch.machine.docker(None).runtimes
    if runtimes is None or any("nvidia" in name for name in runtimes):
        return []
    known = ", ".join(runtimes)
    found = f"there is a GPU, and Docker knows only the runtimes {known}: a sort in a container may not start"
    advice = "Install the NVIDIA Container Toolkit, or sort with kilosort_params={'torch_device': 'cpu'}."
    return [Finding("docker-gpu", "warning", found, advice)]


def _is_in_docker(config: SortingPipelineConfig) -> bool:
    return bool(config.sorter.use_docker) and config.sorter.container == "docker"


def _image_of(batch: Batch, config: SortingPipelineConfig) -> str | None:
    asked = config.sorter.use_docker
    return asked if isinstance(asked, str) else batch.machine.default_images.get(config.sorter.sorter_name)


def _findings(batch: Batch, image: str | None, digest: str | None) -> list[Finding]:
    answer = batch.machine.docker(image)
    if answer.reason is not None:
        return [_cannot_run(answer.reason, answer, image)]
    if image is None:
        return []
    try:
        check_digest(Image(image, answer.digests or ()), digest)
    except DockerEnvironmentError as error:
        return [of_error(error)]
    return []


def _cannot_run(reason: str, answer: DockerAnswer, image: str | None) -> Finding:
    subject = f" ({image})" if reason == "image_pull_failed" else ""
    error = DockerEnvironmentError(f"{_WHAT[reason]}{subject}: {answer.detail}", reason=reason)
    is_absent = reason == "image_pull_failed" and image is not None
    return of_error(error, advice=how_to_get(str(image)) if is_absent else advice_for(reason))
