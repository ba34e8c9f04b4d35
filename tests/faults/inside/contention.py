"""Several processes fight for one folder, and are killed at random: is there ever more than one inside?"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nemesis

_FIGHTER = """
import os, sys, time
from pathlib import Path
from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.supervision.lock import hold
folder = Path(sys.argv[1])
mine = str(os.getpid())
while True:
    try:
        with hold([folder], f"run of {mine}"):
            (folder / "inside").write_text(mine)
            time.sleep(0.002)
            if (folder / "inside").read_text() != mine:
                (folder / f"violated.{mine}").touch()
            (folder / f"entered.{mine}").open("a").write("x")
    except ConcurrentSortError:
        pass
"""


def main(folder: str, seconds: float, n_fighters: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    fighters = [_fighter(folder) for _ in range(n_fighters)]
    n_kills = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.0, 0.2))
        victim = rng.randrange(n_fighters)
        if fighters[victim].poll() is not None:
            raise RuntimeError(fighters[victim].communicate()[1])
        fighters[victim].kill()
        fighters[victim].communicate()
        n_kills += 1
        fighters[victim] = _fighter(folder)
    for fighter in fighters:
        fighter.kill()
        fighter.communicate()
    place = Path(folder)
    return {
        "n_kills": n_kills,
        "n_entered": sum(path.stat().st_size for path in place.glob("entered.*")),
        "n_violated": len(list(place.glob("violated.*"))),
    }


def _fighter(folder: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _FIGHTER, folder], stderr=subprocess.PIPE, text=True)


nemesis.run(main)
