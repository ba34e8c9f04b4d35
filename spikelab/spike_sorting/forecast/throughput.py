"""Whether a sort falls far behind what was estimated, while it can still be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikelab.spike_sorting.supervision.progress import Progress

COLLAPSED = 3.0
"""Times as long as estimated from which on something is wrong, and not the estimate."""
_LEAST_S = 60.0
"""A stage of less than this is over before anybody looks."""
_LOOK_S = 2.0


@dataclass(frozen=True)
class Lag:
    """A stage whose throughput is below a third of the estimate.

    Parameters
    ----------
    stage : str
        The stage.
    estimated_s : float
        What it was expected to take (s).
    expected_s : float
        What it will take at least, going by its pace so far (s).
    """

    stage: str
    estimated_s: float
    expected_s: float

    @property
    def times(self) -> float:
        """By how much it is slower."""
        return self.expected_s / self.estimated_s


class Throughput:
    """Compares the stages of a worker with what they were estimated to take.

    Parameters
    ----------
    stages_s : mapping of str to float
        The estimate for each stage (s); those that are not in it are not judged.
    """

    def __init__(self, stages_s: Mapping[str, float]) -> None:
        self._stages_s = stages_s
        self._stage = ""
        self._began_s = 0.0
        self._looked_s = float("-inf")
        self.lag: Lag | None = None

    def is_due(self, now_s: float) -> bool:
        """Return whether it is time to look at the progress again."""
        if not self._stages_s or now_s - self._looked_s < _LOOK_S:
            return False
        self._looked_s = now_s
        return True

    def look(self, progress: Progress, now_s: float) -> Lag | None:
        """Return that the stage has fallen behind, once, at the first look that shows it.

        Parameters
        ----------
        progress : Progress
            Where the worker is.
        now_s : float
            Monotonic time (s).
        """
        if progress.stage != self._stage:
            self._stage, self._began_s, self.lag = progress.stage, now_s, None
        estimated_s = self._stages_s.get(progress.stage)
        if estimated_s is None or self.lag is not None:
            return None
        spent_s = now_s - self._began_s
        expected_s = spent_s + (progress.left_s or 0.0)
        if spent_s >= min(_LEAST_S, estimated_s) and expected_s >= max(COLLAPSED * estimated_s, _LEAST_S):
            self.lag = Lag(progress.stage, estimated_s, expected_s)
        return self.lag
