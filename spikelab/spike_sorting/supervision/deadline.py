"""Calls that may hang, such as those to a dead network share or a GPU driver, given up after a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

T = TypeVar("T")


class NoAnswerError(TimeoutError):
    """A call has not returned in time.

    Attributes
    ----------
    late : Future or None
        Done when it returns at last; None when it was not made, because an earlier one hangs.
    """

    late: Future[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args  # what hangs stays in the process where it does


class Deadline:
    """Runs calls that may hang, each in a short-lived daemon thread, and waits only so long for them.

    A call that hangs keeps its thread, for nobody can end it. Until it returns, all further calls fail at once,
    so that one dead device costs one thread and not one a second.

    Parameters
    ----------
    what : str
        What is asked, for the message.
    limit_s : float, default 2.0
        How long a call may take (s).
    """

    def __init__(self, what: str, limit_s: float = 2.0) -> None:
        self._what = what
        self._limit_s = limit_s
        self._one_at_a_time = threading.Lock()
        self._hanging: threading.Thread | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, or raise what it raises.

        Raises
        ------
        NoAnswerError
            It has not returned in time, or an earlier call still has not.
        OSError
            The system gives no thread to run it in.
        """
        if not self._one_at_a_time.acquire(timeout=self._limit_s):
            raise self._no_answer()
        try:
            if self._hanging is not None and self._hanging.is_alive():
                raise self._no_answer()
            return self._wait_for(function)
        finally:
            self._one_at_a_time.release()

    def _wait_for(self, function: Callable[[], T]) -> T:
        answer: Future[T] = Future()
        thread = threading.Thread(target=_run, args=(function, answer), name=f"asking {self._what}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            msg = f"{self._what} cannot be asked: {error}"
            raise OSError(msg) from error
        try:
            return answer.result(self._limit_s)
        except FutureTimeoutError:
            if answer.done():  # the call itself timed out, and said so
                raise
            self._hanging = thread
            raise self._no_answer(answer) from None

    def _no_answer(self, late: Future[Any] | None = None) -> NoAnswerError:
        error = NoAnswerError(f"{self._what} did not answer within {self._limit_s:g} s")
        error.late = late
        return error


def unanswered(questions: Sequence[Callable[[], object]], limit_s: float) -> list[int]:
    """Ask all `questions` at once, and return the indices of those without an answer after `limit_s` seconds.

    Whatever a question raises is an answer.
    """
    asked = [threading.Thread(target=_run, args=(question, Future()), daemon=True) for question in questions]
    for thread in asked:
        thread.start()
    give_up_s = time.monotonic() + limit_s
    for thread in asked:
        thread.join(max(0.0, give_up_s - time.monotonic()))
    return [number for number, thread in enumerate(asked) if thread.is_alive()]


def _run(function: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it, if one does
        answer.set_exception(error)
