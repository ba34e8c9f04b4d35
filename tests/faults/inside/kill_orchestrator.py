"""Kill -9 of a script that sorts, at random instants: is anything left, and when is the folder free?"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import nemesis


def main(
    file: str, template: str, folder: str, n: int, seed: int, behaviours: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    rng = random.Random(seed)
    found: dict[str, Any] = {"left": [], "gone_s": [], "free_s": [], "early": 0, "n_alive": []}
    for trial in range(n):
        run = Path(folder, str(trial))
        inter, results = str(run / "inter"), str(run / "results")
        nemesis.with_load_done(template, inter)
        settings = {**options, "kilosort_params": {"behaviour": behaviours[trial % len(behaviours)]}}
        job = {"file": file, "inter": inter, "results": results, "options": settings}
        script = nemesis.start_sort(jobs=[job])
        if trial % 2:
            time.sleep(rng.uniform(0.0, 2.0))
        else:
            # The worst moment: everything has been started, and ignores SIGTERM.
            n_all = {"leave children": 4, "ignore signals": 2}[behaviours[trial % len(behaviours)]]
            nemesis.wait_until(lambda s=script, i=inter, k=n_all: nemesis.is_misbehaving(s, i, k), 30, "misbehaviour")
            time.sleep(rng.uniform(0.0, 0.1))
        found["n_alive"].append(len(nemesis.living()))
        script.kill()
        script.wait()
        _see_the_end(found, inter, results)
    return found


def _see_the_end(found: dict[str, Any], inter: str, results: str) -> None:
    started = time.monotonic()
    free_s = None
    while rest := nemesis.living():
        if free_s is None and nemesis.is_free(inter) and nemesis.is_free(results):
            free_s = time.monotonic() - started
            found["early"] += bool(nemesis.living())
        if time.monotonic() - started > 5:
            found["left"].append(rest)
            nemesis.kill_the_rest()
            return
    found["gone_s"].append(time.monotonic() - started)
    nemesis.wait_until(lambda: nemesis.is_free(inter) and nemesis.is_free(results), 5, "free folders")
    found["free_s"].append(free_s if free_s is not None else time.monotonic() - started)


nemesis.run(main)
