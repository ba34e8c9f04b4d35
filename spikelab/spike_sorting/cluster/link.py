"""What goes between the caller and a cluster: jobs there, what came of them back; nothing that waits for ever."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from spikelab.spike_sorting._exceptions import EnvironmentSortFailure, SorterCrashedError, UnclassifiedSortError
from spikelab.spike_sorting.cluster.task import GPU, sort_one
from spikelab.spike_sorting.jobs import Job

_log = logging.getLogger(__name__)

NO_ANSWER = (OSError, asyncio.TimeoutError)
"""How it shows that a scheduler does not answer; from Python 3.11 on, the second is one of the first."""
_FORGOTTEN = (
    "the cluster no longer knows of this recording: its scheduler has ended, or somebody has cancelled it. Call again "
    "once the cluster is there; what is finished stays finished"
)


class Link:
    """The jobs of a batch on a cluster.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    task : callable, default `sort_one`
        What a worker does with a job.
    answer_s : float, default 10
        Time for an answer of the scheduler (s).
    """

    def __init__(
        self, client: Any, task: Callable[..., Mapping[str, Any]] = sort_one, *, answer_s: float = 10.0
    ) -> None:
        self.batch = uuid.uuid4().hex
        self._client, self._task, self._answer_s = client, task, answer_s
        self._futures: dict[int, Any] = {}

    @property
    def address(self) -> str:
        """Address of the scheduler, for people."""
        scheduler = self._client.scheduler
        return "an unknown address" if scheduler is None else str(scheduler.address)

    def workers(self) -> dict[str, Mapping[str, float]] | None:
        """Return the resources of the workers that are there, by address; None where the scheduler does not answer."""
        if self._client.status != "running":
            return None
        with suppress(RuntimeError, *NO_ANSWER):  # the first: the client is closed meanwhile
            said = self._client.sync(self._client.scheduler.identity, callback_timeout=self._answer_s)
            return {address: worker["resources"] for address, worker in said["workers"].items()}
        return None

    @property
    def numbers(self) -> list[int]:
        """The jobs that are there."""
        return list(self._futures)

    def ask_all(self, question: Callable[..., Any], *arguments: Any, limit_s: float) -> dict[str, Any]:
        """Return what each worker answers, or its error, by address; raise one of `NO_ANSWER` where some do not."""
        # What `run` does not know it gives on to `sync`.
        run = self._client.run
        answers: dict[str, Any] = run(question, *arguments, on_error="return", callback_timeout=limit_s)
        return answers

    def hand_out(self, jobs: Mapping[int, Job], on_gpu: Iterable[int]) -> None:
        """Give jobs to the workers, by their numbers; those `on_gpu` take a GPU of a worker each."""
        takes_gpu = set(on_gpu)
        for number, job in jobs.items():
            has_gpu = number in takes_gpu
            self._futures[number] = self._client.submit(
                self._task, job.to_dict(), self.batch, number, has_gpu,
                key=f"spikelab-{self.batch}-{number}-{uuid.uuid4().hex}",  # a job may be handed out again
                pure=False, resources={GPU: 1} if has_gpu else None,
            )  # fmt: skip

    def arrived(self) -> Iterator[tuple[int, Mapping[str, Any] | Exception]]:
        """Yield the number of each job that is over, with what has come of it, or why nothing did.

        The cluster forgets each at once: a worker that is lost later takes its results along, and whatever somebody
        still holds would be sorted again.
        """
        for number in [number for number, future in self._futures.items() if future.done()]:
            try:
                came = _brought(self._futures[number], self._answer_s)
            except NO_ANSWER:  # what is not told now is told at the next look
                return
            self._futures.pop(number).release()
            yield number, came

    def send_away(self, address: str) -> None:
        """End a worker; what it has goes to others."""
        _log.warning("the worker at %s has lost its GPU, and ends", address)
        with suppress(RuntimeError, *NO_ANSWER):
            retire = self._client.scheduler.retire_workers
            self._client.sync(retire, workers=[address], close_workers=True, callback_timeout=self._answer_s)

    def cancel(self, numbers: Iterable[int]) -> None:
        """Have jobs stopped on all machines, as far as the cluster can be told; it knows of them no more."""
        from distributed.client import ClosedClientError

        held = [self._futures.pop(number) for number in numbers if number in self._futures]
        if held:
            # Without a scheduler, the workers stop by themselves.
            with suppress(ClosedClientError, RuntimeError, *NO_ANSWER):
                self._client.cancel(held, force=True)


def _brought(future: Any, limit_s: float) -> Mapping[str, Any] | Exception:
    """Return what a future brings that is done."""
    try:
        brought: Mapping[str, Any] = future.result(timeout=limit_s)
    except CancelledError:
        return EnvironmentSortFailure(_FORGOTTEN)
    except Exception as error:
        if future.status != "error":
            raise
        return _what_happened(error)
    return brought


def _what_happened(error: BaseException) -> Exception:
    """Return what a task that brought no outcome has failed with."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        n_lost = error.allowed_failures + 1
        return SorterCrashedError(
            f"the workers that sorted it were lost, {n_lost} in all, the last at {error.last_worker.address}. Look at "
            "the logs of the workers: a cluster also ends those that take more memory or time than they were given"
        )
    return UnclassifiedSortError(f"{type(error).__name__}: {error}")
