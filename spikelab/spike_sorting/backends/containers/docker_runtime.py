"""Docker, through its SDK."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from spikelab.spike_sorting.backends.containers.errors import explained, sdk
from spikelab.spike_sorting.backends.containers.runtime import ContainerSpec, Ended, Image, Removed, removed
from spikelab.spike_sorting.supervision.process import STACKS_BEGIN

_ANSWER_S = 60
"""The daemon may be busy with something large."""
_QUIT_S = 2
"""A program that dumps its stacks does so at once."""
_STACKS = re.compile(r"^(?:Current t|T)hread 0x", re.MULTILINE)
_STACK_LINES = 100
_LINE_BYTES = 10_000
_ENDS_OF_LINES = re.compile(rb"\r*\n|\r+(?=[^\n])")
"""A bar of progress returns to the start of its line; whether a newline follows only what comes next tells."""
_LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}
"""The daemon's own copy of what a container prints; ours is the log of the run."""


def digests_of(image: Any) -> tuple[str, ...]:
    """Return the digests of an image of the SDK: of the registries that it came from, then of its own content."""
    pulled = (digest.rpartition("@")[2] for digest in image.attrs.get("RepoDigests") or ())
    return (*pulled, str(image.id))


class DockerRuntime:
    """Containers of the daemon that DOCKER_HOST names, or of this machine's.

    Parameters
    ----------
    client : docker.DockerClient or None, default None
        What speaks to the daemon; None makes one as the environment says.
    """

    def __init__(self, client: Any = None) -> None:
        with explained():
            self._client = client or sdk().from_env(timeout=_ANSWER_S)

    def image(self, name: str) -> Image:
        """Return the image `name`; raise DockerEnvironmentError (image_pull_failed) when it is not here."""
        with explained():
            found = self._client.images.get(name)
        return Image(name, digests_of(found))

    def start(self, spec: ContainerSpec) -> DockerContainer:
        """Return a container of `spec` that runs."""
        with explained():
            container = self._client.containers.create(spec.image, list(spec.command[1:]), **_options(spec))
        started = DockerContainer(container)
        try:
            with explained():
                # Before it starts: what is asked for later, as `docker logs` does, may lack the last lines.
                started.listen()
                container.start()
                container.reload()
        except BaseException:
            removed(started)
            raise
        return started

    def remove_labelled(self, labels: Mapping[str, str]) -> list[Removed]:
        """End and remove all containers that carry all of `labels`; a program that can says where it was."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with explained():
            found = self._client.containers.list(all=True, filters=wanted, ignore_removed=True)
        ended = []
        for container in found:
            ended.append(Removed(str(container.name), _stacks(container)))
            DockerContainer(container).remove()
        return ended

    def close(self) -> None:
        """Close the connections to the daemon."""
        self._client.close()


class DockerContainer:
    """A container.

    Parameters
    ----------
    container : docker.models.containers.Container
        It, as the SDK has it.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._stream: Any = None

    def listen(self) -> None:
        """Have what it prints from now on kept for `lines`."""
        self._stream = self._container.attach(stream=True, stdout=True, stderr=True)

    @property
    def pid(self) -> int | None:
        """Its first process as the daemon counts; another one's where the daemon is on another machine."""
        return self._container.attrs.get("State", {}).get("Pid") or None

    def lines(self) -> Iterator[str]:
        """Yield what it prints on both of its streams, line by line as it comes."""
        with explained():
            yield from _lines(self._stream)

    def wait(self) -> Ended:
        """Return how it ended."""
        with explained():
            code = int(self._container.wait()["StatusCode"])
            self._container.reload()
        return Ended(code, bool(self._container.attrs["State"].get("OOMKilled")))

    def remove(self) -> None:
        """Kill it if it still runs, and remove it; one that is gone, or that somebody else removes now, is no fault."""
        errors = sdk().errors
        if self._stream is not None:
            # Of a daemon that has gone, the connection has ended already; over SSH the SDK cannot end it.
            with suppress(OSError, errors.DockerException):
                self._stream.close()
            # The SDK ends the connection and keeps its files open.
            self._stream._response.close()
        with explained(), suppress(errors.NotFound):
            try:
                self._container.remove(force=True, v=True)
            except errors.APIError as error:
                if "is already in progress" not in str(error):
                    raise


def _stacks(container: Any) -> str:
    """Return the stacks that `container` prints when it is told to quit; it is removed whatever it does."""
    # Not SIGABRT: the program that stands before all others in a container does not pass that on.
    with suppress(sdk().errors.DockerException, OSError):
        container.kill("SIGQUIT")
        container.wait(timeout=_QUIT_S)
    with suppress(sdk().errors.DockerException, OSError):
        said = container.logs(tail=_STACK_LINES).decode("utf-8", errors="replace")
        if begins := _STACKS.search(said):
            return f"{STACKS_BEGIN}: told to end\n\n{said[begins.start() :]}"
    return ""


def _options(spec: ContainerSpec) -> dict[str, Any]:
    types = sdk().types
    mounts = [
        types.Mount(str(bind.target or bind.source), str(bind.source), type="bind", read_only=not bind.is_writable)
        for bind in spec.binds
    ]
    gpus = [types.DeviceRequest(count=-1, capabilities=[["gpu"]])] if spec.with_gpus else []
    # Without swap: a sort that swaps takes days, and one that is killed is tried again with smaller settings.
    memory = {} if spec.memory_bytes is None else dict.fromkeys(("mem_limit", "memswap_limit"), spec.memory_bytes)
    return {
        # In the place of what the image itself would start, which may take arguments of its own.
        "entrypoint": [spec.command[0]],
        "mounts": mounts,
        "working_dir": str(spec.folder),
        "environment": dict(spec.environment),
        "labels": dict(spec.labels),
        "user": spec.user,
        "group_add": list(spec.groups),
        "device_requests": gpus,
        "network_mode": "none",
        "init": True,
        "security_opt": ["no-new-privileges"],
        "log_config": types.LogConfig(type="json-file", config=_LOG_OPTIONS),
        **memory,
    }


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines in `chunks`, which end anywhere; one that does not end is cut now and then."""
    left = b""
    for chunk in chunks:
        *whole, left = _ENDS_OF_LINES.split(left + chunk)
        yield from (line.decode("utf-8", errors="replace") for line in whole)
        if len(left) > _LINE_BYTES:
            yield left.decode("utf-8", errors="replace")
            left = b""
    if left:
        yield left.decode("utf-8", errors="replace").rstrip("\r")
