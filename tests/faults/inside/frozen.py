"""Processes of a sort that stand still for longer than any limit and go on, as when the machine sleeps."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import nemesis


def main(job: dict[str, Any], template: str, whom: str, seconds: float) -> dict[str, Any]:
    nemesis.with_load_done(template, job["inter"])
    script = nemesis.start_sort(jobs=[job])
    nemesis.wait_until(lambda: nemesis.is_misbehaving(script, job["inter"]), 30, "misbehaviour")
    victims = [nemesis.Handle(script.pid)]
    if whom == "everything":
        victims += [nemesis.Handle(pid) for pid in nemesis.descendants(script.pid)]
    for victim in victims:
        victim.send(signal.SIGSTOP)
    for victim in victims:
        nemesis.wait_until(lambda pid=victim.pid: nemesis.state_of(pid) == "T", 5, "it to stand still")
    time.sleep(seconds)
    for victim in reversed(victims):
        victim.send(signal.SIGCONT)
    said, complained = script.communicate(timeout=90)
    if not said:
        raise RuntimeError(complained[-2000:])
    return {
        "record": json.loads(said.splitlines()[-1])["records"][0],
        "events": nemesis.events(job["results"]),
        "content": nemesis.content(job["results"]),
        "left": nemesis.living(),
    }


nemesis.run(main)
