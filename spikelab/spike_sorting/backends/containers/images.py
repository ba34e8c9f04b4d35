"""Which image a sort runs in, and whether it is the one that was meant."""

from __future__ import annotations

from collections.abc import Mapping

from spikelab._version import __version__
from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting._settings import FrozenMap
from spikelab.spike_sorting.backends.containers.runtime import Image, Runtime
from spikelab.spike_sorting.config import SorterConfig, SortingPipelineConfig

DEFAULT_IMAGES = FrozenMap(
    {sorter: f"spikelab/{sorter}:{__version__}" for sorter in ("kilosort2", "kilosort4", "rt_sort")}
)
"""Image of each sorter for ``use_docker=True``. No registry has them: docker/README.md says how to build them."""


def image_of(sorter: SorterConfig) -> str | None:
    """Return the name of the image that `sorter` runs in; None where it runs without a container."""
    if not sorter.use_docker:
        return None
    if isinstance(sorter.use_docker, str):
        return sorter.use_docker
    return str(DEFAULT_IMAGES[sorter.sorter_name])


def version_in_container(sorter: SorterConfig) -> str | None:
    """Return what stands for the version of a sorter whose image is looked at only when it runs; None without one."""
    name = image_of(sorter)
    return None if name is None else f"in {name}"


def container_settings(config: SortingPipelineConfig) -> Mapping[str, str | None]:
    """Return what a sort in a container depends on beside its parameters: a result of another image is another one."""
    if not config.sorter.use_docker:
        return {}
    return {"image": image_of(config.sorter), "digest": config.execution.docker_image_expected_digest}


def checked_image(runtime: Runtime, name: str, expected_digest: str | None) -> Image:
    """Return the image `name`.

    Raises
    ------
    DockerEnvironmentError
        It is not on this machine, or does not have `expected_digest`.
    """
    try:
        image = runtime.image(name)
    except DockerEnvironmentError as error:
        if error.reason != "image_pull_failed":
            raise
        msg = f"the image {name} is not on this machine, and nothing fetches it on its own: {how_to_get(name)}"
        raise DockerEnvironmentError(msg, reason=error.reason) from error
    check_digest(image, expected_digest)
    return image


def how_to_get(name: str) -> str:
    """Return the command that gets the image `name`."""
    sorter = next((sorter for sorter, default in DEFAULT_IMAGES.items() if default == name), None)
    if sorter is None:
        return f"docker pull {name}"
    return f"docker build -t {name} docker/{sorter} (in the repository of spikelab; docker/README.md says more)"


def check_digest(image: Image, expected: str | None) -> None:
    """Raise DockerEnvironmentError when `image` does not have the digest `expected`; None takes any."""
    if expected is None or expected.rpartition("@")[2] in image.digests:
        return
    found = " or ".join(image.digests)
    wanted = f"{image.name.partition('@')[0]}@{expected.rpartition('@')[2]}"
    msg = (
        f"the image {image.name} has the digest {found}; docker_image_expected_digest is {expected}; "
        f"docker pull {wanted}, or correct the expected digest"
    )
    raise DockerEnvironmentError(msg, reason="other")
