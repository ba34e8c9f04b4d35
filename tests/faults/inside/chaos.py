"""Kill -9 of a script that sorts, again and again at random instants, until it finishes."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import nemesis


def main(job: dict[str, Any], n: int, seed: int, most_kills: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        _trial({**job, "inter": f"{job['inter']}{k}", "results": f"{job['results']}{k}"}, rng, most_kills)
        for k in range(n)
    ]


def _trial(job: dict[str, Any], rng: random.Random, most_kills: int) -> dict[str, Any]:
    kills = 0
    while True:
        script = nemesis.start_sort(jobs=[job])
        until = time.monotonic() + (rng.uniform(0.2, 6.0) if kills < most_kills else 120.0)
        while script.poll() is None and time.monotonic() < until:
            time.sleep(nemesis.POLL_S)
        if script.poll() is not None:
            break
        script.kill()
        script.communicate()
        kills += 1
    said, complained = script.communicate()
    if not said:
        raise RuntimeError(complained[-2000:])
    nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of everything")
    return {
        "kills": kills,
        "status": json.loads(said.splitlines()[-1])["records"][0]["status"],
        "content": nemesis.content(job["results"]),
        "again": _run_again(job["results"]),
        "leftovers": nemesis.leftovers(job["inter"], job["results"]),
        "free": nemesis.is_free(job["inter"]) and nemesis.is_free(job["results"]),
    }


def _run_again(results: str) -> list[str]:
    """Return the stages that were begun although they were finished."""
    finished: Counter[str] = Counter()
    again = []
    for event in nemesis.events(results):
        if event["event"] == "stage_started" and finished[event["stage"]]:
            again.append(event["stage"])
        finished[event.get("stage", "")] += event["event"] == "stage_finished"
    return again


if __name__ == "__main__":
    nemesis.run(main)
