"""A second run whose wall clock is wrong by hours, days or years meets a live holder."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, hold, read_card

_HOLDER = """
import sys
from pathlib import Path
from spikelab.spike_sorting.supervision.lock import hold
with hold([Path(sys.argv[1])], "a run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def main(folder: str, jumps_s: list[float]) -> dict[str, Any]:
    right_time = time.time  # noqa: TID251 - the clock that is set wrong here
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    refused = 0
    for jump_s in jumps_s:
        time.time = lambda jump_s=jump_s: right_time() + jump_s  # noqa: TID251
        time.time_ns = lambda: int(time.time() * 1e9)  # noqa: TID251
        _shift_datetime(jump_s)
        assert abs(host.wall_clock_s() - right_time() - jump_s) < 60, "the clock is not wrong, so nothing is tried"
        try:
            with hold([Path(folder)], "second run"):
                pass
        except ConcurrentSortError:
            refused += not host.is_dead(read_card(Path(folder, LOCK_NAME)))
    lives = holder.poll() is None
    holder.kill()
    return {"refused": refused, "holder_lives": lives}


def _shift_datetime(jump_s: float) -> None:
    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return _REAL.now(tz) + dt.timedelta(seconds=jump_s)

    host.datetime = Shifted  # type: ignore[misc]


_REAL = dt.datetime
nemesis.run(main)
