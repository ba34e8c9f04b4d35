"""What a worker died of, by its exit, its own words and the counters of the kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from spikelab.spike_sorting._exceptions import SorterCrashedError, UnclassifiedSortError
from spikelab.spike_sorting.supervision.monitor import Monitor
from spikelab.spike_sorting.supervision.process import ExitStatus
from spikelab.spike_sorting.watch import Watch


@dataclass
class Counter:
    """A kernel that has killed so often."""

    kills: int | None

    def oom_kills(self) -> int | None:
        """Return how often."""
        return self.kills


def crashed(exit_name: str, log_tail: str | None = None) -> SorterCrashedError:
    return SorterCrashedError("MATLAB ended", sorter="kilosort2", exit_name=exit_name, log_path=None, log_tail=log_tail)


def unknown(traceback: str) -> UnclassifiedSortError:
    return UnclassifiedSortError("an error", stage="waveforms", remote_traceback=traceback)


BROKEN = "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly"
LOADER = "RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed."
TABLE = {
    "the worker itself": (-9, None, True),
    "its pool, by Python": (1, unknown(BROKEN), True),
    "its pool, by torch": (1, unknown(LOADER), True),
    "its sorter": (1, crashed("SIGKILL"), True),
    "a process of its sorter": (1, crashed("exit code 1", "exit codes of the workers are {SIGKILL(-9)}"), True),
    "no word, a crash": (-11, None, False),
    "no word, no results": (0, None, False),
    "an error": (1, unknown("ValueError: negative dimensions"), False),
    "a sorter that crashed": (1, crashed("SIGSEGV", "Segmentation violation"), False),
}


@pytest.mark.parametrize("returncode, said, is_a_kill", TABLE.values(), ids=TABLE)
def test_the_kill_of_another_recording_is_not_ours(returncode: int, said: Exception | None, is_a_kill: bool) -> None:
    """Out of memory takes both: a counter that rose, and an exit or words that tell of a kill."""
    exited = ExitStatus(returncode)
    for before, after, rose in ((3, 4, True), (3, 3, False), (None, 4, False), (3, None, False)):
        watch = Watch(Monitor((), clock=time.monotonic, on_event=lambda _event: None), Counter(after), before)
        assert watch.kernel_killed(exited, said) is (rose and is_a_kill)
