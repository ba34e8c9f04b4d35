"""A sorter's program in a container: started, listened to, and gone when it is over, whatever happens."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikelab.spike_sorting._exceptions import HostOutOfMemoryError
from spikelab.spike_sorting._settings import memory_bytes
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.containers.docker_runtime import DockerRuntime
from spikelab.spike_sorting.backends.containers.errors import no_program
from spikelab.spike_sorting.backends.containers.images import checked_image, image_of
from spikelab.spike_sorting.backends.containers.leftovers import Note, labels_for, labels_of_folder
from spikelab.spike_sorting.backends.containers.runtime import (
    Bind,
    Container,
    ContainerSpec,
    Ended,
    Image,
    Runtime,
    removed,
)
from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.gpu import NvmlGpu
from spikelab.spike_sorting.supervision.memory import free_memory_bytes
from spikelab.spike_sorting.supervision.sweep import RUN_COOKIE

_PASSED_ON = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "MPLBACKEND",
    "TQDM_DISABLE",
    "PYTHONUNBUFFERED",
    "PYTHONFAULTHANDLER",
    RUN_COOKIE,
)
"""Variables of a worker that are for what it runs, too."""
BINDS_VARIABLE = "SPIKELAB_CONTAINER_BIND"
"""Names files and folders that every container sees, unchangeable: an image may count on something of this machine."""
_LEFT_TO_OTHERS = 0.05
"""Share of the free memory that a container does not get: before the machine runs out, it does."""
_TAIL_LINES = 30
_CANNOT_EXECUTE = (126, 127)
"""Exit codes of what starts the program, where it cannot."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contained:
    """What a program in a container came to.

    Parameters
    ----------
    exit_code : int
        Its exit code; 128 and the number of a signal that killed it.
    tail : tuple of str
        The last lines that it printed.
    image : Image
        What it ran in.
    """

    exit_code: int
    tail: tuple[str, ...]
    image: Image


def run_contained(
    job: SortJob,
    command: Sequence[str],
    *,
    reads: Sequence[Bind | Path] = (),
    writes: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], bool] = lambda _line: False,
    runtime: Runtime | None = None,
) -> Contained:
    """Run `command` in the image that the settings of `job` name, and return how it ended.

    It runs as this user, without a network, within the memory that is free (or that ``total_memory`` names), with the
    GPUs where there are some, and in ``job.folder``. That folder and the one for temporary files (``TMPDIR``, and its
    home) are writable. What it prints goes to the log of the run as it comes.

    A container that an earlier attempt in the same run folder left, or its canary, is ended first: two would write the
    same files, and share the memory and the GPU.

    Parameters
    ----------
    job : SortJob
        What is sorted.
    command : sequence of str
        Program and arguments, as they are inside.
    reads : sequence of Bind or Path
        What else it sees, unchangeable; a path lies inside where it lies outside.
    writes : sequence of Path
        Further folders that it writes into. They exist.
    environment : mapping of str to str, optional
        Further variables.
    on_line : callable, optional
        Given each line; one for which it returns True is not for the log.
    runtime : Runtime or None, default None
        What runs it; None for Docker.

    Raises
    ------
    HostOutOfMemoryError
        It was killed at its limit.
    DockerEnvironmentError
        Docker does not run it: ``reason`` says why. Also when the image does not have the digest that is expected.
    """
    runtime = runtime or DockerRuntime()
    try:
        image = _image(job, runtime)
        spec = _spec(job, image, command, _binds(job, reads, writes), environment or {})
        note_path = job.run.container_note
        # Whatever could not end one before, its note is about to be lost.
        for left in job.run.container_notes:
            runtime.remove_labelled(labels_of_folder(left.parent))
            left.unlink(missing_ok=True)
        Note(spec.labels).write(note_path)
        container = runtime.start(spec)
        try:
            Note(spec.labels, container.pid).write(note_path)
            ended, tail = _followed(container, on_line)
        finally:
            # Where it cannot be removed, the note stays: by that it is ended later.
            if removed(container):
                note_path.unlink(missing_ok=True)
        _check_ended(job, spec, ended, tail)
        return Contained(ended.exit_code, tail, image)
    finally:
        runtime.close()


