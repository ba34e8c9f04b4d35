"""How far each step of Kilosort4 is, and how many spikes it has found: told from inside upstream's loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spikelab.spike_sorting.supervision.progress import Reporter

Seen = Callable[[tuple[Any, ...], Any], None]


class StepProgress:
    """Stands in for the progress bar that upstream's loops report to.

    Parameters
    ----------
    progress : Reporter
        Where to say how far it is.
    """

    def __init__(self, progress: Reporter) -> None:
        self._progress = progress
        self._step = ""
        self._passes: _Passes | None = None
        self.n_spikes: int | None = None

    def start(self, step: str, n_passes: int | None = None) -> None:
        """Begin a step whose loop runs `n_passes` times from 0 to 100 %; None where upstream does not report."""
        self._step = step
        self._passes = None if n_passes is None else _Passes(n_passes)
        self._progress.report(step, None if n_passes is None else 0.0, self.n_spikes)

    def end(self) -> None:
        """Say that the step is done: upstream's loops pass over what is empty, also where that comes last."""
        if self._passes is not None:
            self._progress.report(self._step, 1.0, self.n_spikes)

    def emit(self, percent: int) -> None:
        """Take note that the loop is at `percent`; upstream calls this."""
        if self._passes is None:
            self._passes = _Passes(1)
        self._progress.report(self._step, self._passes.share(percent), self.n_spikes)

    @contextmanager
    def counting_spikes(self, owner: Any, name: str) -> Iterator[None]:
        """Count the spikes that the function `name` of the module `owner` returns, one batch per call, from 0 on."""
        self.n_spikes = 0

        def seen(_: tuple[Any, ...], found: Any) -> None:
            self.n_spikes = (self.n_spikes or 0) + len(found[0])

        with calls_seen(owner, name, seen):
            yield

    @contextmanager
    def counting_batches(self, owner: Any, name: str, every: int) -> Iterator[None]:
        """Tell the share of every `every`-th batch that the method `name` of the class `owner` has read."""
        n_read = 0

        def seen(arguments: tuple[Any, ...], _: Any) -> None:
            nonlocal n_read
            n_read += 1
            self.emit(min(100, int(100 * n_read * every / max(1, arguments[0].n_batches))))

        with calls_seen(owner, name, seen):
            yield


class _Passes:
    """Joins the percentages of several passes into one share that only rises.

    Upstream clusters column after column of the probe, and tells the share of the column alone.
    """

    def __init__(self, n_passes: int) -> None:
        self._n_passes = n_passes
        self._n_done = 0
        self._last = 0

    def share(self, percent: int) -> float:
        """Return the share of all passes (0-1) when the present one is at `percent`."""
        if percent < self._last or percent == self._last == 100:
            self._n_done = min(self._n_done + 1, self._n_passes - 1)
        self._last = percent
        return (self._n_done + percent / 100) / self._n_passes


@contextmanager
def calls_seen(owner: Any, name: str, seen: Seen) -> Iterator[None]:
    """Have `seen` called with the arguments and the result of each call of the function `name` of `owner`.

    Parameters
    ----------
    owner : module or class
        Where the function is looked up when it is called.
    name : str
        Its name.
    seen : callable
        Takes positional arguments and result.
    """
    function = vars(owner)[name]

    def watched(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        seen(arguments, result)
        return result

    setattr(owner, name, watched)
    try:
        yield
    finally:
        setattr(owner, name, function)
