"""Five recordings and a nemesis: keep calling until all are sorted, while everything is killed, stopped and filled."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import nemesis

ACTIONS = (
    "kill -9 the orchestrator",
    "kill -9 the guardian",
    "kill -9 the worker",
    "kill -9 orchestrator and guardian",
    "stop the worker (SIGSTOP)",
    "SIGTERM to the orchestrator",
    "Ctrl-C",
    "fill the disk",
)
FEWEST = 2
"""Strikes without which nothing was tried."""


class Nemesis:
    """Does something bad to a batch that runs.

    Parameters
    ----------
    rng : random.Random
        Chooses.
    disk : Path
        Where the batch writes.
    """

    def __init__(self, rng: random.Random, disk: Path) -> None:
        self._rng = rng
        self._disk = disk
        self.done: Counter[str] = Counter()

    def strike(self, script: subprocess.Popen[str]) -> None:
        """Do one bad thing, unless what it needs is not there just now."""
        action = self._rng.choice(ACTIONS)
        # It may end on its own at any instant: then there was nothing to strike at.
        with suppress(ValueError, IndexError, ProcessLookupError):
            self._do(action, script)
            self.done[action] += 1

    def _do(self, action: str, script: subprocess.Popen[str]) -> None:
        if action == "fill the disk":
            self._fill_disk()
            return
        victims = {
            "kill -9 the guardian": [nemesis.guardian_of],
            "kill -9 the worker": [nemesis.worker_of],
            "kill -9 orchestrator and guardian": [nemesis.guardian_of],
            "stop the worker (SIGSTOP)": [nemesis.worker_of],
        }.get(action, [])
        handles = [find(script) for find in victims]
        for handle in handles:
            handle.send(signal.SIGSTOP if "STOP" in action else signal.SIGKILL)
        if "the orchestrator" in action or "orchestrator and" in action:
            script.send_signal(signal.SIGTERM if "SIGTERM" in action else signal.SIGKILL)
        if action == "Ctrl-C":
            script.send_signal(signal.SIGINT)

    def _fill_disk(self) -> None:
        """Take the last bytes for a while, as a neighbour's program does."""
        filler = self._disk / "filler"
        try:
            with suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(b"x" * 1_000_000)
            time.sleep(self._rng.uniform(0.1, 1.0))
        finally:
            filler.unlink(missing_ok=True)


def main(jobs: list[dict[str, Any]], template: str | None, folder: str, seconds: float, seed: int) -> dict[str, Any]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", folder], check=True)
    if template is not None:
        for job in jobs:
            nemesis.with_load_done(template, job["inter"])
    rng = random.Random(seed)
    bad = Nemesis(rng, Path(folder))
    until = time.monotonic() + seconds
    n_calls = 0
    while True:
        script = nemesis.start_sort(jobs=jobs, parallel=2)
        n_calls += 1
        strike_at = time.monotonic() + rng.uniform(0.2, 1.5)
        while script.poll() is None:
            time.sleep(nemesis.POLL_S)
            if strike_at < time.monotonic() and (time.monotonic() < until or bad.done.total() < FEWEST):
                bad.strike(script)
                strike_at = time.monotonic() + rng.uniform(0.2, 1.5)
        said, complained = script.communicate()
        # On a busy machine a strike takes longer to come.
        if time.monotonic() > until and bad.done.total() >= FEWEST and _all_sorted(said):
            break
        if n_calls > 100 + seconds:
            raise RuntimeError(f"it never finishes: {_failures(said)} {complained[-2000:]}")
    left = _wait_for_the_end()
    folders = [job[place] for job in jobs for place in ("inter", "results")]
    return {
        "n_calls": n_calls,
        "struck": dict(bad.done),
        "content": [nemesis.content(job["results"]) for job in jobs],
        "left": left,
        "leftovers": nemesis.leftovers(*folders),
        "free": all(map(nemesis.is_free, folders)),
    }


def _all_sorted(said: str) -> bool:
    records = json.loads(said.splitlines()[-1])["records"] if said else []
    return bool(records) and all(record["status"] == "success" for record in records)


def _failures(said: str) -> list[Any]:
    records = json.loads(said.splitlines()[-1])["records"] if said else []
    told = ("results_folder", "status", "stage", "error_message", "attempts")
    return [{name: record[name] for name in told} for record in records if record["status"] != "success"]


def _wait_for_the_end() -> dict[int, str]:
    with suppress(TimeoutError):
        nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of everything")
    return nemesis.living()


nemesis.run(main)