def _image(job: SortJob, runtime: Runtime) -> Image:
    name = image_of(job.config.sorter)
    assert name is not None, "asked for by a backend only where use_docker is set"
    image = checked_image(runtime, name, job.config.execution.docker_image_expected_digest)
    _log.info("in the image %s, %s", image.name, image.digests[0])
    return image


def _spec(
    job: SortJob,
    image: Image,
    command: Sequence[str],
    binds: tuple[Bind, ...],
    environment: Mapping[str, str],
) -> ContainerSpec:
    scratch = job.run.scratch
    run_id = os.environ.get(RUN_COOKIE, "inline")
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The user has no entry in the image's list of users: what asks for a home or a name gets these.
    homes = dict.fromkeys(("HOME", "TMPDIR", "MCR_CACHE_ROOT"), str(scratch))
    return ContainerSpec(
        image=image.name,
        command=tuple(command),
        binds=binds,
        folder=job.folder,
        environment={**inherited, **homes, "USER": "spikelab", "LOGNAME": "spikelab", **environment},
        labels=labels_for(run_id, job.run.inter),
        memory_bytes=memory_limit_bytes(job.config.execution.total_memory, free_memory_bytes()),
        user=f"{os.getuid()}:{os.getgid()}" if host.IS_POSIX else None,
        groups=tuple(str(group) for group in os.getgroups()) if host.IS_POSIX else (),
        with_gpus=_wants_gpu(job.config) and _has_gpus(),
    )


def _binds(job: SortJob, reads: Sequence[Bind | Path], writes: Sequence[Path]) -> tuple[Bind, ...]:
    job.run.scratch.mkdir(parents=True, exist_ok=True)
    everywhere = filter(None, os.environ.get(BINDS_VARIABLE, "").split(os.pathsep))
    seen = [*map(Path, everywhere), *reads]
    return (
        *(bind if isinstance(bind, Bind) else Bind(bind) for bind in seen),
        *(Bind(folder, is_writable=True) for folder in (job.folder, job.run.scratch, *writes)),
    )


def memory_limit_bytes(total_memory: str | int | None, free_bytes: int) -> int:
    """Return what a container may take: what the user allows, and never all that is free."""
    most = int(free_bytes * (1 - _LEFT_TO_OTHERS))
    return most if total_memory is None else min(most, memory_bytes(total_memory))


def _wants_gpu(config: SortingPipelineConfig) -> bool:
    return get_backend(config.sorter.sorter_name).device(config) != "cpu"


def _has_gpus() -> bool:
    driver = NvmlGpu()
    try:
        return driver.count() > 0
    except OSError:
        return False
    finally:
        driver.close()


def _followed(container: Container, on_line: Callable[[str], bool]) -> tuple[Ended, tuple[str, ...]]:
    """Listen to the container until it ends; return how, and the last lines that it printed."""
    tail: list[str] = []
    for line in container.lines():
        if not on_line(line):
            _log.info("%s", line)
            tail = [*tail[-_TAIL_LINES:], line]
    return container.wait(), tuple(tail)


def _check_ended(job: SortJob, spec: ContainerSpec, ended: Ended, tail: Sequence[str]) -> None:
    """Raise when it was killed at its limit of memory, or did not even start."""
    if ended.ran_out_of_memory and ended.exit_code != 0:
        limit = "" if spec.memory_bytes is None else f" of {spec.memory_bytes / 1e9:.3g} GB"
        msg = f"the container ran into its memory limit{limit} (image {spec.image})"
        sorter, log_path = job.config.sorter.sorter_name, str(job.run.log)
        raise HostOutOfMemoryError(msg, sorter=sorter, log_path=log_path, stage="sort")
    if ended.exit_code in _CANNOT_EXECUTE and (error := no_program(tail)) is not None:
        raise error
