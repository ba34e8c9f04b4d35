"""What every runtime of containers looks like from outside: Docker now, others behind the same few functions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spikelab.spike_sorting._exceptions import DockerEnvironmentError
from spikelab.spike_sorting._settings import FrozenMap

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Image:
    """An image that is on this machine.

    Parameters
    ----------
    name : str
        As it was asked for.
    digests : tuple of str
        "sha256:..." of the registries that it came from, then of its own content: one built here has only that.
    """

    name: str
    digests: tuple[str, ...]

    def to_dict(self) -> dict[str, str]:
        """Return its name and the digest to ask for it by."""
        return {"name": self.name, "digest": self.digests[0]}


@dataclass(frozen=True)
class Bind:
    """A file or folder of this machine that a container sees.

    Parameters
    ----------
    source : Path
        It, on this machine.
    is_writable : bool, default False
        Whether the container may change it.
    target : Path or None, default None
        Where it lies inside; None: where it lies outside.
    """

    source: Path
    is_writable: bool = False
    target: Path | None = None


@dataclass(frozen=True)
class ContainerSpec:
    """What a container is to be.

    Parameters
    ----------
    image : str
        Name of its image.
    command : tuple of str
        Program and arguments.
    binds : tuple of Bind
        What it sees of this machine.
    folder : Path
        Its working directory.
    environment : mapping of str to str
        Its environment variables, beside those of the image.
    labels : mapping of str to str
        What it is found by when whoever started it is gone.
    memory_bytes : int or None
        Beyond this the kernel kills it; None: no limit.
    user : str or None
        "UID:GID" that it runs as; None: that of the image.
    groups : tuple of str
        Further groups of that user.
    with_gpus : bool
        Whether it sees the GPUs.
    """

    image: str
    command: tuple[str, ...]
    binds: tuple[Bind, ...]
    folder: Path
    environment: Mapping[str, str] = FrozenMap()
    labels: Mapping[str, str] = FrozenMap()
    memory_bytes: int | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    with_gpus: bool = False


@dataclass(frozen=True)
class Ended:
    """How a container ended.

    Parameters
    ----------
    exit_code : int
        Of its program; 128 and the number of a signal that killed it.
    ran_out_of_memory : bool
        Whether the kernel killed something in it for lack of memory.
    """

    exit_code: int
    ran_out_of_memory: bool


@dataclass(frozen=True)
class Removed:
    """A container that was ended and removed.

    Parameters
    ----------
    name : str
        Its name.
    stacks : str
        Where its program was, if it could say so when it was told to end; else empty.
    """

    name: str
    stacks: str = ""


class Container(Protocol):
    """A container that was started."""

    @property
    def pid(self) -> int | None:
        """Its first process, as this machine counts, or None where that cannot be told."""

    def lines(self) -> Iterator[str]:
        """Yield what it prints, line by line as it comes, until it ends."""
        ...

    def wait(self) -> Ended:
        """Return how it ended."""
        ...

    def remove(self) -> None:
        """Kill it if it still runs, and leave nothing of it."""


class Runtime(Protocol):
    """Runs containers; every method raises DockerEnvironmentError with its reason when it cannot."""

    def image(self, name: str) -> Image:
        """Return the image `name`, which is on this machine; nothing is fetched."""
        ...

    def start(self, spec: ContainerSpec) -> Container:
        """Return a container that runs."""
        ...

    def remove_labelled(self, labels: Mapping[str, str]) -> Sequence[Removed]:
        """End and remove all containers that carry all of `labels`."""
        ...

    def close(self) -> None:
        """Let go of what it is reached by; containers go on."""


def removed(container: Container) -> bool:
    """Remove `container`; return whether that could be done.

    Told in the log and not raised: it would stand before what the program failed with, or be the end of a sort that
    has succeeded.
    """
    try:
        container.remove()
    except DockerEnvironmentError:
        _log.exception("a container could not be removed")
        return False
    return True
